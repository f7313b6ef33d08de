"""The results table: a file of records, one a line, that grows by appending and joins by merging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .json_lines import append_object, read_objects
from .record import FORMAT, key_of
from .results import FINISHED
from .task import Task


class Table(NamedTuple):
    records: list[dict[str, Any]]
    notes: list[str]  # what could not be read, a sentence each


def append(path: Path | str, record: Mapping[str, Any]) -> None:
    """Add a record to the table at `path`, which is made if there is none. Raises ValueError if it has no key."""
    if not record.get("key"):
        raise ValueError("record: it has no key; make it with `record_of`.")
    append_object(path, dict(record))


def read(path: Path | str) -> Table:
    """All records as written, in order. A line cut short is left out with a note.

    Raises ValueError, one sentence, if there is no such file, a line is not JSON, or it is not a record of this format.
    """
    if not Path(path).is_file():
        raise ValueError(f"`{path}` is not there: name the file of a results table.")
    records, notes = read_objects(path)
    for number, record in enumerate(records, start=1):
        if record.get("format") != FORMAT or not record.get("key"):
            raise ValueError(f"`{path}`, record {number}, has no key or is not of format {FORMAT}.")
    return Table(records, notes)


def merge(paths: Iterable[Path | str]) -> Table:
    """One record for each key, in order of first appearance. Raises ValueError as `read`.

    Of several with one key a finished run is kept before one that failed, and that before one that is not finished;
    among equals the newest, and at the same date the one read last.
    """
    records: list[dict[str, Any]] = []
    notes: list[str] = []
    for path in paths:
        found = read(path)
        notes += [f"{path}: {note}" for note in found.notes]
        records += found.records
    return Table(list(best(records).values()), notes)


def best(records: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{key: its record}, chosen as `merge` says, in order of first appearance."""
    chosen: dict[str, dict[str, Any]] = {}
    for record in records:
        known = chosen.get(record["key"])
        if known is None or _worth(record) >= _worth(known):
            chosen[record["key"]] = record
    return chosen


def _worth(record: Mapping[str, Any]) -> tuple[int, bool, str]:
    status = record["status"]
    rank = 0 if status not in FINISHED else 1 if status == "failed" else 2
    return rank, not uncommitted(record), str(record.get("date") or "")


def uncommitted(record: Mapping[str, Any]) -> bool:
    """Whether the run was made with local changes of ravine: such code has no name."""
    return str(record.get("commit") or "").endswith("+")


def missing(tasks: Sequence[Task], records: Iterable[Mapping[str, Any]], retry_failed: bool = False) -> list[Task]:
    """The tasks of which `records` has no finished run, in order. `retry_failed`: and those that failed, which
    otherwise is a result like any other. Runs made with uncommitted changes do not count."""
    done = {
        record["key"]
        for record in records
        if record["status"] in FINISHED
        and not (retry_failed and record["status"] == "failed")
        and not uncommitted(record)
    }
    return [task for task in tasks if key_of(task) not in done]
