"""Run tasks in processes of their own, a few at a time, and lose none: a process that dies leaves a record too."""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from ..records import FORMAT, dumps, write_text
from .task import Task

GRACE = 30.0  # seconds that interrupted runs get to write their results
Listener = Callable[[Task, dict[str, Any]], None]  # events: row, and at last done, refused or failed

# Read when a process starts; on Linux the affinity of one core says the same, elsewhere these do.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
# Without pinning only BLAS gets one thread, unless the caller's environment says otherwise: its threads wait for each
# other by spinning, and one busy neighbour made a Levenberg-Marquardt step six times slower than on one thread.
_ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}


@dataclasses.dataclass
class _Worker:
    task: Task
    slot: int
    process: subprocess.Popen[str]
    errors: IO[bytes]
    last: dict[str, Any] = dataclasses.field(default_factory=dict)


def run_all(tasks: Sequence[Task], workers: int, listener: Listener) -> bool:
    """Run every task, `workers` at a time, each pinned to one core if there are several. False if interrupted.

    A task refused before its first row is refused for its other seeds too, without a process. Afterwards every task's
    folder holds a run.json: that of the run, or one with status failed (the process died or refused the task),
    not_installed (a rival's library is absent) or interrupted (never started).
    """
    waiting, running = deque(tasks), {}
    refused: dict[str, str] = {}
    begun: set[str] = set()

    def heard(task: Task, event: dict[str, Any]) -> None:
        if event["event"] == "row":
            begun.add(task.folder)
        elif event["event"] == "refused" and task.folder not in begun:
            refused[_kind(task)] = event["reason"]
        listener(task, event)

    events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting.popleft()
                if (reason := refused.get(_kind(task))) is not None:
                    listener(task, _refuse(task, reason))
                    continue
                slot = min(set(range(workers)) - set(running))
                running[slot] = _start(task, slot, workers > 1, events)
            if running:
                _handle(events.get(), running, heard)
    except KeyboardInterrupt:
        _wind_down(running, events, listener)
        for task in waiting:
            record(task, "interrupted", "The comparison was interrupted before this run started.")
        return False
    return True


def _kind(task: Task) -> str:
    """The task without its seed: what is refused before a run is names, options and structure, whatever the seed."""
    return repr(dataclasses.replace(task, seed=0, folder="", command=""))


def _refuse(task: Task, reason: str) -> dict[str, Any]:
    record(task, "failed", reason)
    return {"event": "refused", "reason": reason}


def _start(task: Task, slot: int, pinned: bool, events: queue.Queue) -> _Worker:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has been settled)
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=_ONE_BLAS_THREAD | os.environ | (_ONE_THREAD if pinned else {}),
        text=True,
        encoding="utf8",
        start_new_session=True,  # Ctrl-C reaches the parent only, which passes it on once
    )
    worker = _Worker(task, slot, process, errors)
    core = cores[slot % len(cores)] if pinned and cores else None
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps({"task": dataclasses.asdict(task), "core": core}) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died at once; its exit is handled like any other
    threading.Thread(target=_read, args=(worker, events), daemon=True).start()
    return worker


def _read(worker: _Worker, events: queue.Queue) -> None:
    assert worker.process.stdout is not None
    for line in worker.process.stdout:
        try:
            events.put((worker, json.loads(line)))
        except ValueError:
            continue  # cut short by a death in the middle of a line
    worker.process.wait()
    events.put((worker, None))


def _handle(item: tuple[_Worker, dict[str, Any] | None], running: dict[int, _Worker], listener: Listener) -> None:
    worker, event = item
    if event is not None and event["event"] == "row":
        listener(worker.task, event)
    elif event is not None:
        worker.last = event
    else:
        del running[worker.slot]
        try:
            listener(worker.task, _settle(worker))
        finally:
            for pipe in (worker.process.stdin, worker.process.stdout, worker.errors):
                _close(pipe)


def _close(pipe: IO | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except BrokenPipeError:
        pass  # a task that was never read


def _settle(worker: _Worker) -> dict[str, Any]:
    """The closing event of a process that has ended, with a record in its folder whatever happened."""
    kind = worker.last.get("event")
    if kind == "done":
        return worker.last
    folder = Path(worker.task.folder)
    if kind == "interrupted" or (kind is None and worker.process.returncode == -signal.SIGINT):
        record(worker.task, "interrupted", "Interrupted before the first step.")
        return {"event": "done", "status": "interrupted"}
    if kind == "not_installed":
        record(worker.task, "not_installed", worker.last["reason"], worker.last["suggestion"])
        return {"event": "done", "status": "not_installed"}
    if kind == "refused":
        return _refuse(worker.task, worker.last["reason"])
    reason = _how_it_died(worker.process.returncode)
    worker.errors.seek(0)
    text = worker.errors.read().decode("utf8", "replace").strip()
    if text:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "stderr.txt", text + "\n")
        reason += f" Its last words: {text.splitlines()[-1]} (all of them in stderr.txt)."
    record(worker.task, "failed", reason)
    return {"event": "failed", "reason": reason}


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
    folder = Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    try:
        known = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    except ValueError:
        known = {}
    resumable = (folder / "checkpoint").is_dir()
    if suggestion is None:
        again = f"Go on from its last checkpoint: ravine resume {folder}"
        suggestion = again if resumable else "Run it again by itself."
    entries = {"format": FORMAT, **task.describe()} | known
    entries |= {"status": status, "reason": reason, "suggestion": suggestion}
    write_text(path, dumps(entries, indent=1))


def _wind_down(running: dict[int, _Worker], events: queue.Queue, listener: Listener) -> None:
    """Interrupt the runs, wait until they have written their results, and end those that cannot."""
    for worker in running.values():
        _signal(worker, signal.SIGINT)
    try:
        while running:
            _handle(events.get(timeout=GRACE), running, listener)
    except (queue.Empty, KeyboardInterrupt):
        for worker in list(running.values()):
            _signal(worker, signal.SIGKILL)
        while running:
            _handle(events.get(timeout=GRACE), running, listener)


def _signal(worker: _Worker, number: int) -> None:
    if worker.process.poll() is None:
        worker.process.send_signal(number)
