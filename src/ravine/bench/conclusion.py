"""What a set of runs says together: which can be compared, on which clock, to which targets, and what may be claimed.

A comparison is asked for the final error and for the times to few targets: those of `claims.TARGETS`, or, where the
runs stop at a target of their own, that one and the larger ones of the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..records import write_text
from . import claims, curves, summary, tuned
from .claims import MIN_PAIRS, Finding, compare
from .names import told_apart
from .record import error_target, result_of
from .results import Result, balanced, clocks_of, comparable, methods_of, of_one_machine
from .summary import Sheet

OTHER_MACHINES = (
    "Runs of different machines are in no claim together: their budget holds seconds, in which a faster machine takes "
    "more steps. Shares and profiles add them up as they are."
)
BY_MACHINE = "The runs are of several machines: seconds are compared only between runs of the same one."
SHEETS = ("outcomes", "runs", "summary", "errors", "times", "success", "standing", "claims", "tuning")
LONGEST = 12  # sentences that are listed before the rest are counted


class Conclusion(NamedTuple):
    """All of what is shown of a set of runs.

    results    of the runs that can be compared;  kept: of the (problem, seed) that every method has, on one machine
    excluded   methods and problems that could not be compared at all, a sentence each
    notes      what was left out of `kept` only, a sentence each
    axis       seconds, or work where the runs of one problem and seed are of several machines
    targets    errors of the distributions and profiles;  asked: the few of the claims
    findings   one per comparison, claims first; none for a single method
    rule       how the methods were set up, a sentence;  tuning: what that cost, None by the rule of defaults
    """

    results: list[Result]
    kept: list[Result]
    excluded: list[str]
    notes: list[str]
    axis: str
    targets: tuple[float, ...]
    asked: tuple[float, ...]
    findings: list[Finding]
    rule: str
    tuning: Sheet | None

    @property
    def seeds(self) -> int:
        """The most seeds that a method has on a problem."""
        return max(Counter((r.problem, r.method) for r in self.results).values(), default=0)


def conclude(records: Sequence[Mapping[str, Any]]) -> Conclusion:
    """Compare the runs of `records`.

    Excluded, with a note: runs whose library is not installed, and problems without an error to compare. Options
    are in the name of a problem or method only where they tell two apart. Raises ValueError, one sentence, for runs of
    one problem with unequal budgets, two runs that differ in nothing, a run without a seed, and for work that a library
    did not count where only work could be compared.
    """
    chosen, excluded = _comparable(records)
    chosen = told_apart(chosen)
    results = [result_of(record) for record in chosen]
    limits = {error_target(r.get("target"), r.get("metric")) for r in chosen}
    asked, targets = _down_to(limits, claims.TARGETS), _down_to(limits, curves.TARGETS)
    axis = _axis(results)
    kept, left_out = comparable(results, axis)
    if axis == "seconds" and len(clocks_of(results)) > 1:
        excluded = [*excluded, BY_MACHINE]
    elif axis == "work" and any(r.timed for r in results):
        excluded = [*excluded, OTHER_MACHINES]
    for result in results:
        result.time(targets[0], axis)  # refuses one that was not read
    findings = compare(results, targets=asked, axis=axis) if len(methods_of(results)) > 1 else []
    rule, rows = tuned.rule(records), tuned.rows(chosen)
    sheet = Sheet("Tuning", tuned.NOTE, tuned.COLUMNS, rows) if rows else None
    return Conclusion(results, kept, excluded, left_out, axis, targets, asked, findings, rule, sheet)


def _axis(results: Sequence[Result]) -> str:
    """Seconds where all runs of each problem and seed are of one machine. Otherwise work; and where a library counts
    none, seconds on those problems and seeds that are of one. Raises ValueError if there are none of these either."""
    same, mixed = of_one_machine(balanced(results).results or results)
    uncounted = [r.label for r in results if "work" not in r.times]
    if mixed and not uncounted:
        return "work"
    if mixed and not same:
        raise ValueError(
            f"{uncounted[0]}: its library counts no work, and seconds are compared only where all runs of a problem "
            "and seed are of one machine, which holds for none here."
        )
    return "seconds"


def _comparable(records: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[str]]:
    made, absent = Counter(r["rival"] for r in records), Counter(r["rival"] for r in records if _absent(r))
    # A run that got to its end and has no metric: the problem has no solution to measure errors against.
    blind = dict.fromkeys(r["instance"] for r in records if r["metric"] is None and r["final"])
    notes = [_left_out(name, count, made[name]) for name, count in absent.items()]
    notes += [f"{name} is left out: it has no reference solution, and a loss is not an error." for name in blind]
    return [r for r in records if not _absent(r) and r["instance"] not in blind], notes


def _absent(record: Mapping[str, Any]) -> bool:
    return record["status"] == "not_installed"


def _left_out(name: str, absent: int, of: int) -> str:
    if absent == of:
        return f"{name} is left out: its library is not installed."
    return f"{name}: {absent} of {of} runs are left out, for its library was not installed where they were to be made."


def _down_to(limits: set[float | None], ladder: Sequence[float]) -> tuple[float, ...]:
    """The targets that all runs can reach, where runs stop at `limits`; the limit itself if it is everybody's."""
    stops = [limit for limit in limits if limit is not None]
    if len(limits) == 1 and stops:
        return (*(t for t in ladder if t > stops[0]), stops[0])
    return tuple(t for t in ladder if t >= max(stops, default=0.0))


def as_text(found: Conclusion) -> str:
    """For a terminal: outcomes, final errors, times, success rates, then what may be claimed.

    Of a single seed there is no distribution to show: only the claims, or the sentence that there is none.
    """
    parts = [f"Rule: {found.rule}\n", *(["\n".join(found.excluded) + "\n"] if found.excluded else [])]
    parts += [summary.as_text(found.tuning)] if found.tuning else []
    if found.seeds > 1:
        made = summary.sheets(found.results, found.asked, found.axis)
        parts += [summary.as_text(made[name]) for name in ("outcomes", "errors", "times", "success") if name in made]
    parts += ["\n".join(sentences(found)) + "\n"] if found.findings else []
    return "\n".join(parts)


def sentences(found: Conclusion, longest: int | None = LONGEST) -> list[str]:
    """The claims and non-claims, a sentence each; comparisons that could not be tested for the same reason share one.

    longest: of the tested ones without a claim, how many are listed before the rest are counted; None: all.
    """
    claimed = [f.sentence for f in found.findings if f.claim]
    tested = [f.sentence for f in found.findings if f.family and not f.claim]
    untested = [f for f in found.findings if not f.family]
    if longest is not None and len(tested) > longest:
        more = f"no claim: nor from {len(tested) - longest} more comparisons with p above 0.05 after Holm."
        tested = [*tested[:longest], more]
    if untested and not tested and not claimed and all(f.pairs < MIN_PAIRS for f in untested):
        least, most = min(f.pairs for f in untested), max(f.pairs for f in untested)
        pairs = f"{least}" if least == most else f"{least} to {most}"
        runs = "paired run" if most == 1 else "paired runs"
        return [
            f"no claim: not enough runs: {pairs} {runs} in each of {len(untested)} comparisons of two methods; "
            f"at least {MIN_PAIRS} are needed."
        ]
    reasons = [f.reason for f in untested]
    shared = [
        next(f.sentence for f in untested if f.reason == reason)
        if reasons.count(reason) == 1
        else f"no claim, {reasons.count(reason)} comparisons: {reason}."
        for reason in dict.fromkeys(reasons)
    ]
    return [*claimed, *tested, *shared]


def clear_tables(folder: Path) -> None:
    """Remove what an earlier `write_tables` left in `folder`."""
    for name in (*(f"{sheet}.csv" for sheet in SHEETS), "summary.txt"):
        (folder / name).unlink(missing_ok=True)


def write_tables(folder: Path, found: Conclusion) -> None:
    """`folder` with every sheet as CSV, the claims as CSV, and all of it as text in summary.txt.

    Comparisons that were tested have a line each; the others, of which sixty methods have a hundred thousand, share one
    for each reason.
    """
    clear_tables(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = summary.sheets(found.results, found.targets, found.axis)
    if counted := summary.standing(found.findings):
        made["standing"] = counted
    said = sentences(found, longest=None)
    tested = [f for f in found.findings if f.family]
    sheet = summary.claims(tested, said[len(tested) :])
    for name, table in (made | {"claims": sheet}).items():
        write_text(folder / f"{name}.csv", summary.as_csv(table))
    head = "".join(f"{sentence}\n\n" for sentence in [f"Rule: {found.rule}", *found.excluded])
    if found.tuning:
        write_text(folder / "tuning.csv", summary.as_csv(found.tuning))
        head += summary.as_text(found.tuning) + "\n"
    write_text(folder / "summary.txt", head + summary.text(made, said))
