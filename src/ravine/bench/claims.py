"""What may be said about two methods: comparisons paired by seed, corrected over everything that was compared.

Two kinds of scope are tested: each problem alone, if it has at least 8 paired seeds; and all problems together, as
blocks of one test, if there are at least 8 paired runs. In each scope every pair of methods is compared on the final
error and on the reading at which each target was reached. All those comparisons are one family: Holm's correction, over
the comparisons that Tarone's rule lets in. A sentence that says one method is better comes out of this module only with
an adjusted p at or below the level.

A claim over several problems says that the methods differ on these problems taken together; it does not say that the
same one is better on each of them, nor on problems that were not run.

A pair of runs enters if both are finished, a failed run being finished, and neither stopped at a target on another
quantity. Both must be of the same machine where seconds are compared, and where the budget holds seconds: the faster
machine would take more steps within it, and so reach lower errors and targets that the other has no time for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .curves import target_word
from .results import Result, clocks_of, index, methods_of, problems_of
from .significance import Outcome, decidable, differences, holm, least_p, pairs_needed, sign_flip

MIN_PAIRS = 8
TARGETS = (1e-2, 1e-4, 1e-6)  # few: each one is a comparison more for every pair of methods
_WORDS = {
    "seconds": "reaches error {target} in fewer seconds than",
    "total": "reaches error {target} in fewer seconds, compilation included, than",
    "work": "reaches error {target} with less work than",
}
_QUANTITY = {"seconds": "seconds", "total": "seconds with compilation", "work": "work"}


class Finding(NamedTuple):
    """One comparison and what may be said about it.

    claim      whether `better` has been shown to be better;  sentence: the claim, or "no claim: ..." and why
    first_better, second_better   pairs in which methods[0], methods[1] did better; the rest are ties
    ratio      median over pairs of the cost of methods[1] over that of methods[0]; of an even number of pairs the one
               of the two in the middle that is nearer to 1
    p, p_adjusted, family         NaN, NaN, 0 where the comparison did not enter the correction
    reason     why there is no claim, without the names of what was compared; empty for a claim
    """

    claim: bool
    sentence: str
    methods: tuple[str, str]
    better: str | None
    problems: tuple[str, ...]
    quantity: str
    target: float | None
    pairs: int
    first_better: int
    second_better: int
    ratio: float
    p: float
    p_adjusted: float
    family: int
    reason: str


class _Question(NamedTuple):
    """A comparison before the correction: blocks of (first, second) costs, one block a problem."""

    methods: tuple[str, str]
    problems: tuple[str, ...]
    pooled: bool
    target: float | None
    axis: str
    blocks: list[np.ndarray]  # each (n_b, 2)
    can_differ: int  # pairs with the same number of methods in which not all methods are equal

    @property
    def costs(self) -> np.ndarray:
        return np.concatenate(self.blocks) if self.blocks else np.empty((0, 2))

    @property
    def pairs(self) -> int:
        return len(self.costs)

    @property
    def quantity(self) -> str:
        return "final error" if self.target is None else f"{_QUANTITY[self.axis]} to error {target_word(self.target)}"

    @property
    def where(self) -> str:
        return f"over {len(self.problems)} problems" if self.pooled else f"on {self.problems[0]}"

    @property
    def subject(self) -> str:
        return f"{self.methods[0]} and {self.methods[1]} {self.where}, {self.quantity}"

    @property
    def unit(self) -> str:
        return ("paired run" if self.pooled else "seed") + ("" if self.pairs == 1 else "s")


def compare(
    results: Sequence[Result],
    *,
    targets: Sequence[float] = TARGETS,
    axis: str = "seconds",
    level: float = 0.05,
    against: str | None = None,
) -> list[Finding]:
    """All comparisons of the methods in `results`: claims first, then what may not be claimed and why.

    targets  errors whose times are compared beside the final error; more of them weaken every single claim
    axis     seconds, total or work
    level    bound on the chance that the list holds any false claim, whichever methods differ
    against  compare this method with each other one only, which makes fewer comparisons; every pair if None

    The bound holds for the list of one call: asking again with other targets and keeping the best answer is what the
    correction is there to prevent. Raises ValueError for a method, axis or target that the results lack, for duplicate
    runs and for unequal budgets.
    """
    methods = methods_of(results)
    if axis not in _WORDS:
        raise ValueError(f"axis {axis!r}: must be one of {', '.join(_WORDS)}.")
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: must lie between 0 and 1.")
    if against is not None and against not in methods:
        raise ValueError(f"against={against!r}: there are runs of {', '.join(methods)}.")
    pairs = [p for p in itertools.combinations(methods, 2) if against is None or against in p]
    problems, quantities = problems_of(results), [None, *targets]
    known = _known(results, quantities, axis)
    scopes = [(tuple(problems), True)] if len(problems) > 1 else []
    scopes += [((problem,), False) for problem in problems]
    questions = [
        _question(known, pair, scope, pooled, target, axis)
        for scope, pooled in scopes
        for pair in pairs
        for target in quantities
    ]
    return _answers(questions, level)


class _Known(NamedTuple):
    """Of one problem and quantity: {method: {seed: (cost, run)}} of the runs that may enter, and the seeds at which not
    all methods are equal."""

    runs: dict[str, dict[int, tuple[float, Result]]]
    differing: set[int]


def _known(results: Sequence[Result], quantities, axis: str) -> dict[tuple[str, float | None], _Known]:
    """Looked up once for all pairs of methods: of sixty methods there are thousands."""
    made = {(p, t): _Known({}, set()) for p in problems_of(results) for t in quantities}
    first: dict[tuple[str, float | None, int], float] = {}
    for (problem, method, seed), run in index(results).items():
        for target in quantities:
            if run.finished and not run.stopped:
                cost, known = _cost(run, target, axis), made[problem, target]
                known.runs.setdefault(method, {})[seed] = (cost, run)
                # Unchanged when the members of a pair are swapped, so the choice of comparisons favours neither.
                if first.setdefault((problem, target, seed), cost) != cost:
                    known.differing.add(seed)
    return made


def _question(known, pair, problems, pooled, target, axis) -> _Question:
    blocks, can_differ, compared = [], 0, []
    for problem in problems:
        runs, differing = known[problem, target]
        first, second = (runs.get(method, {}) for method in pair)
        seeds = sorted(first.keys() & second.keys())
        timed = target is not None and axis != "work"
        seeds = [seed for seed in seeds if _fair(first[seed][1], second[seed][1], timed)]
        if seeds:
            blocks.append(np.array([[first[seed][0], second[seed][0]] for seed in seeds]))
            compared.append(problem)
            can_differ += len(differing.intersection(seeds))
    shown = tuple(compared) if pooled else problems
    return _Question(pair, shown, pooled, target, axis, blocks, can_differ)


def _fair(first: Result, second: Result, timed: bool) -> bool:
    """Whether the two can be compared, by seconds if `timed`."""
    if first.clock == second.clock or len(clocks_of((first, second))) < 2:
        return True
    return not (timed or first.timed or second.timed)


def _cost(run: Result, target: float | None, axis: str) -> float:
    return run.error if target is None else run.time(target, axis)


def _answers(questions: list[_Question], level: float) -> list[Finding]:
    """Choose the family, test it, correct it; a finding for every question, claims first."""
    enough = [q for q in questions if q.pairs >= MIN_PAIRS and q.can_differ and not (q.pooled and len(q.blocks) < 2)]
    able = decidable([least_p(q.can_differ) for q in enough], level)
    family = [q for q, enters in zip(enough, able, strict=True) if enters]
    tests = [sign_flip([differences(b[:, 0], b[:, 1]) for b in q.blocks]) for q in family]
    adjusted = holm([test.p for test in tests])
    made = {
        id(q): _tested(q, test, float(p), len(family), level)
        for q, test, p in zip(family, tests, adjusted, strict=True)
    }
    findings = [made.get(id(q)) or _untested(q, len(enough), level) for q in questions]
    return sorted(findings, key=lambda f: not f.claim)


def _counts(q: _Question) -> tuple[int, int, float]:
    first, second = q.costs[:, 0], q.costs[:, 1]
    return int(np.sum(first < second)), int(np.sum(second < first)), _ratio(first, second)


def _ratio(first: np.ndarray, second: np.ndarray) -> float:
    """Median of second / first: of an even number the one nearer to 1 of the two in the middle."""
    if not len(first):
        return math.nan
    logs = np.sort(differences(second, first))
    low, high = logs[(len(logs) - 1) // 2], logs[len(logs) // 2]
    return float(np.exp(low if abs(low) < abs(high) else high))


def _no_claim(q: _Question, reason: str, test: Outcome | None = None, p: float = math.nan, family: int = 0) -> Finding:
    return _finding(q, f"no claim: {q.subject}: {reason}.", None, test, p, family, reason)


def _finding(q: _Question, sentence: str, better: str | None, test, p: float, family: int, reason="") -> Finding:
    first, second, ratio = _counts(q)
    raw = test.p if test else math.nan
    return Finding(
        better is not None,
        sentence,
        q.methods,
        better,
        q.problems,
        q.quantity,
        q.target,
        q.pairs,
        first,
        second,
        ratio,
        raw,
        p,
        family,
        reason,
    )


def _tested(q: _Question, test: Outcome, p: float, family: int, level: float) -> Finding:
    first, second, ratio = _counts(q)
    over = f"p = {p:.2g} after Holm over {family} comparison{'s' if family > 1 else ''}"
    if p > level:
        split = f"{q.methods[0]} did better in {first} and {q.methods[1]} in {second} of {q.pairs} {q.unit}"
        return _no_claim(q, f"{split}, {over}", test, p, family)
    a, b = q.methods if test.statistic < 0 else q.methods[::-1]
    wins, factor = (first, ratio) if a == q.methods[0] else (second, 1 / ratio if ratio else math.inf)
    says = "has a lower final error than" if q.target is None else _WORDS[q.axis].format(target=target_word(q.target))
    median = f"median ratio {factor:.2g}" if math.isfinite(factor) else _why_infinite(q, a, b)
    on = f", {_problems_won(q, a)} of {len(q.blocks)} problems" if q.pooled else ""
    sentence = f"{a} {says} {b} {q.where}: {median}, {wins} of {q.pairs} {q.unit}{on}, {over}."
    return _finding(q, sentence, a, test, p, family)


def _why_infinite(q: _Question, better: str, worse: str) -> str:
    """What it means that the costs of `worse` are infinitely many times those of `better`."""
    costs = dict(zip(q.methods, q.costs.T, strict=True))
    lost, zero = np.isinf(costs[worse]).sum(), (costs[better] == 0).sum()
    if zero > lost:
        return f"{better} mostly has {'error 0' if q.target is None else 'it from the start'}"
    return f"{worse} mostly {'fails' if q.target is None else 'misses it'}"


def _problems_won(q: _Question, method: str) -> int:
    """On how many problems `method` did better in more pairs than the other."""
    mine, other = (0, 1) if method == q.methods[0] else (1, 0)
    return sum(int(np.sum(b[:, mine] < b[:, other]) > np.sum(b[:, other] < b[:, mine])) for b in q.blocks)


def _untested(q: _Question, comparisons: int, level: float) -> Finding:
    """The sentence for a comparison that the data cannot decide whatever its outcome."""
    if q.pooled and len(q.blocks) < 2:
        why = "runs of both methods on at least two problems are needed to pool them"
    elif q.pairs < MIN_PAIRS:
        alone = "" if q.pooled else " for a claim on one problem"
        why = f"not enough runs for a claim: {q.pairs} {q.unit} of both methods, at least {MIN_PAIRS} are needed{alone}"
    elif not q.can_differ:
        nobody = "every run failed" if q.target is None else "no run reached the target"
        why = "all methods are equal in every pair" if np.isfinite(q.costs).any() else nobody
    else:
        why = (
            f"not enough runs for a claim: {q.can_differ} {q.unit} in which methods differ give p = "
            f"{least_p(q.can_differ):.2g} at best, too much for {comparisons} comparisons at {level:g}; "
            f"{pairs_needed(comparisons, level)} such {q.unit} would do"
        )
    return _no_claim(q, why)
