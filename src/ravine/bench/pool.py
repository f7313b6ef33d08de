"""Run tasks in processes of their own, a few at a time, and lose none: a process that dies leaves a record too."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .ending import never_started, record, refuse, settle
from .limits import Limits
from .process import GRACE, Process
from .task import Task

Listener = Callable[[Task, dict[str, Any]], None]  # events: start, row, and at last done, refused or failed


def run_all(tasks: Sequence[Task], workers: int, listener: Listener, limits: Limits | None = None) -> bool:
    """Run every task, `workers` at a time, each pinned to one core if there are several. False if interrupted.

    A task refused before its first row is refused for its other seeds too, without a process. Afterwards every task's
    folder holds a run.json: that of the run, or one with status failed (the process died, refused the task or broke
    one of the `limits`), not_installed (a rival's library is absent) or interrupted (never started).
    """
    waiting, running = deque(tasks), {}
    refusals = Refusals(listener)
    events: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting[0]  # leaves the list when it is in the other one, whenever Ctrl-C comes
                if not refusals.refuse(task):
                    listener(task, {"event": "start"})
                    slot = min(set(range(workers)) - set(running))
                    running[slot] = _start(task, slot, workers > 1, events, limits)
                waiting.popleft()
            if running:
                _handle(events.get(), running, refusals)
    except KeyboardInterrupt:
        begun = [process.task for process in running.values()]
        _wind_down(running, events, listener)
        for task in (task for task in waiting if task not in begun):
            never_started(task, "The comparison was interrupted before this run started.")
        return False
    return True


class Refusals:
    """A listener that knows which kinds of task were refused before their first row, and passes all events on."""

    def __init__(self, listener: Listener):
        self.listener = listener
        self.reasons: dict[str, str] = {}
        self.begun: set[str] = set()

    def __call__(self, task: Task, event: dict[str, Any]) -> None:
        if event["event"] == "row":
            self.begun.add(task.folder)
        elif event["event"] == "refused" and task.folder not in self.begun:
            self.reasons[_kind(task)] = event["reason"]
        self.listener(task, event)

    def refuse(self, task: Task) -> bool:
        """Whether a task of this kind was refused; then this one is too."""
        if (reason := self.reasons.get(_kind(task))) is None:
            return False
        self.listener(task, refuse(task, reason))
        return True


def _kind(task: Task) -> str:
    """The task without its seed: what is refused before a run is names, options and structure, whatever the seed."""
    return repr(dataclasses.replace(task, seed=0, folder="", command=""))


def _start(task: Task, slot: int, pinned: bool, events: queue.Queue, limits: Limits | None) -> Process:
    return Process(task, lambda event: events.put((slot, event)), slot if pinned else None, limits)


def _handle(item: tuple[int, dict[str, Any] | None], running: dict[int, Process], listener: Listener) -> None:
    slot, event = item
    if event is not None:
        listener(running[slot].task, event)
    else:
        process = running.pop(slot)
        listener(process.task, settle(process.task, process.ending()))


def _wind_down(running: dict[int, Process], events: queue.Queue, listener: Listener) -> None:
    """Interrupt the runs, wait until they have written their results, and end those that cannot."""
    for process in running.values():
        process.interrupt()
    try:
        while running:
            _handle(events.get(timeout=GRACE), running, listener)
    except (queue.Empty, KeyboardInterrupt):
        for process in list(running.values()):
            process.kill()
        with contextlib.suppress(queue.Empty):  # what a run has started may hold its pipe open
            while running:
                _handle(events.get(timeout=GRACE), running, listener)
        for process in running.values():
            record(process.task, "interrupted", "It was killed, and what it had started goes on.")
