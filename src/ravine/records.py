"""Rows and run files: strict JSON that round-trips float64 and carries non-finite numbers as strings."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

GRID = 1.02  # ratio of the geometric grid of recorded steps after step 100
FORMAT = 1

# What every row has; terms.*, metrics.*, counts.* and scalars.* come with the objective, the caller and the method.
COLUMNS = ("step", "seconds", "cpu_seconds", "stage", "method", "loss", "grad_norm", "step_norm", "status")


def next_recorded(step: int, every: int | None = None) -> int:
    """The first recorded step after `step`: every step to 100, then a grid of ratio 1.02, and multiples of `every`.

    The grid is a function of the step number alone, so an interrupted run records the same steps.
    """
    if step < 100:
        nxt = step + 1
    else:
        power = math.floor(math.log(step / 100) / math.log(GRID)) - 1
        while (nxt := math.ceil(100 * GRID**power)) <= step:
            power += 1
    return nxt if every is None else min(nxt, (step // every + 1) * every)


def encode(value: Any) -> Any:
    """JSON-ready: non-finite floats as the strings NaN, Infinity, -Infinity; NumPy and JAX scalars as numbers."""
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "tolist"):
        return encode(value.tolist())
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
    return repr(value)


_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def decode_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row as written, with the non-finite strings back as floats."""
    return {k: _NUMBERS.get(v, v) if isinstance(v, str) else v for k, v in row.items()}


def dumps(value: Any, indent: int | None = None) -> str:
    """`value` as strict JSON text, encoded as `encode` says."""
    return json.dumps(encode(value), allow_nan=False, ensure_ascii=False, indent=indent)


def make_folder(path: Path) -> list[Path]:
    """Make `path`. Returns the folders that were missing, innermost first, so that a refused run can take them back."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders in turn, up to the first one that holds something."""
    for folder in folders:
        if not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def write_text(path: Path, text: str) -> None:
    """Atomically: a reader, or a kill at any moment, sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can go on from its folder: `resume` says no to one without."""
    return any((folder / "checkpoint").glob("*.npz"))


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """All rows, a line each, in place of what was there; atomically, as `write_text`."""
    write_text(path, "".join(dumps(row) + "\n" for row in rows))


def append_row(path: Path, row: dict[str, Any]) -> None:
    """One line more. A kill may cut it short, which readers of rows allow for."""
    with open(path, "a", encoding="utf8") as file:
        file.write(dumps(row) + "\n")


# Work in residual evaluations, the unit all methods share. A forward sweep carries a tangent beside the value (2); a
# reverse sweep through values already computed costs two evaluations (2), so a gradient, counted as one residual and
# one vjp, is 3; a Hessian-vector product is a forward sweep through a gradient (6); a Jacobian formed row by row is
# one gradient (3) for all N rows where a point has one row, and what more rows a point cost stands in `batch`
# (`Linearization.work`). `batch` is in rows already (`types.batch_work`): N of them are one evaluation.
# `sampler` is in sweeps over as many rows as the residual has.
WORK = {"residual": 1.0, "jvp": 2.0, "vjp": 2.0, "hvp": 6.0, "sampler": 1.0}
WORK_JACOBIAN = 3.0


def evaluations(done: Mapping[str, Any], rows: float | None) -> Any:
    """Work in residual evaluations of counts by name (numbers or arrays); `rows` is N, the residual rows."""
    per_row = WORK_JACOBIAN * done["rows"] + done["batch"]
    return sum(weight * done[name] for name, weight in WORK.items()) + per_row / (rows or 1)
