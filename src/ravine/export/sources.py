"""The runs behind a path: those of a comparison, of a table of results, or the one run that a folder holds.

No run is dropped: one that a comparison lists and whose folder is gone is there with the status `missing`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..bench import table
from ..bench.record import read_run, record_of
from ..bench.reuse import lost
from ..records import decode_row

_FOLDER = re.compile(r"(?P<problem>[^/]+)/(?P<method>.+)-s(?P<seed>\d+)(-\d+)?")


class Source(NamedTuple):
    """A run: its record, with `provenance` as run.json has it, and its folder, None where that is gone."""

    record: dict[str, Any]
    folder: Path | None
    where: str  # its name in a sentence


def collect(paths: Sequence[Path | str]) -> list[Source]:
    """All runs of `paths`, each folder once. Raises ValueError, one sentence, for a path that is none of the three, a
    damaged file, and a run without a seed."""
    if not paths:
        raise ValueError("export: names nothing; give the folder of a comparison or run, or a results.jsonl.")
    found: dict[str, Source] = {}
    for path in map(Path, paths):
        for source in _of(path):
            if source.record.get("seed") is None:
                raise ValueError(f"{source.where}: the run has no seed, so its repetition cannot be numbered.")
            folder = str(source.folder.resolve()) if source.folder else None
            found.setdefault(folder or source.record.get("key") or source.where, source)
    return list(found.values())


def _of(path: Path) -> list[Source]:
    if path.is_file():
        return _of_table(path)
    if not path.is_dir():
        raise ValueError(f"{path}: there is no such folder or file; name a comparison, a run, or a results.jsonl.")
    if (path / "compare.json").is_file():
        return _of_comparison(path)
    if (path / "run.json").is_file():
        return [_run(path)]
    raise ValueError(f"{path}: holds neither compare.json nor run.json, so it is no comparison and no run.")


def _run(folder: Path) -> Source:
    found = read_run(folder).get("provenance") or {}
    return Source(record_of(folder) | {"folder": str(folder), "provenance": found}, folder, str(folder))


def _of_table(path: Path) -> list[Source]:
    """Run folders beside the table are read; of a run whose folder is gone the record is all there is."""
    sources = []
    for record in table.best(table.read(path).records).values():
        folder = path.parent / str(record.get("folder") or "")
        if record.get("folder") and (folder / "run.json").is_file():
            sources.append(_run(folder))
        else:
            sources.append(Source(decode_row(record), None, f"{path}, {record.get('folder') or record['key']}"))
    return sources


def _of_comparison(path: Path) -> list[Source]:
    try:
        names = [str(name) for name in json.loads((path / "compare.json").read_text(encoding="utf8"))["runs"]]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path / 'compare.json'}: is not the list of a comparison: damaged, or not by ravine."
        ) from None
    if not names:
        raise ValueError(f"{path}: the comparison lists no runs.")
    kept = functools.cache(lambda: lost(path))  # a table of thousands of lines, read once and only if a run is lost
    return [_listed(path, name, kept) for name in names]


def _listed(path: Path, name: str, kept: Callable[[], dict[str, dict[str, Any]]]) -> Source:
    """A run that a comparison lists. Where its folder is lost the table has its record, or the folder's name says
    which run it was."""
    folder, why = path / name, "The comparison lists this run, but its folder is not there."
    if (folder / "run.json").is_file():
        try:
            return _run(folder)
        except ValueError as error:
            why = str(error)
    if record := kept().get(name):
        return Source(record, None, str(folder))
    called = _FOLDER.fullmatch(name)
    if called is None:
        raise ValueError(f"{path}: lists the run {name!r}, which is lost, and its name does not say which run it was.")
    problem, method, _ = called.groups()[:3]
    record = {"instance": problem, "rival": method, "problem": problem, "method": method, "seed": int(called["seed"])}
    status = "unreadable" if (folder / "run.json").is_file() else "missing"
    return Source(record | {"status": status, "reason": why, "date": None, "folder": name}, None, str(folder))
