"""A result: what one run contributes to statistics; and the rules that make a set of results comparable."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

NAMED = 6  # runs or methods in a sentence before the rest are counted
FINISHED = ("reached_target", "converged", "stalled", "diverged", "budget", "failed")  # nothing is left to run


@dataclasses.dataclass(frozen=True)
class Result:
    """One run.

    problem   with its options and model: only runs of equal `problem` are compared
    method    with its options
    final     error of the returned parameters;  start: error of the initial ones, NaN if unknown
    times     {axis: {target: reading at which it was reached}}, infinite for a miss
    floor     errors at or below it count as equal: the target at which the run would have stopped, or the error of
              the reference
    stopped   ended early at a target on another quantity, so that neither its final error nor a target of the error
              that it missed says anything about the method
    clock     the machine: seconds are compared only between runs of the same one
    budget    runs of one problem must have the same
    timed     the budget holds seconds: what a run reached says something about the machine, whatever it is counted in
    memory    the most that its process held, in MiB

    A run that failed has infinite times and final error, whatever it had reached. So has one that is not finished
    (interrupted, running, missing): it counts as a miss where results are added up and is left out of claims.
    """

    problem: str
    method: str
    seed: int
    status: str
    final: float
    times: Mapping[str, Mapping[float, float]]
    seconds: float = math.nan
    compile_seconds: float = math.nan
    total: float = math.nan
    work: float = math.nan
    steps: float = math.nan
    memory: float = math.nan
    start: float = math.nan
    floor: float = 0.0
    stopped: bool = False
    clock: str = ""
    budget: str = ""
    timed: bool = False
    reason: str = ""

    def __post_init__(self):
        """Raises ValueError for a negative error and for a time that is negative or not a number."""
        lost = self.status == "failed" or not self.finished
        final = math.inf if lost or not math.isfinite(self.final) else float(self.final)
        times = {a: {t: math.inf if lost else float(x) for t, x in of.items()} for a, of in self.times.items()}
        if final < 0 or any(math.isnan(x) or x < 0 for of in times.values() for x in of.values()):
            raise ValueError(f"{self.label}: an error or a time is negative or not a number.")
        object.__setattr__(self, "final", final)
        object.__setattr__(self, "times", times)

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def label(self) -> str:
        return f"{self.problem} {self.method} seed {self.seed}"

    @property
    def error(self) -> float:
        """The final error, not below the floor."""
        return max(self.final, self.floor)

    def time(self, target: float, axis: str = "seconds") -> float:
        """The reading at which `target` was reached. Raises ValueError for a target or axis that was not recorded."""
        if axis not in self.times:
            raise ValueError(f"{self.label}: there is no axis {axis!r}; it has {', '.join(self.times)}.")
        if target not in self.times[axis]:
            known = ", ".join(f"{t:g}" for t in self.times[axis])
            raise ValueError(f"{self.label}: no time to {target:g} was recorded; there are {known}.")
        return self.times[axis][target]


class Balanced(NamedTuple):
    results: list[Result]
    notes: list[str]  # what was left out, a sentence each


def methods_of(results: Sequence[Result]) -> list[str]:
    """In order of appearance."""
    return list(dict.fromkeys(r.method for r in results))


def problems_of(results: Sequence[Result]) -> list[str]:
    """In order of appearance."""
    return list(dict.fromkeys(r.problem for r in results))


def index(results: Sequence[Result]) -> dict[tuple[str, str, int], Result]:
    """By (problem, method, seed). Raises ValueError if two results share one, or budgets of one problem differ."""
    found: dict[tuple[str, str, int], Result] = {}
    budgets: dict[str, Result] = {}
    for result in results:
        key = (result.problem, result.method, result.seed)
        if key in found:
            raise ValueError(f"{result.label}: there are two results of this run; choose one version of ravine.")
        found[key] = result
        first = budgets.setdefault(result.problem, result)
        if result.budget != first.budget:
            raise ValueError(
                f"{result.label} had the budget {result.budget}, {first.label} {first.budget}: "
                "compared runs need the same."
            )
    return found


def balanced(results: Sequence[Result]) -> Balanced:
    """The results of those (problem, seed) for which every method has one, and a sentence on those that were left out
    for lack of the same methods.

    A run that failed or was not finished is a result; only a run nobody has a record of is lacking.
    """
    found, methods = index(results), methods_of(results)
    kept: list[Result] = []
    left_out: dict[tuple[str, ...], list[str]] = {}
    for problem in problems_of(results):
        for seed in sorted({r.seed for r in results if r.problem == problem}):
            lacking = tuple(m for m in methods if (problem, m, seed) not in found)
            if lacking:
                left_out.setdefault(lacking, []).append(f"{problem} seed {seed}")
            else:
                kept += [found[problem, m, seed] for m in methods]
    notes = [f"{_left_out(where)}: there is no run of {_named(lacking)}." for lacking, where in left_out.items()]
    return Balanced(kept, notes)


def clocks_of(results: Sequence[Result]) -> set[str]:
    """The machines whose seconds are compared: a failed run takes infinitely long on any."""
    return {r.clock for r in results if r.finished and r.status != "failed"}


def of_one_machine(results: Sequence[Result]) -> Balanced:
    """The results of those (problem, seed) at which all runs are of one machine, and a sentence on the others."""
    at: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        at.setdefault((result.problem, result.seed), []).append(result)
    mixed = [key for key, runs in at.items() if len(clocks_of(runs)) > 1]
    kept = [r for key, runs in at.items() if key not in mixed for r in runs]
    if not mixed:
        return Balanced(kept, [])
    where = _left_out([f"{problem} seed {seed}" for problem, seed in mixed])
    whose = "its" if len(mixed) == 1 else "their"
    return Balanced(kept, [f"{where} of shares and profiles: {whose} runs are of several machines."])


def comparable(results: Sequence[Result], axis: str) -> Balanced:
    """What is `balanced`, and by seconds only where it is `of_one_machine`; sentences on what was left out."""
    kept, lacking = balanced(results)
    if axis == "work":
        return Balanced(kept, lacking)
    same, mixed = of_one_machine(kept)
    return Balanced(same, [*lacking, *mixed])


def _left_out(where: Sequence[str]) -> str:
    return f"{_named(where)} {'is' if len(where) == 1 else 'are'} left out"


def _named(names: Sequence[str]) -> str:
    """All of a few, the first of many."""
    hidden = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {hidden} more" if hidden > 0 else "")


def cases(results: Sequence[Result]) -> tuple[list[str], list[tuple[str, int]], dict[tuple[str, str, int], Result]]:
    """Methods, (problem, seed) pairs and the index of balanced results.

    Raises ValueError if there are none, or if a method lacks a run that another has: whoever left out a failure would
    gain by it.
    """
    found, methods = index(results), methods_of(results)
    pairs = list(dict.fromkeys((r.problem, r.seed) for r in results))
    if not pairs:
        raise ValueError("results: there are none; give at least one run.")
    for problem, seed in pairs:
        for method in methods:
            if (problem, method, seed) not in found:
                raise ValueError(
                    f"results: {method} has no run on {problem} seed {seed}, which another method has; "
                    "call `balanced` first."
                )
    return methods, pairs, found
