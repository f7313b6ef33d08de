"""Checks of options and arguments at construction, one sentence each, with the nearest valid choice.

`require_real`, `require_count` and `require_choice` look at an option of an object, `require` at arguments of a
function. Of numbers only those of Python and NumPy are checked: the driver turns real options into arrays, whose values
are not known while tracing. Imports no JAX.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Callable, Iterable
from typing import Any

Check = tuple[Any, Callable[[Any], bool], str]  # the value, what must hold, and the range in words


def nearest(name: str, choices: Iterable[Any]) -> str:
    """'did you mean X?', whatever the case of letters, or the list of choices, as the end of a sentence."""
    choices = list(map(str, choices))
    close = difflib.get_close_matches(name.lower(), [c.lower() for c in choices], n=1, cutoff=0.55)
    if close:
        return f"did you mean {next(c for c in choices if c.lower() == close[0])!r}?"
    return f"choose one of {', '.join(choices)}."


def require_real(owner: Any, name: str, low: float, high: float | None = None, *, why: str, ends: str = "()") -> None:
    """Raise ValueError unless the option lies between low and high, TypeError unless it is a number.

    `ends`: "()" without both, "[)" with low, "(]" with high. `high` None: no upper bound.
    """
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        if getattr(value, "shape", None) == ():  # an array, possibly traced
            return
        raise TypeError(f"{type(owner).__name__}: {name} must be a number; got {value!r}.")
    above = value > low or (ends[0] == "[" and value == low)
    below = high is None or value < high or (ends[1] == "]" and value == high)
    if above and below:
        return
    if high is None:
        bounds = f"be {'at least' if ends[0] == '[' else 'greater than'} {low:g}"
    else:
        bounds = f"lie between {low:g} and {high:g}" if ends == "()" else f"lie in {ends[0]}{low:g}, {high:g}{ends[1]}"
    raise ValueError(f"{type(owner).__name__}: {name} must {bounds}, because {why}; got {value!r}.")


def require_count(owner: Any, name: str, least: int) -> None:
    """Raise ValueError unless the option is an integer of at least `least`."""
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{type(owner).__name__}: {name} must be an integer of at least {least}; got {value!r}.")


def require_choice(owner: Any, name: str, choices: Iterable[Any]) -> None:
    """Raise ValueError naming the nearest choice unless the option is one of `choices`."""
    value, choices = getattr(owner, name), list(choices)
    if value not in choices:
        raise ValueError(f"{type(owner).__name__}: {name}={value!r} is unknown; {nearest(str(value), choices)}")


def require(owner: str, **checks: Check) -> None:
    """Raise ValueError for the first number that is out of its range, TypeError for text."""
    for name, (value, holds, range_) in checks.items():
        if isinstance(value, str):
            raise TypeError(f"{owner}: {name} must be {range_}; got the text {value!r}.")
        if isinstance(value, (list, tuple, dict, set)) or getattr(value, "shape", ()) != ():
            raise TypeError(f"{owner}: {name} must be {range_}, one number; got {value!r}.")
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
