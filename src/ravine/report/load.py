"""Run folders as records.

A run folder holds `run.json` and `rows.jsonl`, and may hold `fields.npz`; a comparison folder holds
`compare.json` and run folders. What cannot be read is either refused with one sentence (a folder that was
named) or kept as a row that says why (a run that a comparison lists): a run is never dropped.
"""

from __future__ import annotations

import difflib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..bench import curves
from ..bench.json_lines import read_objects
from ..bench.names import full_names, told_apart
from ..bench.record import cut_short
from ..bench.results import FINISHED

FORMAT = 1
REQUIRED = ("format", "method", "status")  # what a run writes before its first step

WORK_WORDS = (
    "Work is counted in residual evaluations, the unit all methods share: evaluating all residual rows once is 1, "
    "a forward derivative (jvp) 2, a reverse sweep (vjp) 2, so a gradient 3, a Hessian-vector product 6, a full "
    "Jacobian 3; work on a batch of rows counts as their share. What a sampler evaluates is included. "
    "Solving the linear system is not counted: it evaluates nothing, and its time is in the seconds."
)


class Fields(NamedTuple):
    """Reference and prediction on a grid, the first axis to the right, the second upwards; or along one axis."""

    axes: tuple[np.ndarray, ...]  # (n0,), (n1,)
    reference: np.ndarray  # (n0, n1) or (n0,)
    prediction: np.ndarray  # the same
    labels: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class RunRecord:
    """One run: `meta` is run.json, `rows` the lines of rows.jsonl, `notes` what a reader should know about them."""

    folder: Path
    meta: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    fields: Fields | None = None
    notes: tuple[str, ...] = ()
    called: tuple[str, str] | None = None  # problem and method where the plain names would pool it with other runs

    @property
    def status(self) -> str:
        return str(self.meta["status"])

    @property
    def reason(self) -> str:
        if self.status == "running" and not self.meta.get("reason"):
            return f"Still running, or killed: `ravine resume {self.folder}` carries on where it stopped."
        return str(self.meta.get("reason") or "")

    @property
    def suggestion(self) -> str:
        return str(self.meta.get("suggestion") or "")

    @property
    def problem(self) -> str:
        if self.called is not None:
            return self.called[0]
        return str(self.meta.get("problem") or self.meta.get("name") or self.folder.name)

    @property
    def method(self) -> str:
        return self.called[1] if self.called is not None else str(self.meta.get("method") or "")

    @property
    def seed(self) -> str:
        seed = self.meta.get("seed")
        return "" if seed is None else str(seed)

    @property
    def label(self) -> str:
        """`lm, seed 0`, or the folder where run.json could not tell."""
        return f"{self.method}, seed {self.seed}" if self.method else str(self.folder.name)

    @property
    def main_metric(self) -> str | None:
        return curves.main_metric(self.meta, self.rows)

    @property
    def error_key(self) -> str:
        """The column that ranks runs: the main metric, or the loss where there is none."""
        return f"metrics.{self.main_metric}" if self.main_metric else "loss"

    def value(self, key: str) -> float | None:
        """A number of run.json, non-finite ones included; None if absent."""
        return _number(self.meta.get(key))

    def progress(self, key: str) -> float | None:
        """`steps`, `seconds`, `cpu_seconds`: from run.json, or from the last row of a run that has not ended."""
        value = self.value(key)
        if value is None and self.rows:
            return _number(self.rows[-1].get("step" if key == "steps" else key))
        return value

    @property
    def finals(self) -> dict[str, Any]:
        """Loss, gradient norm, terms and metrics at the end, or in the last row of a run that has not ended."""
        if self.meta.get("final"):
            return self.meta["final"]
        last = self.rows[-1] if self.rows else {}
        return {k: v for k, v in last.items() if k in ("loss", "grad_norm") or k.startswith(("terms.", "metrics."))}

    def final(self, key: str) -> float | None:
        return _number(self.finals.get(key))

    @property
    def error(self) -> float | None:
        return self.final(self.error_key)

    @property
    def counts(self) -> bool:
        """Whether what the run reached is a result: it is finished, and did not fail."""
        return self.status in FINISHED and self.status != "failed"

    @property
    def rank(self) -> float:
        """The final error for ordering; a run that failed or is not finished comes last, and one without a finite
        error."""
        return self.error if self.counts and self.error is not None and np.isfinite(self.error) else np.inf

    def column(self, key: str) -> np.ndarray:
        """(rows,) float64; NaN where the value was not computed or is not a number."""
        values = [_number(row.get(key)) for row in self.rows]
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    def keys(self, prefix: str) -> list[str]:
        """Columns that start with `prefix` in any row, in order of appearance (stages differ in scalars)."""
        return list(dict.fromkeys(k for row in self.rows for k in row if k.startswith(prefix)))

    @cached_property
    def work(self) -> np.ndarray:
        """(rows,) cumulative work in residual-evaluation equivalents (`WORK_WORDS`)."""
        try:
            return curves.work(self.rows, self.value("rows"))
        except ValueError:  # the number of whole Jacobians is unknown: a gap, never a guess
            return np.full(len(self.rows), np.nan)

    @property
    def total_work(self) -> float | None:
        return float(self.work[-1]) if len(self.rows) and np.isfinite(self.work[-1]) else None

    @property
    def why_no_work(self) -> str:
        """Why `total_work` is None."""
        if any(name.startswith("counts.") and value is None for name, value in self.rows[-1].items()):
            return "its library does not say what it evaluates"
        return "run.json does not hold the number of residual rows"


def _number(value: Any) -> float | None:
    """A JSON number, or one of the strings "NaN", "Infinity", "-Infinity"; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else None


def load_run(folder: Path | str) -> RunRecord:
    """Read one run folder. A line of rows.jsonl cut short (a run killed while writing) is dropped with a note.

    A finished run without its closing row has the status `unreadable`.

    Raises ValueError, one sentence: no such folder or no run.json (naming the nearest folder that has one),
    run.json not JSON, of another format or incomplete, or a line of rows.jsonl that is not a row.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(_not_a_run(folder))
    meta = _read_object(path)
    if meta.get("format") != FORMAT:
        raise ValueError(f"`{path}` has format {meta.get('format')!r}; this version of ravine reads format {FORMAT}.")
    if not isinstance(meta.get("final"), dict | None):
        raise ValueError(f"`{path}` is not a record of a run: its entry `final` is not an object.")
    absent = [key for key in REQUIRED if key not in meta]
    if absent:
        raise ValueError(f"`{path}` is not a record of a run: it lacks {', '.join(absent)}.")
    rows, row_notes = _read_rows(folder / "rows.jsonl")
    fields, field_notes = _read_fields(folder / "fields.npz")
    own = meta["notes"] if isinstance(meta.get("notes"), list) else []
    if broken := cut_short(meta, rows):  # as in the tables: run.json alone is no result
        meta |= {"status": "unreadable", "reason": broken, "suggestion": None, "final": None}
    return RunRecord(folder, meta, rows, fields, (*map(str, own), *row_notes, *field_notes))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"`{path}` is not JSON ({error}): it was cut short or written by another program.") from error
    if not isinstance(value, dict):
        raise ValueError(f"`{path}` holds a JSON {type(value).__name__}, not an object.")
    return value


def _read_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    if not path.is_file():
        return [], ["rows.jsonl is missing, so there are no curves."]
    rows, notes = read_objects(path)
    for number, row in enumerate(rows, start=1):
        if "step" not in row:
            raise ValueError(f"`{path}`, row {number}, is not a row of a run: it has no step.")
    return rows, notes if rows else [*notes, "rows.jsonl is empty, so there are no curves."]


def _read_fields(path: Path) -> tuple[Fields | None, list[str]]:
    if not path.is_file():
        return None, []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as store:
            named = ("axis0", "axis1") if "axis1" in store.files else ("axis0",)
            axes = [np.asarray(store[k], dtype=np.float64) for k in named]
            grids = [np.asarray(store[k], dtype=np.float64) for k in ("reference", "prediction")]
            labels = [str(s) for s in np.ravel(store["labels"])]
            names = [str(s) for s in np.ravel(store["names"])] if "names" in store.files else []
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return None, [f"fields.npz cannot be read ({type(error).__name__}), so there are no pictures."]
    shape = tuple(a.size for a in axes)
    if any(a.ndim != 1 for a in axes) or any(g.shape != shape for g in grids) or len(labels) != len(axes):
        found, sizes = " and ".join(str(g.shape) for g in grids), " and ".join(map(str, shape))
        return None, [f"fields.npz holds grids {found} on axes of {sizes} points: no pictures."]
    return Fields(tuple(axes), grids[0], grids[1], tuple(labels), names[0] if names else "u"), []


def _not_a_run(folder: Path) -> str:
    """The sentence for a folder without run.json; the nearest run folder is looked for inside, then beside."""
    if folder.is_file() and (folder.parent / "run.json").is_file():
        return f"`{folder}` is a file of a run; name its folder, `{folder.parent}`."
    what = "holds no run.json" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    if (folder / "compare.json").is_file():
        return f"`{folder}` is a comparison, not a run; name one of the runs in it."
    if inside := _runs_in(folder):
        return f"`{folder}` {what}, but `{inside[0]}` does: name a run folder, or a comparison with compare.json."
    beside = {p.name: p for p in _runs_in(folder.parent)}
    near = difflib.get_close_matches(folder.name, beside, n=1, cutoff=0.0)
    hint = f"the nearest run is `{beside[near[0]]}`" if near else f"there is no run in `{folder.parent}` either"
    return f"`{folder}` {what}; {hint}."


def _runs_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if (p / "run.json").is_file() or (p / "compare.json").is_file())


class Collection(NamedTuple):
    """Everything one page shows."""

    runs: list[RunRecord]
    commands: list[str]  # what reproduces them, each once
    compared: bool  # at least one comparison folder was given


def collect(folders: Sequence[Path | str]) -> Collection:
    """Runs of run folders and comparison folders, in the order given, each folder once.

    Raises ValueError, one sentence, if a named folder cannot be read or none is given.
    """
    runs: dict[Path, RunRecord] = {}
    commands: dict[str, None] = {}
    compared = False
    for folder in map(Path, folders):
        if (folder / "compare.json").is_file():
            compared = True
            listed, command = _read_comparison(folder)
            found = [_load_or_say(folder / run) for run in listed]
            if command:
                commands[command] = None
        else:
            found = [load_run(folder)]
            if command := found[0].meta.get("command"):
                commands[str(command)] = None
        for run in found:
            runs.setdefault(run.folder.resolve(), run)
    if not runs:
        raise ValueError("no run folder was given; name at least one, such as runs/NAME.")
    return Collection(_apart(list(runs.values())), list(commands), compared)


def _apart(runs: list[RunRecord]) -> list[RunRecord]:
    """Under names that tell problems and methods apart, as in the tables: no figure takes options for seeds."""
    described = []
    for run in (run for run in runs if run.method):
        plain, tuning = {"problem": run.problem, "method": run.method}, (run.meta.get("task") or {}).get("tuning")
        instance, rival = full_names(run.meta | plain)
        described.append(plain | {"instance": instance, "rival": rival, "tuning": tuning})
    found = iter(told_apart(described))
    return [_called(run, next(found)) if run.method else run for run in runs]


def _called(run: RunRecord, named: dict[str, Any]) -> RunRecord:
    names = (named["instance"], named["rival"])
    return run if names == (run.problem, run.method) else replace(run, called=names)


def _read_comparison(folder: Path) -> tuple[list[str], str | None]:
    path = folder / "compare.json"
    meta = _read_object(path)
    if meta.get("format") != FORMAT:
        raise ValueError(f"`{path}` has format {meta.get('format')!r}; this version of ravine reads format {FORMAT}.")
    listed = meta.get("runs")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"`{path}` lists no runs.")
    return [str(run) for run in listed], meta.get("command")


def _load_or_say(folder: Path) -> RunRecord:
    """A run that a comparison lists: unreadable ones stay, as a row with the reason."""
    try:
        return load_run(folder)
    except ValueError as error:
        status = "unreadable" if (folder / "run.json").is_file() else "missing"
        lost = f"The comparison lists `{folder.name}`, but that folder holds no run.json."
        reason = str(error) if status == "unreadable" else lost
        meta = {"status": status, "reason": reason, "name": folder.name, "method": "", "seed": None}
        return RunRecord(folder, meta)


def median_run(runs: Sequence[RunRecord]) -> RunRecord:
    """The run with the median final error, the worse of the two middle ones of an even number. Runs without a finite
    error rank last."""
    return sorted(runs, key=lambda run: run.rank)[len(runs) // 2]
