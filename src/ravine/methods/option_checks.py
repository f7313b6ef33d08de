"""Checks of a method's options at construction, one sentence each.

Only Python numbers are checked: the driver turns real options into arrays, whose values are not known while tracing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def require_real(owner: Any, name: str, low: float, high: float | None = None, *, why: str) -> None:
    """Raise ValueError unless low < value < high (no upper bound if None), TypeError unless it is a number."""
    value = getattr(owner, name)
    if hasattr(value, "shape"):  # an array, possibly traced
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{type(owner).__name__}: {name} must be a number; got {value!r}.")
    if not (value > low and (high is None or value < high)):
        bounds = f"greater than {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise ValueError(f"{type(owner).__name__}: {name} must lie {bounds}, because {why}; got {value!r}.")


def require_count(owner: Any, name: str, least: int) -> None:
    """Raise unless the option is an integer of at least `least`."""
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{type(owner).__name__}: {name} must be an integer of at least {least}; got {value!r}.")


def require_choice(owner: Any, name: str, choices: Iterable[str]) -> None:
    """Raise ValueError naming the nearest choice unless the option is one of `choices`."""
    value, choices = getattr(owner, name), list(choices)
    if value in choices:
        return
    close = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(map(repr, choices))}."
    raise ValueError(f"{type(owner).__name__}: {name}={value!r} is unknown; {hint}")
