"""Exact paired tests, and their correction for many comparisons. Nothing here knows what is compared.

Sources: F. Wilcoxon, Biometrics Bull. 1 (1945) 80-83 (signed ranks); R. A. Fisher, The Design of Experiments (1935),
section 21 (sign flips); S. Holm, Scand. J. Statist. 6 (1979) 65-70; R. E. Tarone, Biometrics 46 (1990) 515-522
(comparisons that cannot become significant).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

_RESOLUTION = 20_000  # sum of the integer weights where blocks differ in size


class Outcome(NamedTuple):
    """A two-sided test of paired differences."""

    p: float
    statistic: float  # between −1 and 1: all differences negative, all positive
    pairs: int
    different: int  # pairs that are not ties


def differences(first, second) -> np.ndarray:
    """(n,) log(first / second) of nonnegative costs; 0 where they are equal, both infinite or both 0.

    A miss is infinite, and so further from any success than two successes are from each other: it has the last rank.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(first == second, 0.0, np.log(first) - np.log(second))


def sign_flip(blocks: Sequence[np.ndarray]) -> Outcome:
    """Blocked signed-rank test: under the null hypothesis the two members of each pair may be swapped.

        T = Σ_b 1/(n_b (n_b + 1)) Σ_{i in b} sign(d_bi) rank_b(|d_bi|)
        p = share of the 2^m sign changes whose |T| is at least the one observed

    rank_b: mid-ranks within block b of the differences that are not 0; n_b: pairs of the block, ties included; m: pairs
    that are not ties. Only ranks within a block enter, so a problem with larger errors or longer times weighs no more
    than another. With one block this is Wilcoxon's signed-rank test. The distribution is exact, also with ties and
    infinite differences; where blocks differ in size the weights are rounded to integers of sum 20,000, a statistic
    that differs from T by rounding and whose p is exact for it. The statistic returned is T over its largest value.

    Cost O(m Σ weights) by convolution. Raises ValueError if a difference is NaN.
    """
    blocks = [np.asarray(block, dtype=np.float64) for block in blocks if len(block)]
    if any(np.isnan(block).any() for block in blocks):
        raise ValueError("sign_flip: a difference is NaN; a miss is infinite, and two misses differ by 0.")
    pairs, equal = sum(map(len, blocks)), len({len(block) for block in blocks}) <= 1
    signs, weights = [np.empty(0)], [np.empty(0)]
    for block in blocks:
        moved = block[block != 0]
        signs.append(np.sign(moved))
        # Twice a mid-rank is a whole number; the factor 1/(n (n + 1)) matters only where it differs.
        weights.append(2 * rankdata(np.abs(moved)) / (1 if equal else len(block) * (len(block) + 1)))
    sign, weight = np.concatenate(signs), np.concatenate(weights)
    if not sign.size:
        return Outcome(1.0, 0.0, pairs, 0)
    if not equal:
        weight = np.maximum(1.0, np.round(weight * _RESOLUTION / weight.sum()))
    whole = weight.astype(np.int64)
    observed = int(sign @ whole)
    return Outcome(_tail(whole, abs(observed)), observed / int(whole.sum()), pairs, len(sign))


def _tail(weights: np.ndarray, observed: int) -> float:
    """P(|Σ ±w_i| ≥ observed) for independent fair signs."""
    total = int(weights.sum())
    chance = np.zeros(total + 1)  # of the sum of those weights whose sign is +
    chance[0] = 1.0
    for weight in weights:
        after = 0.5 * chance
        after[weight:] += 0.5 * chance[: total + 1 - weight]
        chance = after
    sums = 2 * np.arange(total + 1) - total
    return min(1.0, float(chance[np.abs(sums) >= observed].sum()))


def least_p(different: int) -> float:
    """The least p a two-sided sign-flip test can give on this many pairs that are not ties: 2^(1 − m)."""
    return min(1.0, 2.0 ** (1 - different))


def pairs_needed(comparisons: int, level: float) -> int:
    """The least number of pairs whose least p is at most level / comparisons."""
    return math.ceil(1 - math.log2(level / max(comparisons, 1)))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values, in the order given: those at most α may be called significant with the chance of any
    false one at most α, however the tests depend on each other."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)) if len(values) else values
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, steps)
    return adjusted


def decidable(least: Sequence[float], level: float) -> np.ndarray:
    """Tarone's choice: (k,) True for the comparisons that enter the correction.

    With K the least whole number such that at most K comparisons can reach level / K at all, those enter. The others
    could not have become significant, so leaving them out costs no error. `least` must not depend on which method of a
    pair did better.
    """
    values = np.asarray(least, dtype=np.float64)
    for k in range(1, len(values) + 1):
        able = values <= level / k
        if able.sum() <= k:
            return able
    return np.zeros(len(values), dtype=bool)
