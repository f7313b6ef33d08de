"""The trials of a tuning: their runs, what is written of them, and their scores (`tune` says what a trial is)."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from ..driver.source import commit as own_commit
from ..driver.source import version as own_version
from .curves import worse_median
from .json_lines import append_object, read_objects
from .record import error_target, record_of
from .results import FINISHED
from .task import Task

FORMAT = 1
TRIALS = "tuning.jsonl"
FOLDER = "tuning"


@dataclasses.dataclass(eq=False)
class Trial:
    """Trial `number` of a study: `settings` are those that differ from the defaults; `found` is its record."""

    number: int
    settings: dict[str, str]
    tasks: list[Task]
    key: str
    found: dict[str, Any] | None = None
    refused: str | None = None
    left: set[str] = dataclasses.field(default_factory=set)

    def ended(self, task: Task, event: Mapping[str, Any]) -> None:
        self.left.discard(task.folder)
        if event["event"] == "refused":
            self.refused = event["reason"]

    @property
    def whole(self) -> bool:
        return not self.left

    @property
    def undone(self) -> bool:
        """Whether one of its runs has no result, and could have one if it were made again."""
        return any(s not in FINISHED and s != "not_installed" for s in (self.found or {}).get("statuses", ()))

    @property
    def score(self) -> float:
        """Infinite without a result."""
        return math.inf if self.found is None else float(self.found["score"])

    @property
    def error(self) -> float | None:
        error = math.inf if self.found is None else float(self.found["error"])
        return error if math.isfinite(error) else None


class Store:
    """The trials of a folder: those known, where new ones go, and the list they are added to."""

    def __init__(self, folder: Path, retry_failed: bool):
        recorded = read_objects(folder / TRIALS).objects if (folder / TRIALS).is_file() else []
        self.folder = folder
        self.taken = {str(record["folder"]) for record in recorded}
        self.known = {
            record["key"]: record
            for record in recorded
            if not str(record.get("commit") or "").endswith("+")  # nothing tells whether the code was the same
            and not (retry_failed and "failed" in record["statuses"])
        }

    def take(self, trial: Trial) -> dict[str, Any] | None:
        return self.known.get(trial.key)

    def place(self, trial: Trial) -> None:
        """Folders for its runs. A folder that no line of the list names was left by an interruption, and goes."""
        first = trial.tasks[0]
        parent = Path(FOLDER) / first.problem / first.method.replace("/", "-")
        names = (parent / f"trial-{trial.number}{'' if n == 1 else f'-{n}'}" for n in count(1))
        where = next(name for name in names if name.as_posix() not in self.taken)
        if (self.folder / where).exists():
            shutil.rmtree(self.folder / where)
        trial.tasks = [dataclasses.replace(t, folder=str(self.folder / where / f"s{t.seed}")) for t in trial.tasks]
        trial.left = {task.folder for task in trial.tasks}

    def add(self, trial: Trial) -> None:
        """Score the trial, and write it down if it is a result of the method."""
        where = Path(trial.tasks[0].folder).parent.relative_to(self.folder).as_posix()
        trial.found = _line(trial) | {"folder": where}
        if all(status in FINISHED for status in trial.found["statuses"]):
            self.taken.add(where)
            append_object(self.folder / TRIALS, trial.found)


def _line(trial: Trial) -> dict[str, Any]:
    """What tuning.jsonl says of a trial whose runs have ended."""
    runs = [record_of(task.folder) for task in trial.tasks]
    results = [result(run) for run in runs]
    seconds = [float(run["seconds"] or 0.0) for run in runs]
    totals = [float(run["total_seconds"] or own) for run, own in zip(runs, seconds, strict=True)]
    first = trial.tasks[0]
    return {
        "format": FORMAT,
        "key": trial.key,
        "problem": first.problem,
        "method": first.method,
        "trial": trial.number,
        "settings": trial.settings,
        "seeds": [task.seed for task in trial.tasks],
        "score": float(worse_median([score for _, score in results])),
        "error": float(worse_median([error for error, _ in results])),
        "errors": [error for error, _ in results],
        "statuses": [run["status"] for run in runs],
        "refused": trial.refused,
        "seconds": sum(seconds),
        "total_seconds": sum(totals),
        "ravine": own_version("ravine"),
        "commit": runs[0]["commit"] or own_commit(),
    }


def result(run: Mapping[str, Any]) -> tuple[float, float]:
    """(error, score) of a run's record: see 3. in the docstring of `tune`. Both infinite for a run without a result."""
    if run["status"] not in FINISHED or run["status"] == "failed":
        return math.inf, math.inf
    if run["metric"] is None:
        loss = float((run["final"] or {}).get("loss", math.inf))
        return (loss, loss) if math.isfinite(loss) else (math.inf, math.inf)
    error = float(run["error"])
    if not math.isfinite(error):
        return math.inf, math.inf
    error = max(error, float(run["floor"]))
    target = error_target(run["target"], run["metric"])
    reached = target is not None and run["status"] == "reached_target"
    return error, error * _share(run) if reached else error


def _share(run: Mapping[str, Any]) -> float:
    """The part of the budget that a run spent, at most 1."""
    spent = {"seconds": run["seconds"], "wall": run["wall_seconds"], "steps": run["steps"], "evaluations": run["work"]}
    shares = [float(spent[kind] or 0.0) / limit for kind, limit in (run["budget"] or {}).items()]
    return min(1.0, max(shares, default=1.0))
