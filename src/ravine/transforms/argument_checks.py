"""Range checks of transformations and of the methods that wrap them, one sentence each.

Only Python numbers are checked: the driver turns real options into arrays, whose values are not known while tracing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
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


def closest(name: str, choices: Iterable[str]) -> str:
    """'did you mean X?' or the choices, as the end of a sentence."""
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.55)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(choices)}."
