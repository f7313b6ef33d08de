"""The spec of the command line: 'lm', 'auto', 'adam:500+lm' (stages joined by '+', ':' gives a step count)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..method import Method
from ..methods.averaged import Averaged
from ..methods.optax_methods import Optax
from ..registry import find
from ..spec import is_auto, stages
from .auto import Auto
from .base import Plan, Single
from .stages import Stages


def parse(spec: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Plan:
    """The plan a spec names; `options` gives constructor arguments by command-line name, e.g. {"lm": {"damping": 1}}.

    Raises ValueError for a malformed count, LookupError (with the nearest name) for an unknown method.
    """
    options = options or {}
    if is_auto(spec):
        return Auto(**options.get("auto", {}))
    if "/" in spec:
        raise ValueError(
            f"method {spec!r}: is of another library, which `ravine solve` and `ravine compare` run, and in Python "
            "ravine.rivals.solve_with."
        )
    parts = []
    for name, steps in stages(spec):
        entry = find("methods", name)
        method = _construct(entry.load(), options.get(entry.name, {}))
        parts.append(method if steps is None else (method, steps))
    if len(parts) == 1 and not isinstance(parts[0], tuple):
        return Single(parts[0])
    return Stages(*parts)


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
