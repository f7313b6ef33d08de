"""Aggregates over problems: distribution functions, performance and quality profiles, means and success rates.

Misses are infinite and stay in every denominator. Functions of results want them balanced (`results.balanced`), so that
no method gains by a run it lacks.

Sources: E. D. Dolan and J. J. Moré, Math. Program. 91 (2002) 201-213 (performance profiles); N. Hansen et al., Optim.
Methods Softw. 36 (2021) 114-144 (COCO: runtimes to many targets in one distribution function); G. E. Dahl et al.,
arXiv:2306.07179 (AlgoPerf: the integral of a profile as score); G. Fasano, C. Piermarini and M. Roma, arXiv:2607.16798
(quality profiles); E. B. Wilson, JASA 22 (1927) 209-212 (interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from .curves import TARGETS, worse_median
from .results import Result, cases, methods_of, problems_of


class Steps(NamedTuple):
    """A right-continuous step function: 0 before x[0], y[i] from x[i] on."""

    x: np.ndarray  # (k,) increasing
    y: np.ndarray  # (k,) increasing, at most 1

    def __call__(self, where):
        """Values at `where`, a number or an array."""
        return np.append(0.0, self.y)[np.searchsorted(self.x, where, side="right")]


def ecdf(values) -> Steps:
    """The share of `values` at or below x. Infinite ones are never reached and count in the denominator.

    Raises ValueError if there are no values or one is NaN.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    if not values.size or np.isnan(values).any():
        raise ValueError("ecdf: needs at least one value and no NaN; a miss is infinite.")
    x, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    return Steps(x, np.cumsum(counts) / values.size)


def runtime_ecdf(
    results: Sequence[Result], targets: Sequence[float] = TARGETS, axis: str = "seconds"
) -> dict[str, Steps]:
    """By method: the share of (problem, seed, target) triples reached within a reading of `axis`."""
    methods, pairs, found = cases(results)
    return {m: ecdf([found[p, m, s].time(t, axis) for p, s in pairs for t in targets]) for m in methods}


def ratios(costs: np.ndarray) -> np.ndarray:
    """(methods, cases) cost over the least cost of the case: 1 for the best, infinite for a miss.

    Where nobody has a finite cost all ratios are infinite. Where the least cost is 0, its equals have 1, the others
    infinity.
    """
    costs = np.asarray(costs, dtype=np.float64)
    best = costs.min(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(costs == best, 1.0, costs / best)
    return np.where(np.isfinite(costs), found, math.inf)


def performance_profile(
    results: Sequence[Result], targets: Sequence[float] = TARGETS, axis: str = "seconds"
) -> dict[str, Steps]:
    """By method: ρ(τ), the share of (problem, target) cases solved within τ times the least cost of any method.

    The cost of a case is the median over seeds, of an even number the worse of the two in the middle, so that one lucky
    seed decides nothing. With one target there is one case per problem.
    """
    costs = np.concatenate([_by_problem(results, lambda r, t=t: r.time(t, axis)) for t in targets], axis=1)
    return dict(zip(methods_of(results), map(ecdf, ratios(costs)), strict=True))


def error_profile(results: Sequence[Result]) -> dict[str, Steps]:
    """By method: the share of problems whose final error is within a factor τ of the least error of any method.

    A performance profile with the final error as the cost: no target is involved. The error of a problem is the median
    over seeds as there; a failure is infinite.
    """
    return dict(zip(methods_of(results), map(ecdf, ratios(_by_problem(results, lambda r: r.error))), strict=True))


def quality_profile(results: Sequence[Result]) -> dict[str, Steps]:
    """By method: the share of problems whose final error is at most α times the error at the start.

    A quality profile with 0, the error of the solution, as the value to be reached, and with runs of one seed starting
    from the same parameters. Unlike in `error_profile` no method's curve depends on the others. The ratio of a problem
    is the median over seeds; a failure is infinite. Raises ValueError if a run with a final error has no first one.
    """
    return dict(zip(methods_of(results), map(ecdf, _by_problem(results, _remaining)), strict=True))


def _remaining(result: Result) -> float:
    """Final error over starting error."""
    if math.isinf(result.error):
        return math.inf
    if not result.start > 0:
        raise ValueError(f"{result.label}: there is no error at the start to compare the final error with.")
    return result.error / result.start


def _by_problem(results: Sequence[Result], cost: Callable[[Result], float]) -> np.ndarray:
    """(methods, problems) median over seeds of a cost of a run."""
    methods, pairs, found = cases(results)
    seeds = {p: [s for q, s in pairs if q == p] for p in problems_of(results)}
    return np.array([[worse_median([cost(found[p, m, s]) for s in seeds[p]]) for p in seeds] for m in methods])


def profile_score(profile: Steps, limit: float = 4.0) -> float:
    """The mean height of a profile over 1 ≤ τ ≤ limit: 1 for a method that is always the best, 0 for one that is never
    within a factor `limit` of the best.

    Raises ValueError unless limit > 1.
    """
    if not 1 < limit < math.inf:
        raise ValueError(f"limit={limit!r}: must be a finite number above 1.")
    inside = profile.x[(profile.x > 1) & (profile.x < limit)]
    edges = np.concatenate([[1.0], inside, [limit]])
    return float(np.sum(profile(edges[:-1]) * np.diff(edges)) / (limit - 1))


def shifted_geometric_mean(times, shift: float, miss: float) -> float:
    """exp(mean log(t + shift)) − shift over all times, a miss counting as `miss`.

    The shift keeps times far below it from deciding the mean. Raises ValueError if there are no times, if the shift is
    negative, or if `miss` is less than a time: a miss may not beat a success.
    """
    times = np.asarray(times, dtype=np.float64).ravel()
    hit = np.isfinite(times)
    if not times.size or not 0 <= shift < math.inf or np.isnan(times).any():
        raise ValueError(f"shifted_geometric_mean: needs times without NaN and a shift >= 0, not {shift!r}.")
    if not max(times[hit], default=0.0) <= miss < math.inf:
        raise ValueError(f"shifted_geometric_mean: miss={miss!r} must be finite and no less than the longest time.")
    return float(np.exp(np.mean(np.log(np.where(hit, times, miss) + shift))) - shift)


def wilson(successes: int, runs: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a rate: the p with |successes/runs − p| ≤ z sqrt(p (1−p) / runs).

    Raises ValueError unless 0 ≤ successes ≤ runs, runs > 0 and 0 < level < 1.
    """
    if not 0 <= successes <= runs or runs < 1 or not 0 < level < 1:
        raise ValueError(
            f"wilson({successes!r}, {runs!r}, {level!r}): needs 0 <= successes <= runs, runs > 0, 0 < level < 1."
        )
    z2 = float(ndtri((1 + level) / 2)) ** 2
    centre = (successes + z2 / 2) / (runs + z2)
    half = math.sqrt(z2 * (successes * (runs - successes) / runs + z2 / 4)) / (runs + z2)
    # Rounding must not exclude the rates 0 and 1 where they are the bound.
    low = 0.0 if successes == 0 else centre - half
    return low, 1.0 if successes == runs else centre + half


class Success(NamedTuple):
    """`reached` of `runs`, with the bounds of the 95 % interval."""

    reached: int
    runs: int
    low: float
    high: float


def success(
    results: Sequence[Result], target: float, axis: str = "seconds", within: float = math.inf
) -> Mapping[str, Success]:
    """By method: how many of its runs reached `target` within a reading of `axis`."""
    methods, pairs, found = cases(results)
    made = {}
    for m in methods:
        times = [found[p, m, s].time(target, axis) for p, s in pairs]
        reached = sum(math.isfinite(t) and t <= within for t in times)
        made[m] = Success(reached, len(times), *wilson(reached, len(times)))
    return made
