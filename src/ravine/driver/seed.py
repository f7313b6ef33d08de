"""The seed of a run: one range for the command line, tasks and `minimize`."""

from __future__ import annotations

import numbers
from typing import Any

LARGEST = 2**32 - 1  # a float32 run has 32-bit integers: the upper half of a larger seed would be lost there


def check_seed(seed: Any, prefix: str = "seed=") -> int:
    """`seed` as an int. Raises ValueError unless it is a whole number from 0 to 2³² − 1; `prefix` names its place."""
    whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if not whole or not 0 <= seed <= LARGEST:
        shown = seed if isinstance(seed, str) else repr(seed)
        raise ValueError(f"{prefix}{shown}: must be a nonnegative whole number, at most {LARGEST}.")
    return int(seed)
