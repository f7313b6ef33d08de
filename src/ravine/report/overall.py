"""The section about all runs together: distributions, profiles, success rates and claims (`bench.conclusion`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..bench import tuned
from ..bench.conclusion import Conclusion, conclude, sentences
from ..bench.curves import target_word
from ..bench.profiles import Steps, Success, error_profile, performance_profile, quality_profile, runtime_ecdf, success
from ..bench.record import record_of
from ..bench.results import methods_of, problems_of
from ..bench.reuse import lost
from ..bench.summary import UNIT, Sheet, sheets, standing
from . import theme
from .figures import axis, by_method, escaped, layout
from .load import RunRecord

SPAN = 1e14  # of an axis: errors of runs that diverge are as large as numbers get
NOTES = 5  # sentences on what is left out that are shown before the rest are counted
Keep = Callable[[dict[str, Any], str], Any]  # stores a figure under a label for the template


def concluded(runs: Sequence[RunRecord]) -> Conclusion | ValueError | None:
    """What the runs say together, or why they cannot be compared, such as for unequal budgets; None with fewer than
    two runs that have an error."""
    if sum(run.main_metric is not None and math.isfinite(run.rank) for run in runs) < 2:
        return None
    try:
        return conclude(_records(runs))
    except ValueError as error:
        return error


def best_first(runs: Sequence[RunRecord], found: Conclusion | ValueError | None) -> list[RunRecord]:
    """Of more methods than colours, that which reached most targets first, as in the table `summary`."""
    methods = list(by_method(runs))
    if len(methods) <= theme.COLOURED or not isinstance(found, Conclusion) or not found.kept:
        return list(runs)
    rows = sheets(found.kept, found.targets, found.axis)["summary"].rows
    place = {m: i for i, m in enumerate(dict.fromkeys([*(plain(row[0], methods) for row in rows), *methods]))}
    return sorted(runs, key=lambda run: place.get(run.method, len(place)))


def overall(found: Conclusion | ValueError | None, slot: Mapping[str, int], keep: Keep) -> dict[str, Any] | None:
    """What the template needs of what was `concluded`; `slot` gives methods their colours and their order.

    Runs that cannot be compared leave a section with the reason and no figures.
    """
    if found is None:
        return None
    empty: dict[str, Any] = {
        "title": "All runs together",
        "figures": [],
        "notes": [],
        "targets": [],
        "success": [],
        "sheets": {},
    }
    empty |= {"claims": [], "others": [], "counted": "", "axis": "", "ladder": "", "single": False}
    if isinstance(found, ValueError):
        return empty | {"notes": [f"These runs cannot be compared: {found}"]}
    order = sorted(found.kept, key=lambda result: slot.get(plain(result.method, slot), len(slot)))
    found = found._replace(kept=order)
    several = len(problems_of(found.results)) > 1
    said = sentences(found)
    claims = [f.sentence for f in found.findings if f.claim]
    rule = [f"Rule: {found.rule}", *tuned.sentences(found.tuning.rows if found.tuning else [])]
    left_out = [*found.excluded, *found.notes]
    hidden = len(left_out) - NOTES
    kept, every = len(found.kept), len(found.results)
    which = "of problems and seeds that every method has, on one machine"
    few = f"Here are {kept:,} of {every:,} runs, {which}; claims are of all."
    return empty | {
        "counted": few if kept < every else "",
        "title": "Over all problems" if several else "All runs together",
        "notes": [*rule, *left_out[:NOTES], *([f"{hidden} more of this kind are left out."] if hidden > 0 else [])],
        "figures": [(caption, keep(_named(figure, slot), caption)) for caption, figure in _figures(found, slot)],
        "axis": UNIT[found.axis],
        "ladder": " to ".join(dict.fromkeys(target_word(t) for t in (found.targets[0], found.targets[-1]))),
        "targets": [target_word(t) for t in found.asked],
        "success": _success(found),
        "sheets": _sheets(found),
        "claims": claims,
        "others": said[len(claims) :],
        "single": len(methods_of(found.results)) < 2,
    }


def _records(runs: Sequence[RunRecord]) -> list[Mapping[str, Any]]:
    """Also of runs whose folder is gone: it may not improve what is said of their method."""
    found: list[Mapping[str, Any]] = [record_of(run.folder) for run in runs if run.method]
    gone = [run.folder.resolve() for run in runs if not run.method]
    for place in dict.fromkeys(folder.parents[1] for folder in gone if len(folder.parents) > 1):
        kept = lost(place)
        found += [kept[n] for f in gone if (n := f"{f.parent.name}/{f.name}") in kept and f.parents[1] == place]
    return found


def _figures(found: Conclusion, slot: Mapping[str, int]):
    """(caption, figure). With one method there is no best of several to compare with."""
    if not found.kept:
        return
    methods = methods_of(found.kept)
    new = (n for n in range(len(slot), len(slot) + len(methods)))  # of methods told apart by their options
    colours = {m: slot[m] if m in slot else next(new) for m in methods}
    reached = runtime_ecdf(found.kept, found.targets, found.axis)
    yield "targets reached", steps(reached, colours, UNIT[found.axis], "share of runs and targets", None)
    if len(methods) < 2:
        return
    times = performance_profile(found.kept, found.targets, found.axis)
    yield "times, relative to the best", steps(times, colours, "times the least of any method", "share of targets", 1.0)
    errors = error_profile(found.kept)
    yield (
        "final error, relative to the best",
        steps(errors, colours, "times the least of any method", "share of problems", 1.0),
    )
    if all(math.isinf(result.error) or result.start > 0 for result in found.kept):
        left = quality_profile(found.kept)
        yield (
            "final error, relative to the start",
            steps(left, colours, "times the first error", "share of problems", None),
        )


def plain(label: str, known: Iterable[str]) -> str:
    """Of the methods that the page lists, the one that `lm (lm.damping=1)` belongs to.

    A tuned method stands there as `lm (tuned=...)` where it is beside others, by its plain name where all are tuned.
    """
    known, name = list(known), label.partition(" (")[0].partition(" [")[0]
    own = [m for m in known if label == m or label.startswith((f"{m} (", f"{m} ["))]
    return max(own, key=len) if own else next((m for m in known if m.partition(" (")[0] == name), name)


def _named(figure: dict[str, Any], slot: Mapping[str, int]) -> dict[str, Any]:
    """The traces under the names by which the page shows and hides methods."""
    for trace in figure["data"]:
        trace["meta"]["method"] = plain(trace["meta"]["method"], slot)
    return figure


def steps(curves: Mapping[str, Steps], slot: Mapping[str, int], x: str, y: str, left: float | None) -> dict[str, Any]:
    """Step functions on a logarithmic axis, one a method, all drawn to the same right end.

    `left` is where the axis begins; without it a little before the first step. What lies before that (a target reached
    at second 0) is in the height at which a curve begins; what lies beyond `SPAN` times it (a run that diverged) is not
    reached on the axis.
    """
    jumps = np.concatenate([curve.x for curve in curves.values()])
    jumps = jumps[jumps > 0]
    start = left or (jumps.min() / 1.5 if jumps.size else 1.0)
    end = min(1.5 * max(jumps.max(), start), SPAN * start) if jumps.size else 10.0 * start
    traces: list[dict[str, Any]] = []
    for method, curve in curves.items():
        inside = curve.x[(curve.x > start) & (curve.x < end)]
        xs = np.concatenate([[start], inside, [end]])
        traces.append(
            dict(
                type="scatter",
                x=xs,
                y=curve(xs),
                name=escaped(method),
                mode="lines",
                line=dict(width=2.2, dash=theme.dash(slot[method]), shape="hv"),
                hovertemplate=f"<b>{escaped(method)}</b><br>%{{y:.0%}} within %{{x:.3g}}<extra></extra>",
                meta=dict(slot=slot[method], method=method),
            )
        )
    heights = dict(range=[-0.02, 1.04], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    xaxis, yaxis = axis(x, True, [t["x"] for t in traces]), axis(y, False, []) | heights
    return {"data": traces, "layout": layout(340, xaxis, yaxis, showlegend=True)}


def _sheets(found: Conclusion) -> dict[str, Sheet]:
    """The tables of `bench.summary` that no figure and no other table of the page holds: name by name, to be sorted and
    saved like the others."""
    if not found.kept:
        return {}
    made = sheets(found.kept, found.targets, found.axis)
    chosen = {name: made[name] for name in ("summary", "errors", "times")}
    counted = standing(found.findings)
    return {"standing": counted, **chosen} if counted else chosen


def _success(found: Conclusion) -> list[tuple[str, list[tuple[str, str, float]]]]:
    """[(method, [(runs that reached a target, interval, share of the runs)])], a triple for each target."""
    if not found.kept:
        return []
    rates = [success(found.kept, target, found.axis) for target in found.asked]
    return [(m, [_rate(rate[m]) for rate in rates]) for m in methods_of(found.kept)]


def _rate(found: Success) -> tuple[str, str, float]:
    interval = f"{_percent(found.low)}–{_percent(found.high)} %"
    return f"{found.reached} of {found.runs}", interval, found.reached / found.runs


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
