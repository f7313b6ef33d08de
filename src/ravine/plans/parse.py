"""The spec of the command line: 'lm', 'auto', 'adam:500+lm' (stages joined by '+', ':' gives a step count)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..method import Method
from ..methods.averaged import Averaged
from ..methods.optax_methods import Optax
from ..registry import find
from .auto import Auto
from .base import Plan, Single
from .stages import Stages


def parse(spec: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Plan:
    """The plan a spec names; `options` gives constructor arguments by command-line name, e.g. {"lm": {"damping": 1}}.

    Raises ValueError for a malformed count, LookupError (with the nearest name) for an unknown method.
    """
    options = options or {}
    if spec.strip().lower() == "auto":
        return Auto(**options.get("auto", {}))
    stages = []
    for part in spec.split("+"):
        name, colon, count = part.strip().partition(":")
        if not name:
            raise ValueError(f"method {spec!r}: a stage has no name; write for example 'adam:500+lm'.")
        if name.strip().lower() == "auto":
            raise ValueError(f"method {spec!r}: 'auto' chooses for a whole run and cannot be a stage.")
        if "/" in name:
            raise ValueError(
                f"method {spec!r}: is of another library, which `ravine solve` and `ravine compare` run, and in Python "
                "ravine.rivals.solve_with."
            )
        entry = find("methods", name)
        method = _construct(entry.load(), options.get(entry.name, {}))
        if not colon:
            stages.append(method)
        elif count.isdigit() and int(count) > 0:
            stages.append((method, int(count)))
        else:
            raise ValueError(f"method {spec!r}: {count!r} is not a number of steps; write for example '{name}:500'.")
    if len(stages) == 1 and not isinstance(stages[0], tuple):
        return Single(stages[0])
    return Stages(*stages)


def _construct(cls: type[Method], given: Mapping[str, Any]) -> Method:
    """The method; `average` is an option of every method, and wraps it."""
    if cls is Averaged or "average" not in given:
        return cls(**given)
    return Averaged(cls(**{name: value for name, value in given.items() if name != "average"}), given["average"])


def as_plan(method: Any) -> Plan:
    """A plan from a plan, a method, a method class, an optax transformation or a spec string.

    Raises TypeError for anything else, LookupError or ValueError (one sentence) for a bad spec.
    """
    if isinstance(method, Plan):
        return method
    if isinstance(method, Method):
        return Single(method)
    if isinstance(method, str):
        return parse(method)
    if isinstance(method, type) and issubclass(method, (Method, Plan)):
        return as_plan(method())
    if hasattr(method, "init") and hasattr(method, "update"):
        return Single(Optax(method))
    raise TypeError(
        f"method={method!r}: give a ravine method (such as LevenbergMarquardt()), a plan (Stages, Auto), an optax "
        "transformation, or a name such as 'lm' or 'adam:500+lm'."
    )
