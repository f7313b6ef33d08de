"""How the process of a run ended, and the record that its folder then holds, whatever happened."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, NamedTuple

from ..driver.source import code
from ..records import FORMAT, dumps, has_checkpoint, write_text
from .task import Task

AGAIN = "--continue --retry-failed"
JAX_NOTE = "For simplicity, JAX has removed its internal frames"


class Ending(NamedTuple):
    """Plain data, so that another machine can send it.

    last         the last event that was not a row; {} if there was none: then it did not even begin
    code         exit status, negative for the signal that ended it
    errors       what it wrote to stderr
    exceeded     the limit that it broke, as a sentence with the numbers; None if it kept within
    peak_memory  bytes of resident memory, None if not known
    """

    last: dict[str, Any]
    code: int
    errors: str = ""
    exceeded: str | None = None
    peak_memory: int | None = None


def settle(task: Task, ending: Ending) -> dict[str, Any]:
    """The closing event of a run whose process has ended: done, failed or refused; its folder holds a run.json.

    A machine that is not fit for the run (of a cluster, with another version) leaves it undone.
    """
    event = _settle(task, ending)
    if ending.peak_memory is not None:
        _amend(task, {"peak_memory": ending.peak_memory})
    return event


def _settle(task: Task, ending: Ending) -> dict[str, Any]:
    last, kind = ending.last, ending.last.get("event")
    if ending.exceeded is not None:
        anew = None if has_checkpoint(Path(task.folder)) else f"Raise the limit and go on with {AGAIN}."
        return _fail(task, ending.exceeded, anew)
    if kind == "done":
        return last
    if kind == "interrupted" or (kind in (None, "begun") and ending.code == -signal.SIGINT):
        record(task, "interrupted", "Interrupted before the first step.")
        return {"event": "done", "status": "interrupted"}
    if kind == "not_installed":
        record(task, "not_installed", last["reason"], last["suggestion"])
        return {"event": "done", "status": "not_installed"}
    if kind == "unfit":  # the machine's fault and not the method's: nothing that may count as a result
        return _undone(task, last["reason"])
    if kind == "refused":
        return refuse(task, last["reason"])
    reason = _how_it_died(ending.code)
    if ending.errors:
        folder = Path(task.folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "stderr.txt", ending.errors + "\n")
        reason += f" Its last words: {_last_words(ending.errors)} (all of them in stderr.txt)."
    if kind is None:
        return _undone(task, f"It could not begin. {reason}")
    return _fail(task, reason)


def _undone(task: Task, reason: str) -> dict[str, Any]:
    record(task, "interrupted", reason, "Mend that machine or leave it out, and go on with --continue.")
    return {"event": "done", "status": "interrupted"}


def _last_words(errors: str) -> str:
    """The last line, without what JAX prints below an exception in traced code."""
    lines = [line for line in errors.splitlines() if line.strip("- ") and not line.startswith(JAX_NOTE)]
    return lines[-1] if lines else errors.splitlines()[-1]


def _fail(task: Task, reason: str, suggestion: str | None = None) -> dict[str, Any]:
    record(task, "failed", reason, suggestion)
    return {"event": "failed", "reason": reason}


def refuse(task: Task, reason: str) -> dict[str, Any]:
    """The closing event of a task that was not accepted, with its record."""
    record(task, "failed", reason, "Leave it out, or change what the reason names.")
    return {"event": "refused", "reason": reason}


def _how_it_died(code: int) -> str:
    if code >= 0:
        return f"The process of this run ended with exit status {code} and left no result."
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    guess = "; the usual cause is that memory ran out" if name == "SIGKILL" else ""
    return f"The process of this run was ended by {name}{guess}."


def record(task: Task, status: str, reason: str, suggestion: str | None = None) -> None:
    """A run.json for a run that left none or an unfinished one: its row stays in every table, with the reason.

    `suggestion`: the next move, by default to resume or repeat the run.
    """
    if suggestion is None:
        again = f"Go on from its last checkpoint: ravine resume {task.folder}"
        suggestion = again if has_checkpoint(Path(task.folder)) else "Run it again by itself."
    # A failure is a result, of the code that is running now; what was not finished is none, and can be made by another.
    made_by = {"code": code()} if status == "failed" else {}
    _amend(task, {"status": status, "reason": reason, "suggestion": suggestion}, made_by)


def never_started(task: Task, reason: str) -> None:
    """A run.json for a run that did not begin. What an earlier attempt has left there stays: a failure that was to be
    made again is still one."""
    if not (Path(task.folder) / "run.json").is_file():
        record(task, "interrupted", reason)


def _amend(task: Task, entries: dict[str, Any], unless_known: dict[str, Any] | None = None) -> None:
    folder = Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    try:
        known = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    except ValueError:
        known = {}
    write_text(path, dumps({"format": FORMAT, **task.describe()} | (unless_known or {}) | known | entries, indent=1))
