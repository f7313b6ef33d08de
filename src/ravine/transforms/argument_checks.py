"""Range checks of transformations and of the methods that wrap them, one sentence each.

Only Python numbers are checked: the driver turns real options into arrays, whose values are not known while tracing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Check = tuple[Any, Callable[[Any], bool], str]  # the value, what must hold, and the range in words


def require(owner: str, **checks: Check) -> None:
    """Raise ValueError for the first number that is out of its range, TypeError for text."""
    for name, (value, holds, range_) in checks.items():
        if isinstance(value, str):
            raise TypeError(f"{owner}: {name} must be {range_}; got the text {value!r}.")
        if isinstance(value, (int, float)) and not holds(value):
            raise ValueError(f"{owner}: {name} must be {range_}; got {value!r}.")


def rate(value: Any) -> Check:
    return value, lambda v: 0 < v < float("inf"), "positive and finite (or a schedule)"


def decay(value: Any) -> Check:
    return value, lambda v: 0 <= v < 1, "in [0, 1)"


def positive(value: Any) -> Check:
    return value, lambda v: 0 < v < float("inf"), "positive and finite"


def nonnegative(value: Any) -> Check:
    return value, lambda v: 0 <= v < float("inf"), "nonnegative and finite"


def whole(value: Any, least: int) -> Check:
    return (
        value,
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= least,
        f"a whole number, at least {least}",
    )
