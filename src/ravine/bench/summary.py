"""The aggregates as tables: text for a terminal, status first, and CSV.

Every sheet is a title, a sentence on how to read it, columns and rows; a page can draw the same ones.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..records import dumps
from .claims import Finding
from .curves import TARGETS, target_word, worse_median
from .profiles import (
    error_profile,
    performance_profile,
    profile_score,
    runtime_ecdf,
    shifted_geometric_mean,
    success,
)
from .results import Result, comparable, methods_of, problems_of

SHIFT = {"seconds": 1.0, "total": 1.0, "work": 100.0}  # of the shifted geometric mean, in the unit of the axis
MISS = 2.0  # a miss counts in that mean as this many times the longest run
UNIT = {"seconds": "steady seconds", "total": "seconds with compilation", "work": "residual evaluations"}
_RUN = {  # columns of a run, status first, and where they come from
    "status": "status",
    "problem": "problem",
    "method": "method",
    "seed": "seed",
    "error": "final",
    "seconds": "seconds",
    "compile": "compile_seconds",
    "total": "total",
    "work": "work",
    "steps": "steps",
    "memory": "memory",
    "reason": "reason",
}


class Sheet(NamedTuple):
    """A table. Numbers are plain floats and integers: infinite for a miss or a failure, NaN for what is not known."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def sheets(results: Sequence[Result], targets: Sequence[float] = TARGETS, axis: str = "seconds") -> dict[str, Sheet]:
    """All tables of results, by name, status first: outcomes, runs, summary, errors, times, success.

    outcomes and runs show every result; the others those that are `comparable`, and are left out if there are none.
    Raises ValueError for duplicate runs, unequal budgets and targets or axes that were not recorded.
    """
    kept, notes = comparable(results, axis)
    made = {"outcomes": _outcomes(results, notes), "runs": _runs(results)}
    if kept:
        made["summary"] = _summary(kept, targets, axis)
        made["errors"] = _errors(kept)
        made["times"] = _times(kept, targets, axis)
        made["success"] = _success(kept, targets, axis)
    return made


def _outcomes(results: Sequence[Result], notes: Sequence[str]) -> Sheet:
    counts = {m: Counter(r.status for r in results if r.method == m) for m in methods_of(results)}
    statuses = sorted({r.status for r in results})
    unfinished = [r.label for r in results if not r.finished]
    note = "How the runs ended."
    if unfinished:
        note += f" Not finished, counted as misses and not in claims: {', '.join(unfinished)}."
    rows = [(m, sum(c.values()), *(c[s] for s in statuses)) for m, c in counts.items()]
    return Sheet("Outcomes", " ".join([note, *notes]), ("method", "runs", *statuses), rows)


def _runs(results: Sequence[Result]) -> Sheet:
    rows = [tuple(getattr(r, attribute) for attribute in _RUN.values()) for r in results]
    note = "Error is that of the returned parameters; a failed run has an infinite one. Memory: MiB at the peak."
    return Sheet("Runs", note, tuple(_RUN), rows)


def _groups(results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    return {
        (p, m): [r for r in results if (r.problem, r.method) == (p, m)]
        for p in problems_of(results)
        for m in methods_of(results)
    }


def _errors(results: Sequence[Result]) -> Sheet:
    rows = []
    for (problem, method), runs in _groups(results).items():
        errors = np.array([r.error for r in runs])
        rows.append((problem, method, len(runs), float(worse_median(errors)), errors.min(), errors.max()))
    note = (
        "Final error over seeds; of an even number the median is the worse of the two in the middle. "
        "Below the target at which a run stops, or the error of the reference, errors count as equal to that."
    )
    return Sheet("Final errors", note, ("problem", "method", "runs", "median", "lowest", "highest"), rows)


def _times(results: Sequence[Result], targets: Sequence[float], axis: str) -> Sheet:
    rows = [
        (p, m, *(float(worse_median([r.time(t, axis) for r in runs])) for t in targets))
        for (p, m), runs in _groups(results).items()
    ]
    columns = ("problem", "method", *map(target_word, targets))
    return Sheet("Times to targets", f"Median over seeds in {UNIT[axis]}; a miss is infinite.", columns, rows)


def _success(results: Sequence[Result], targets: Sequence[float], axis: str) -> Sheet:
    found = {t: success(results, t, axis) for t in targets}
    rows = [
        (m, t, s.reached, s.runs, s.reached / s.runs, s.low, s.high)
        for m in methods_of(results)
        for t in targets
        for s in [found[t][m]]
    ]
    columns = ("method", "target", "reached", "runs", "rate", "low", "high")
    return Sheet("Success rates", "With Wilson's 95 % interval.", columns, rows)


def _summary(results: Sequence[Result], targets: Sequence[float], axis: str) -> Sheet:
    readings = [getattr(r, axis) for r in results] + [r.time(t, axis) for r in results for t in targets]
    longest = max((x for x in readings if math.isfinite(x)), default=0.0)
    shift, miss = SHIFT[axis], MISS * longest
    profiles, errors = performance_profile(results, targets, axis), error_profile(results)
    share = runtime_ecdf(results, targets, axis)
    rows: list[tuple[Any, ...]] = []
    for m in methods_of(results):
        times = [r.time(t, axis) for r in results if r.method == m for t in targets]
        mean = shifted_geometric_mean(times, shift, miss) if longest else math.inf
        heights = profile_score(profiles[m]), float(profiles[m](1.0)), float(errors[m](2.0))
        rows.append((m, float(share[m](math.inf)), mean, *heights))
    note = (
        f"reached: share of (problem, seed, target). mean: shifted geometric mean of the times in {UNIT[axis]}, shift "
        f"{shift:g}, a miss counted as {miss:.3g}, {MISS:g} times the longest run. score: mean height of the "
        "performance profile up to 4 times the best; best: share of (problem, target) where it is the fastest. "
        "close: share of problems with a final error within twice the least. Most targets first."
    )
    rows.sort(key=lambda row: (-row[1], row[2]))
    return Sheet("Summary", note, ("method", "reached", "mean", "score", "best", "close"), rows)


def claims(tested: Sequence[Finding], others: Sequence[str] = ()) -> Sheet:
    """What was compared and what may be said, claims first; `others`: sentences on what could not be tested."""
    columns = ("claim", "sentence", "first", "second", "better", "problems", "quantity", "target", "pairs")
    columns += ("first_better", "second_better", "ratio", "p", "p_adjusted", "family")
    rows: list[tuple[Any, ...]] = []
    for f in tested:
        compared = f.claim, f.sentence, *f.methods, f.better, "; ".join(f.problems), f.quantity, f.target, f.pairs
        rows.append((*compared, f.first_better, f.second_better, f.ratio, f.p, f.p_adjusted, f.family))
    rows += [(False, sentence, *[None] * (len(columns) - 2)) for sentence in others]
    return Sheet("Claims", "p is that of one comparison, p_adjusted that after Holm's correction.", columns, rows)


def standing(findings: Sequence[Finding]) -> Sheet | None:
    """The claims counted by method, pooled ones where there are several problems; None if there are none, and where
    there are only claims on one of several problems: counts of different problems are no ranking."""
    pooled = any(len(f.problems) > 1 for f in findings)
    kept = [f for f in findings if (len(f.problems) > 1) == pooled]
    if not any(f.claim for f in kept) or (not pooled and len({f.problems for f in kept}) > 1):
        return None
    quantities = list(dict.fromkeys(f.quantity for f in kept))
    won = Counter((f.better, f.quantity) for f in kept if f.claim)
    lost = Counter((m, f.quantity) for f in kept if f.claim for m in f.methods if m != f.better)
    counts = [(q, count) for q in quantities for count in (won, lost)]
    net = {m: sum(won[m, q] - lost[m, q] for q in quantities) for f in kept for m in f.methods}
    methods = sorted(net, key=lambda m: -net[m])
    rows = [(m, *(count[m, q] for q, count in counts)) for m in methods]
    columns = [f"{q}: {word}" for q in quantities for word in ("better than", "worse than")]
    where = "over all problems together" if pooled else "on this problem"
    note = f"Of how many other methods each was shown to be better, and of how many worse, {where}. Best balance first."
    return Sheet("Claims by method", note, ("method", *columns), rows)


def text(made: Mapping[str, Sheet], said: Sequence[str] = ()) -> str:
    """Sheets and sentences of claims as plain text, status first."""
    parts = [as_text(sheet) for sheet in made.values()]
    if said:
        parts.append("Claims\n" + "\n".join(f"  {sentence}" for sentence in said) + "\n")
    return "\n".join(parts)


def as_text(sheet: Sheet) -> str:
    """Title, note and aligned columns; the last column of words is not padded."""
    cells = [list(sheet.columns), *([_cell(value) for value in row] for row in sheet.rows)]
    right = [all(isinstance(row[i], int | float) for row in sheet.rows) for i in range(len(sheet.columns))]
    width = [max(len(line[i]) for line in cells) for i in range(len(sheet.columns))]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, width, right, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join([sheet.title, sheet.note, "", *lines]) + "\n"


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    if value.is_integer() and abs(value) < 1e9:
        return f"{value:.0f}"
    return f"{value:.3g}" if math.isfinite(value) else "inf"


def as_csv(sheet: Sheet) -> str:
    """Comma-separated, one header line; numbers to full precision, infinite ones as Infinity, unknown ones empty."""
    return _csv(sheet.columns, sheet.rows)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(value) for value in row] for row in rows)
    return file.getvalue()


def _field(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value)) if math.isfinite(value) else "Infinity"
    return dumps(value) if isinstance(value, list | dict) else value
