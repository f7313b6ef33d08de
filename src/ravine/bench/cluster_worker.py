"""The workers' half of a comparison on a Dask cluster: one Dask task is one run in a process of its own.

The worker starts the same process as the pool does (process.py), in a folder of its own that is gone afterwards, and
gives back how it ended and the files of the run. Client and workers share no file system that way; the price is that
the files of a run, its checkpoints included, pass once through the memory of the worker. Rows are sent while the run
goes on, as events of a topic.

A run ends with its worker: it notices that its stdin was closed (worker.py). It also ends when the client is gone, for
the scheduler then forgets the task, which is looked for between two rows.
"""

from __future__ import annotations

import dataclasses
import queue
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from ..driver.source import commit, version
from ..records import dumps
from .ending import Ending
from .limits import Limits
from .process import GRACE, Process
from .task import Task

INSTALL_SAME = "install the same on all machines."
LOOK = 1.0  # seconds between two looks whether the run is still wanted


class Order(NamedTuple):
    """What the client asks for.

    comparison  also the topic of its rows
    code        version and commit of its ravine
    slot        of its worker's first thread; None for a worker that makes one run at a time, with all its cores
    """

    task: Task
    limits: Limits
    comparison: str
    code: tuple[str | None, str | None]
    slot: int | None


class Answer(NamedTuple):
    """`files`: {path inside the folder of the run: content}."""

    ending: Ending
    files: dict[str, bytes]


@dataclasses.dataclass
class _Held:
    comparison: str
    slot: int
    process: Process


# Of this worker; it makes as many runs at a time as it has threads.
_lock = threading.Lock()
_held: dict[str, _Held] = {}
_stopped: set[str] = set()


def own_code() -> tuple[str | None, str | None]:
    return version("ravine"), commit()


def carry_out(order: Order) -> Answer:
    """One run, in the thread of a Dask task. A refusal is an answer too; raises only what is a bug."""
    from distributed import get_worker

    worker = get_worker()
    if (reason := unfit(order.code, order.limits, worker)) is not None:
        return Answer(Ending({"event": "unfit", "reason": reason}, 2), {})
    with tempfile.TemporaryDirectory(prefix="ravine-", dir=worker.local_directory) as place:
        folder = Path(place) / Path(order.task.folder).name
        ending = _run(dataclasses.replace(order.task, folder=str(folder)), order, worker)
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return Answer(ending, files)


def unfit(code: tuple[str | None, str | None], limits: Limits, dask_worker: Any) -> str | None:
    """Why this worker cannot make runs for a client with that code and those limits; None if it can.

    A run of other code would be recorded under another key, and never count as the one that was asked for.
    """
    if (own := own_code()) == code:
        return limits.refusal()
    there, here = (" ".join(str(part) for part in pair if part) or "unknown" for pair in (own, code))
    there = f"The worker {dask_worker.address} has ravine {there}"
    return f"{there} and this comparison {here}: {INSTALL_SAME}"


def _run(task: Task, order: Order, worker: Any) -> Ending:
    key, heard = worker.get_current_task(), queue.Queue()
    with _lock:
        if order.comparison in _stopped:
            return Ending({"event": "interrupted"}, 130)
        slot = min(set(range(len(_held) + 1)) - {held.slot for held in _held.values()})
        pinned = None if order.slot is None else order.slot + slot
        process = Process(task, heard.put, pinned, order.limits)
        _held[key] = _Held(order.comparison, slot, process)
    try:
        since = None
        while True:
            try:
                event = heard.get(timeout=LOOK)
            except queue.Empty:
                pass
            else:
                if event is None:
                    return process.ending()
                worker.log_event(order.comparison, {"key": key, "row": dumps(event["row"])})
            if since is None and not _wanted(worker, key):
                since = time.monotonic()
                process.interrupt()
            elif since is not None and time.monotonic() > since + GRACE:
                process.kill()
    finally:
        process.kill()  # already over, unless something above raised
        with _lock:
            del _held[key]


def _wanted(worker: Any, key: str) -> bool:
    task = worker.state.tasks.get(key)
    return task is not None and task.state in ("executing", "long-running")


def stop(comparison: str, kill: bool = False) -> None:
    """Interrupt the runs of a comparison on this worker, or kill them, and begin no more of them."""
    with _lock:
        _stopped.add(comparison)
        processes = [held.process for held in _held.values() if held.comparison == comparison]
    for process in processes:
        process.kill() if kill else process.interrupt()
