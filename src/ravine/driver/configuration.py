"""The call of `solve` as plain JSON, and back: what `resume` rebuilds a run from.

    {"class": "models.mlp.MLP", "options": {"width": 24, ...}}      a module of this package, by its fields
    {"function": "problems.burgers1d.initial"}                      a function of this package
    {"frozenset": [...]}, {"dict": {...}}, {"float": "inf"}         what JSON lacks; a list stands for a tuple

Only classes and functions of this package are named, so reading a run folder runs nobody else's code.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
from importlib import import_module
from typing import Any

import equinox as eqx

_PACKAGE = __name__.partition(".")[0]


class NotPlain(ValueError):
    """A part of a run that cannot be written as JSON, as a sentence."""


def describe(value: Any, where: str) -> Any:
    """`value` as JSON. Raises NotPlain naming `where` for arrays and for what is defined outside this package."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Real):
        number = int(value) if isinstance(value, numbers.Integral) else float(value)
        return number if math.isfinite(number) else {"float": str(number)}
    if type(value) is tuple:
        return [describe(v, where) for v in value]
    if isinstance(value, frozenset):
        return {"frozenset": sorted(value)}
    if isinstance(value, dict):
        return {"dict": {k: describe(v, f"{where}[{k!r}]") for k, v in value.items()}}
    if isinstance(value, eqx.Module) and _ours(type(value)):
        options = {name: describe(getattr(value, name), f"{where}.{name}") for name in _fields(type(value))}
        return {"class": _name(type(value)), "options": options}
    if inspect.isfunction(value) and _ours(value) and "<" not in value.__qualname__:
        return {"function": _name(value)}
    raise NotPlain(f"{where} is {type(value).__module__}.{type(value).__qualname__}, which run.json cannot hold")


def build(spec: Any) -> Any:
    """The inverse of `describe`. Raises ValueError for a name that is not in this package."""
    if isinstance(spec, list):
        return tuple(build(item) for item in spec)
    if not isinstance(spec, dict):
        return spec
    (kind, content), *rest = spec.items()
    if kind == "float":
        return float(content)
    if kind == "frozenset":
        return frozenset(content)
    if kind == "dict":
        return {k: build(v) for k, v in content.items()}
    if kind == "function":
        return _find(content)
    if kind != "class" or [k for k, _ in rest] != ["options"]:
        raise ValueError(f"configuration: {spec!r} is not a part of a run.")
    return _module(content, {k: build(v) for k, v in spec["options"].items()})


def _module(name: str, options: dict[str, Any]) -> Any:
    cls = _find(name)
    if not (isinstance(cls, type) and issubclass(cls, eqx.Module)):
        raise ValueError(f"configuration: {name!r} is not a part of a run.")
    known = _fields(cls)
    if sorted(known) != sorted(options):
        raise ValueError(
            f"configuration: {name} has the fields {known} here and {sorted(options)} in run.json; the run belongs to "
            "another version of ravine."
        )
    # By fields, as a pytree is unflattened: constructors take other arguments than they store.
    made = object.__new__(cls)
    for field, value in options.items():
        object.__setattr__(made, field, value)
    return made


def _fields(cls: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.init]


def _ours(thing: Any) -> bool:
    return thing.__module__.startswith(_PACKAGE + ".")


def _name(thing: Any) -> str:
    return f"{thing.__module__.removeprefix(_PACKAGE + '.')}.{thing.__qualname__}"


def _find(name: str) -> Any:
    module, _, leaf = name.rpartition(".")
    try:
        found = getattr(import_module(f"{_PACKAGE}.{module}"), leaf)
    except (ImportError, AttributeError):
        found = None
    if found is None or not _ours(found) or _name(found) != name:
        raise ValueError(f"configuration: there is no {name!r} in this version of ravine.")
    return found
