"""How much of each run a page holds, so that a page of thousands of runs stays a file that opens at once.

A page of up to `MANY` runs shows all there is, longer ones less; the page and docs/report.md say what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .load import RunRecord

MANY, VERY_MANY = 100, 1000  # runs


class Limits(NamedTuple):
    """rows: of a run. scalars: the methods' own numbers of every seed, or of the median one only. pictures: methods of
    a problem that get them, the smallest errors first (None: all). side: values along one side of a picture. band:
    points of a median over seeds."""

    rows: int
    scalars: str
    pictures: int | None
    side: int
    band: int


def limits(runs: int) -> Limits:
    """What a page of so many runs holds of each."""
    if runs <= MANY:
        return Limits(600, "all", None, 400, 200)
    return Limits(80 if runs <= VERY_MANY else 40, "median", 4, 48, 60 if runs <= VERY_MANY else 40)


def thin(run: RunRecord, rows: int) -> RunRecord:
    """The run with about `rows` rows at most.

    Rows are taken in blocks of equal length on a logarithmic axis of steps, as figures have it. Of each block stay
    those with the least and the greatest error and the least and the greatest loss, so the line goes through the same
    band as the whole curve and no spike is lost; further the first and last row, and those at which a stage begins.
    Cost: O(rows of the run).
    """
    count = len(run.rows)
    if count <= rows:
        return run
    stages = np.flatnonzero(np.diff(np.nan_to_num(run.column("stage")))) + 1
    columns = [run.column(key) for key in dict.fromkeys((run.error_key, "loss"))]
    kept: set[int] = set()
    for each in (2, 3, 4):  # the extremes of error and loss are often the same rows: then there is room for more blocks
        kept = {0, count - 1, *stages.tolist()}
        for block in _blocks(run.column("step"), max(1, rows // each)):
            for values in columns:
                kept |= _telling(block, values[block])
        if len(kept) <= rows:
            break
    return replace(run, rows=[run.rows[i] for i in sorted(kept)])


def _blocks(steps: np.ndarray, count: int) -> list[np.ndarray]:
    """Row numbers in at most `count` groups, equally long in log(1 + step)."""
    edges = np.searchsorted(np.log1p(steps), np.linspace(0.0, np.log1p(steps[-1]), count + 1)[1:-1])
    return [block for block in np.split(np.arange(steps.size), np.unique(edges)) if block.size]


def _telling(block: np.ndarray, values: np.ndarray) -> set[int]:
    """Of the rows `block`: those of the least and the greatest value, and the first that is not finite: a gap stays."""
    finite = np.flatnonzero(np.isfinite(values))
    lost = np.flatnonzero(~np.isfinite(values))[:1]
    ends = [finite[np.argmin(values[finite])], finite[np.argmax(values[finite])]] if finite.size else []
    return {int(block[i]) for i in (*ends, *lost)}


def thinned(runs: Sequence[RunRecord], rows: int) -> list[RunRecord]:
    return [thin(run, rows) for run in runs]
