"""Go on with a comparison: which of its runs are there already, and where the others go.

A run is there if one with the same key (`record.key_of`) is finished in the folder. What is there is read from the run
folders themselves, so a run that was resumed by itself counts. Nothing finished is overwritten or removed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from ..records import decode_row
from . import table
from .record import key_of, read_run, record_of
from .results import FINISHED
from .task import Task

TABLE = "results.jsonl"


class Reuse(NamedTuple):
    """tasks    all, in order, each with the folder where its run is or will be
    pending  those that have to be run
    stale    folders of earlier attempts, each to be removed when its run is made again and not before
    notes    what a reader would not expect, a sentence each
    """

    tasks: list[Task]
    pending: list[Task]
    stale: list[Path]
    notes: list[str]


def entry(folder: Path, run: Path) -> dict[str, Any]:
    """The record of a run, with its folder as seen from that of the comparison."""
    return record_of(run) | {"folder": run.relative_to(folder).as_posix()}


def earlier(folder: Path) -> list[dict[str, Any]]:
    """Records of all runs in a comparison folder, read anew; [] if it is not one yet.

    Raises ValueError, one sentence, if compare.json or the table of results is damaged.
    """
    names: dict[str, None] = {}
    if (folder / TABLE).is_file():
        names |= dict.fromkeys(str(r["folder"]) for r in table.read(folder / TABLE).records if r.get("folder"))
    if (path := folder / "compare.json").is_file():
        try:
            names |= dict.fromkeys(map(str, json.loads(path.read_text(encoding="utf8"))["runs"]))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"`{path}` is not the list of a comparison: damaged, or not written by ravine.") from None
    for name in names:
        if folder.resolve() not in (folder / name).resolve().parents:
            raise ValueError(
                f"`{folder}` lists the run {name!r}, which is not inside it: damaged, or not written by ravine."
            )
    return [entry(folder, folder / name) for name in names if (folder / name / "run.json").is_file()]


def lost(folder: Path) -> dict[str, dict[str, Any]]:
    """{folder of a run: its last record in the table of the comparison `folder`}, for runs whose folder is gone."""
    kept = table.read(folder / TABLE).records if (folder / TABLE).is_file() else []
    return {record["folder"]: decode_row(record) for record in kept if record.get("folder")}


def reuse(tasks: Sequence[Task], folder: Path, retry_failed: bool = False, any_version: bool = False) -> Reuse:
    """Share out `tasks` between those done and those to do. `retry_failed`: a failed run is not done. `any_version`:
    a run that another version or commit of ravine finished is done, and a note names the versions.

    A run goes where an attempt with its key was not finished (or failed, with `retry_failed`), else to a folder that
    does not exist. Runs made with uncommitted changes of ravine are made again: nothing tells whether the code was the
    same. Raises ValueError as `earlier`.
    """
    records = earlier(folder)
    if any_version:
        records = [record | {"key": _key_now(folder, record)} for record in records]
    clean = [record for record in records if not table.uncommitted(record)]
    # A run of uncommitted code is not even taken where the other one failed.
    best, pending = table.best(records) | table.best(clean), table.missing(tasks, records, retry_failed)
    lacking = {id(task) for task in pending}
    placed, todo, stale, taken = [], [], [], {str(folder / r["folder"]) for r in records}
    for task in tasks:
        known = best.get(key_of(task))
        again = id(task) in lacking
        if known is not None and not again:
            where = folder / known["folder"]
        elif known is not None and (known["status"] not in FINISHED or (retry_failed and known["status"] == "failed")):
            where = folder / known["folder"]
            stale.append(where)
        else:
            where = _free(Path(task.folder), taken)
        taken.add(str(where))
        placed.append(dataclasses.replace(task, folder=str(where)))
        todo += [placed[-1]] if again else []
    notes = _notes(todo, placed, records, folder) + (_versions(placed, todo, records, folder) if any_version else [])
    return Reuse(placed, todo, stale, notes)


def _key_now(folder: Path, record: dict[str, Any]) -> str:
    """The key that the run of this record would have if it were made by the ravine that is running."""
    task = read_run(folder / record["folder"]).get("task")
    try:
        return record["key"] if task is None else key_of(Task(**task))
    except (LookupError, ValueError, TypeError):  # a name or an option that this ravine does not know any more
        return record["key"]


def _versions(
    placed: Sequence[Task], pending: Sequence[Task], records: Sequence[dict[str, Any]], folder: Path
) -> list[str]:
    taken = {task.folder for task in placed} - {task.folder for task in pending}
    found = {f"{r['ravine']} ({r['commit']})" for r in records if str(folder / r["folder"]) in taken}
    return [f"The runs that are there were made by ravine {', '.join(sorted(found))}."] if found else []


def _free(path: Path, taken: set[str]) -> Path:
    names = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in count(1))
    return next(p for p in names if str(p) not in taken and not p.exists())


def _notes(
    pending: Sequence[Task], tasks: Sequence[Task], records: Sequence[dict[str, Any]], folder: Path
) -> list[str]:
    said = []
    keys, used = {key_of(task) for task in pending}, {task.folder for task in tasks}
    local = [r for r in records if r["key"] in keys and table.uncommitted(r)]
    if finished := [r for r in local if r["status"] in FINISHED]:
        said.append(f"Made with uncommitted changes of ravine, and made again: {len(finished)} of them.")
    if rest := [r for r in records if str(folder / r["folder"]) not in used and r not in local]:
        said.append(f"Not of this comparison, and left as they are in {folder}: {len(rest)} earlier ones.")
    return said
