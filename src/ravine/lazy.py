"""Public names that are imported on first use (PEP 562), from a table of name to module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from .checks import nearest


def exports(package: str, table: Mapping[str, str], kind: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose name X stands in its module table[X].

    A name that is in neither raises AttributeError, which calls it a `kind` and names the nearest one.
    """

    def load(name: str) -> Any:
        if name in table:
            return getattr(import_module(f"{package}.{table[name]}"), name)
        raise AttributeError(f"module {package!r} has no {kind} {name!r}; {nearest(name, table)}")

    return load, lambda: sorted(table)
