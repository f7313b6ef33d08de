"""Error curves of runs: when a target is reached, what the error was at a time, and bands over seeds.

A curve is the evaluations of one run in order, each with the error of the parameters at that moment and three readings
of what it took to get there:

    seconds   steady seconds: compilation, metrics, callbacks and checkpoints stop this clock
    total     seconds + the seconds of compilation before the first step
    work      evaluations of all residual rows (`records.WORK`)

No reading holds the time spent on evaluating the error, so a slow metric changes nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..records import WORK, evaluations

AXES = ("seconds", "total", "work")
TARGETS = tuple(float(f"1e-{k}") for k in range(1, 11))  # relative L2 errors
HOLD = 2  # evaluations after the first at which the error must still be at or below the target


def target_word(target: float) -> str:
    """1e-04, 2.5e-04: a target as it is written everywhere."""
    digits, power = f"{target:.6e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{power}"


def main_metric(meta: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The metric of a run.json that ranks runs; None where there is none. A run that was cut off has not written which
    one it is: then it is the first column."""
    if "main_metric" in meta:
        return meta["main_metric"]
    columns = (key for row in rows[:1] for key in row if key.startswith("metrics."))
    return next((column.removeprefix("metrics.") for column in columns), None)


class Curve(NamedTuple):
    """One run. A run that failed has no evaluations and an infinite final error."""

    errors: np.ndarray  # (n,) infinite where the error was not a finite number
    seconds: np.ndarray  # (n,)
    total: np.ndarray  # (n,)
    work: np.ndarray  # (n,) NaN where a library does not say what it evaluates
    final: float  # error of the returned parameters

    @property
    def start(self) -> float:
        """Error at the first evaluation; NaN if there is none."""
        return float(self.errors[0]) if self.errors.size else math.nan

    def axis(self, name: str) -> np.ndarray:
        """The readings called `name`. Raises ValueError for a name that is not in AXES."""
        if name not in AXES:
            raise ValueError(f"axis {name!r}: must be one of {', '.join(AXES)}.")
        return getattr(self, name)


NOTHING = Curve(np.empty(0), np.empty(0), np.empty(0), np.empty(0), math.inf)  # of a run that failed


def curve(rows: Sequence[Mapping[str, Any]], metric: str, compile_seconds: float, residual_rows: float | None) -> Curve:
    """The curve of the rows of a run, for the column `metrics.<metric>`.

    A row whose error is null was not evaluated and is left out. The final error is that of the closing row, which holds
    the returned parameters: never the best seen, and infinite where there is no closing row or no finite error in it.
    Raises ValueError if a clock runs backwards or if work cannot be counted.
    """
    column = f"metrics.{metric}"
    known = [row for row in rows if row.get(column) is not None]
    closing = next((row for row in reversed(rows) if row.get("status") == "closing"), {})
    seconds = np.array([float(row["seconds"]) for row in known])
    steady = np.all(np.diff(seconds) >= 0) and np.all(np.isfinite(seconds))
    if not steady:
        raise ValueError("rows: the steady seconds run backwards, so no time can be read from them.")
    return Curve(
        np.array([_finite(row[column]) for row in known]),
        seconds,
        seconds + compile_seconds,
        work(known, residual_rows),
        _finite(closing.get(column)),
    )


def _finite(value: Any) -> float:
    """A number as it is; infinity for one that is not finite or not there."""
    number = math.inf if value is None else float(value)
    return number if math.isfinite(number) else math.inf


def work(rows: Sequence[Mapping[str, Any]], residual_rows: float | None) -> np.ndarray:
    """(n,) work of rows in residual evaluations. `residual_rows` Jacobian rows are one Jacobian.

    A count that a row does not have is 0; where it is null nobody counted, and the work is NaN. Raises ValueError where
    Jacobian rows or batches were counted and `residual_rows` is not known.
    """

    def counted(name: str) -> np.ndarray:
        counts = (row.get(f"counts.{name}", 0.0) for row in rows)
        return np.array([math.nan if count is None else float(count) for count in counts])

    done = {name: counted(name) for name in (*WORK, "rows", "batch")}
    if not residual_rows and np.nan_to_num(done["rows"] + done["batch"]).any():
        raise ValueError("rows: Jacobian rows or batches were counted, but the number of residual rows is not known.")
    return evaluations(done, residual_rows)


def reached(run: Curve, target: float, axis: str = "seconds") -> float:
    """The first reading at which `target` is reached; infinite if it never is.

    Evaluation i reaches the target if error_i ≤ target and the next two evaluations are at or below it as well. After
    the last two evaluations of a run fewer follow: there it must hold to the end of the run. A dip of one or two
    evaluations therefore counts only where the run ended in it, with the parameters that it returned.
    """
    readings, below = run.axis(axis), run.errors <= target
    holds = below.copy()
    for ahead in range(1, HOLD + 1):
        holds[:-ahead] &= below[ahead:]
    return float(readings[np.argmax(holds)]) if holds.any() else math.inf


def at(run: Curve, grid: np.ndarray, axis: str = "seconds") -> np.ndarray:
    """(g,) error at the last evaluation at or before each value of `grid`; infinite before the first evaluation.

    After the end of a run its last evaluation holds.
    """
    last = np.searchsorted(run.axis(axis), grid, side="right") - 1
    return np.where(last >= 0, np.append(run.errors, math.inf)[last], math.inf)


class Band(NamedTuple):
    """Median and range over runs on a common grid, each (g,)."""

    grid: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def common_grid(runs: Sequence[Curve], axis: str = "seconds", size: int = 200) -> np.ndarray:
    """(size,) values of `axis`, geometric, from the first positive reading of any run to the last.

    Raises ValueError if no run has a positive reading.
    """
    readings = np.concatenate([run.axis(axis) for run in runs]) if runs else np.empty(0)
    positive = readings[readings > 0]
    if not positive.size:
        raise ValueError(f"axis {axis!r}: none of the {len(runs)} runs has a positive reading to draw a curve over.")
    return np.geomspace(positive.min(), positive.max(), size)


def band(runs: Sequence[Curve], grid: np.ndarray, axis: str = "seconds") -> Band:
    """Median and range over the runs (seeds) of one method on one problem; a run that failed is infinite everywhere."""
    errors = np.array([at(run, grid, axis) for run in runs])
    return Band(grid, worse_median(errors), errors.min(axis=0), errors.max(axis=0))


def worse_median(values: ArrayLike) -> np.ndarray:
    """Median over the first axis; of an even number the larger of the two in the middle.

    An order statistic is the same on a linear and a logarithmic scale, and stays defined where values are infinite.
    Raises ValueError if there is nothing to take it of.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ValueError("median: there are no runs to take it of.")
    return np.sort(array, axis=0)[len(array) // 2]
