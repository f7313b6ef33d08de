"""`ravine resume`: go on with a run of `solve` or `compare` from its last checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..bench.task import Task
from ..records import has_checkpoint
from ..report import load_run
from ..report.load import RunRecord, collect
from . import compile_cache
from .parse import Usage
from .solve_command import carry_out, exit_status, hand_over

UNFINISHED = ("running", "interrupted", "failed", "not_installed")
SHOWN = 5  # runs named in a sentence


def run(request: argparse.Namespace) -> int:
    folder = Path(request.run)
    try:
        found = load_run_start(folder)
    except ValueError as error:
        raise Usage(str(error)) from None
    if found["status"] not in UNFINISHED:
        run = _loaded(folder)
        if request.json:
            print(json.dumps({"folder": str(folder), **run.meta}, ensure_ascii=False))
        else:
            print(f"{folder} is finished already: {run.status}. {run.reason}")
        return exit_status(run.status, bool(found.get("target")))
    if "task" not in found:
        again = f"ravine.resume({str(folder)!r}), or the same call of minimize with its checkpoint"
        raise Usage(f"{folder}: was started from Python; go on there: {again}.")
    if not has_checkpoint(folder):
        raise Usage(f"{folder}: holds no checkpoint to go on from; start it again: {found.get('command')}")
    try:
        task = Task(**found["task"], folder=str(folder), command=found.get("command") or "")
    except (ValueError, LookupError, TypeError) as error:
        raise Usage(f"{folder / 'run.json'}: {error}") from None
    compile_cache.enable()
    if not request.json:
        print(f"{folder}: going on from its last checkpoint.", file=sys.stderr)
    return hand_over(folder, carry_out(task, request.json, go_on=True), request.json)


def _loaded(folder: Path) -> RunRecord:
    try:
        return load_run(folder)
    except ValueError as error:
        raise Usage(str(error)) from None


def load_run_start(folder: Path) -> dict:
    """run.json, also that of a run killed before it had a reason. Raises ValueError with a sentence."""
    path = folder / "run.json"
    if (folder / "compare.json").is_file():
        raise ValueError(_unfinished(folder))
    if not path.is_file():
        load_run(folder)  # raises, naming the nearest run
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except ValueError:
        raise ValueError(f"{path}: is not JSON; it was cut short or written by another program.") from None
    if not isinstance(found, dict) or "status" not in found:
        raise ValueError(f"{path}: is not a record of a run: it lacks a status; name the folder of one.")
    return found


def _unfinished(folder: Path) -> str:
    """What can be resumed of a comparison, as a sentence."""
    runs = [run for run in collect([folder]).runs if run.status in UNFINISHED]
    names = [str(run.folder) for run in runs if has_checkpoint(run.folder)]
    if not names:
        return f"{folder}: is a comparison, and none of its runs is unfinished with a checkpoint to go on from."
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{folder}: is a comparison; resume its unfinished runs one by one: {', '.join(names[:SHOWN])}{more}."
