"""What the page says of one problem: its figures, for the page's script, and the sentences around them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from . import figures, wording
from .bands import bands
from .load import RunRecord, median_run
from .packed import Store
from .pictures import pictures
from .thin import Limits, thinned

NEAR = 1e3
LABELS = 6  # runs that a note names before the rest are counted


def section(index: int, name: str, runs: Sequence[RunRecord], slot: dict[str, int], limit: Limits) -> dict[str, Any]:
    """What the template needs of problem number `index`; `block` holds its figures, packed."""
    store = Store(f"p{index}")
    own_rows = [run for run in runs if run.rows]
    drawn = thinned(own_rows, limit.rows)
    groups = figures.by_method(drawn)
    chosen = [median_run(own) for own in groups.values()]
    metrics = list(dict.fromkeys(run.main_metric for run in drawn))
    metric = metrics[0] if metrics else None
    words = wording.metric_words(metric)
    # Where error figures stand above, all losses get a figure of their own, and a loss of one term says no more.
    losses = figures.history(drawn, "loss", "loss", slot) if metric and len(drawn) > 1 else None
    detailed = [run for run in chosen if losses is None or len(run.keys("terms.")) > 1]
    return {
        "index": index,
        "name": name,
        "runs": runs,
        "drawn": drawn,
        "seeds": len({run.seed for run in drawn}),
        "metric": metric,
        "best": min(drawn, key=lambda run: run.rank) if any(math.isfinite(run.rank) for run in drawn) else None,
        "error": store.keep(_error_figure(drawn, metric, slot), words),
        "loss": [
            (run, store.keep(figures.terms(run, _log_terms(run)), f"loss and terms of {run.label}")) for run in detailed
        ],
        "losses": store.keep(losses, "loss"),
        "linear": [run.label for run in detailed if not _log_terms(run)],
        "pictures": [
            (run, [(c, store.keep(f, f"{c}, {run.label}")) for c, f in shown]) for run, shown in _fields(drawn, limit)
        ],
        "scalars": [
            (method, store.keep(figures.scalars(shown, slot[method]), f"scalars of {method}"))
            for method, own in groups.items()
            for shown in [own if limit.scalars == "all" else [median_run(own)]]
        ],
        "bands": store.keep(_bands(runs, metric, slot, limit), f"{words}, median and range"),
        "finals": list(dict.fromkeys(k for run in runs for k in run.finals)),
        "notes": notes(runs),
        "thinned": sum(
            len(few.rows) < len(run.rows) for few, run in zip(drawn, (r for r in runs if r.rows), strict=True)
        ),
        "axes": list(dict.fromkeys(x for run in drawn for x in figures.readings(run))),
        "block": store.text(),
    }


def _log_terms(run: RunRecord) -> bool:
    return figures.positive([run], ["loss", *run.keys("terms.")])


def _error_figure(drawn: Sequence[RunRecord], metric: str | None, slot: dict[str, int]) -> dict[str, Any] | None:
    """Error against a reading; the loss takes the place of the error where there is no metric."""
    if not drawn:
        return None
    key = f"metrics.{metric}" if metric else "loss"
    figure = figures.history(drawn, key, wording.metric_words(metric), slot)
    if metric:
        figures.add_level(figure, _reference_error(drawn, metric), "error of the reference")
    targets = {json.dumps(run.meta.get("target")) for run in drawn}
    target = (drawn[0].meta.get("target") or {}) if len(targets) == 1 else {}
    level = target.get(metric or "loss", target.get(key))
    figures.add_level(figure, float(level) if isinstance(level, int | float) else None, "target")
    return figure


def _bands(runs: Sequence[RunRecord], metric: str | None, slot: dict[str, int], limit: Limits) -> dict[str, Any] | None:
    """Of the error only: a loss has neither a common scale nor, as an energy, a sign."""
    return bands(runs, f"metrics.{metric}", wording.metric_words(metric), slot, limit.band) if metric else None


def _reference_error(drawn: Sequence[RunRecord], metric: str) -> float | None:
    """The first known error of the reference in this metric; a problem states one number, or one for each metric.

    None where all runs end more than `NEAR` times above it: the axis would stretch to a line that says nothing there.
    """
    for run in drawn:
        stated = run.meta.get("reference_error")
        value = stated.get(metric) if isinstance(stated, dict) else run.value("reference_error")
        if isinstance(value, int | float) and value:
            return float(value) if min(run.rank for run in drawn) <= NEAR * value else None
    return None


def _fields(drawn: Sequence[RunRecord], limit: Limits):
    """(run, its pictures) of the median run of each method, among the runs that stored fields."""
    chosen = [median_run(own) for own in figures.by_method([run for run in drawn if run.fields is not None]).values()]
    best = sorted(chosen, key=lambda run: run.rank)[: limit.pictures]
    for run in chosen:
        if run in best and run.fields is not None:
            yield run, pictures(run.fields, limit.side)


def notes(runs: Sequence[RunRecord]) -> list[str]:
    """What a reader could not see from the figures: damaged files, values that are not finite, missing row counts."""
    said: dict[str, list[str]] = {}
    for run in runs:
        if run.status == "not_installed":  # the table of runs says so, and that no file is there says no more
            continue
        own = [*run.notes, *([gaps] if (gaps := non_finite(run)) else [])]
        if run.rows and run.total_work is None:
            own.append(f"{run.why_no_work}, so work is not known.")
        for note in own:
            said.setdefault(note, []).append(run.label)
    return [f"{_first(labels)}: {note}" for note, labels in said.items()]


def _first(labels: Sequence[str]) -> str:
    more = len(labels) - LABELS
    return wording.listing(labels) if more <= 0 else f"{', '.join(labels[:LABELS])} and {more} more"


def non_finite(run: RunRecord) -> str | None:
    """A sentence about NaN and infinite values of a run; None if all are finite or not computed."""
    bad = [(row["step"], key) for row in run.rows for key, v in row.items() if v in ("NaN", "Infinity", "-Infinity")]
    if not bad:
        return None
    step, key = bad[0]
    rows = wording.counted(len({s for s, _ in bad}), "row")
    return f"{rows} with values that are not finite, first {key} at step {step:,}; they are gaps in the figures."
