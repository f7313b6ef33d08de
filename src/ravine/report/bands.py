"""Median and range over the seeds of each method, against each reading: the work-precision curves of a problem.

The curves are those of `bench.curves`: the error at the last evaluation at or before a reading. A run that failed or is
not finished is infinite everywhere, as in every aggregate, so it is not left out of a median.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..bench.curves import NOTHING, Band, Curve, band, common_grid
from . import theme
from .figures import AXES, axis, escaped, layout, readings
from .load import RunRecord


def bands(runs: Sequence[RunRecord], key: str, name: str, slot: dict[str, int], size: int) -> dict[str, Any] | None:
    """The figure of the column `key` of the runs of one problem, `size` points a curve.

    None where no method has two runs, or no run has rows. A method is drawn to the end of its longest run, and not
    against a reading that one of its runs does not have. Cost: O(rows of all runs).
    """
    own = {m: [run for run in runs if run.method == m] for m in slot}
    own = {m: found for m, found in own.items() if any(run.rows for run in found)}
    if not any(len(found) > 1 for found in own.values()):
        return None
    drawn = {m: _against_each(found, key) for m, found in own.items()}
    found: dict[str, dict[str, Band]] = {m: {} for m in drawn}
    grids = {}
    for x in AXES:
        having = {m: curves[x] for m, curves in drawn.items() if x in curves}
        every = [c for curves in having.values() for c in curves]
        if any((c.seconds > 0).any() for c in every):
            grids[x] = common_grid(every, size=size)
            for m, curves in having.items():
                found[m][x] = _shown(band(curves, grids[x]), curves)
    if not grids:
        return None
    return _figure(found, grids, name, slot)


def _against_each(runs: Sequence[RunRecord], key: str) -> dict[str, list[Curve]]:
    """{reading: a curve a run}, all clocks of a curve being that reading, for `band` knows no steps."""
    counted = [run.counts and bool(run.rows) for run in runs]
    made: dict[str, list[Curve]] = {}
    clocks = [readings(run) if take else {} for run, take in zip(runs, counted, strict=True)]
    for x in AXES:
        if any(take and x not in clock for take, clock in zip(counted, clocks, strict=True)):
            continue
        made[x] = [
            _curve(run, key, clock[x]) if take else NOTHING
            for run, take, clock in zip(runs, counted, clocks, strict=True)
        ]
    return made


def _curve(run: RunRecord, key: str, clock: np.ndarray) -> Curve:
    """A row without a value was not evaluated, unless the value was written and is not finite: then it is infinite."""
    evaluated = np.array([row.get(key) is not None for row in run.rows]) & np.isfinite(clock)
    errors = run.column(key)[evaluated]
    errors = np.where(np.isfinite(errors), errors, np.inf)
    clock = clock[evaluated]
    return Curve(errors, clock, clock, clock, float(errors[-1]) if errors.size else np.inf)


def _shown(found: Band, curves: Sequence[Curve]) -> Band:
    """Nothing after the end of the longest run."""
    end = max((c.seconds[-1] for c in curves if c.seconds.size), default=-np.inf)
    after = found.grid > end * (1 + 1e-12)  # the last value of a geometric grid is rounded
    return Band(found.grid, *(np.where(after, np.nan, part) for part in found[1:]))


def _figure(found: dict[str, dict[str, Band]], grids: dict[str, np.ndarray], name: str, slot: dict[str, int]):
    """A filled band and the median on it, for each method. A range without an upper end goes to the top."""
    parts = [part for of in found.values() for b in of.values() for part in b[1:]]
    seen = [values[np.isfinite(values) & (values > 0)] for values in parts]
    top = max((values.max() for values in seen if values.size), default=1.0)
    first = next(iter(grids))
    areas, medians = [], []
    for m, of in found.items():
        shared = dict(type="scatter", mode="lines", legendgroup=m)
        meta = dict(slot=slot[m], method=m, x={x: grids[x] for x in of})
        # An empty x and y: the page goes up one side of the range and down the other.
        ranges = {x: [_positive(b.low), _positive(np.where(b.high == np.inf, top, b.high))] for x, b in of.items()}
        fill = dict(fill="toself", line=dict(width=0), opacity=0.35, showlegend=False, hoverinfo="skip")
        areas.append(shared | fill | dict(x=[], y=[], meta=meta | dict(range=ranges)))
        lines = {x: _positive(b.median) for x, b in of.items()}
        hover = f"<b>{escaped(m)}</b><br>median %{{y:.3g}} at %{{x:.3g}}<extra></extra>"
        line = dict(name=escaped(m), line=dict(width=2.2, dash=theme.dash(slot[m])), hovertemplate=hover)
        data = dict(x=grids[first], y=lines.get(first, []), meta=meta | dict(y=lines))
        medians.append(shared | line | data)
    xaxes = {x: axis(AXES[x], True, [grid]) for x, grid in grids.items()}
    shape = layout(400, xaxes[first], axis(name, True, seen), showlegend=len(slot) > 1, meta=dict(x=xaxes))
    return {"data": [*areas, *medians], "layout": shape}


def _positive(values: np.ndarray) -> np.ndarray:
    """What a logarithmic axis cannot show is a gap."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)
