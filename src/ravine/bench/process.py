"""One run in a process of its own, on this machine: started, listened to, held to its limits.

The other end is worker.py. Nothing here writes files: what a process leaves behind is for ending.py to settle, which
may happen on another machine.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from ..driver.cores import cores
from .ending import Ending
from .limits import Limits, peak_memory, size_words, time_words
from .task import Task

GRACE = 30.0  # seconds that an interrupted run gets to write its results
WATCH = 0.1  # seconds between two looks at a run that has limits

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
# Runs beside each other share a GPU. Left alone, JAX gives three quarters of its memory to the first, and another dies
# since cuSolver finds none; as above, what the caller's environment says counts.
_SHARED_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Process:
    """Starts at once. `hear` is called, from another thread, with each row event and at last with None.

    slot    None, or a number: the run is pinned to one core, and runs of different slots to different ones while
            there are enough
    limits  a run that holds more memory is killed; one that takes longer is interrupted, and killed after GRACE
    """

    def __init__(
        self,
        task: Task,
        hear: Callable[[dict[str, Any] | None], None],
        slot: int | None = None,
        limits: Limits | None = None,
    ):
        self.task, self.limits = task, limits or Limits()
        self._last: dict[str, Any] = {}
        self._peak: int | None = None
        self._exceeded: str | None = None
        self._over, self._began = threading.Event(), time.monotonic()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `ending`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(slot is not None),
            text=True,
            encoding="utf8",
            start_new_session=True,  # Ctrl-C reaches the parent only, which passes it on once
        )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"task": dataclasses.asdict(task), "core": _core(slot)}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once; its exit is handled like any other
        threading.Thread(target=self._read, args=(hear,), daemon=True).start()
        if self.limits:
            threading.Thread(target=self._watch, daemon=True).start()

    def interrupt(self) -> None:
        """As Ctrl-C: the run writes what it has reached and ends."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def ending(self) -> Ending:
        """How it ended; once, after `hear` was given None."""
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:
                pass  # a task that was never read
        self._errors.seek(0)
        said = self._errors.read().decode("utf8", "replace").strip()
        self._errors.close()
        last = self._last
        peak = max((p for p in (last.get("peak_memory"), self._peak) if p is not None), default=None)
        exceeded = self._exceeded
        # A peak between two looks counts too, or it would be a matter of chance which run breaks the limit.
        if self.limits.memory is not None and peak is not None and peak > self.limits.memory:
            exceeded = exceeded or self._too_large(peak)
        elif last.get("event") == "done" and last["status"] != "interrupted":
            exceeded = None  # it had ended by itself when the interruption came
        return Ending(last, self._process.returncode, said, exceeded, peak)

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _read(self, hear: Callable[[dict[str, Any] | None], None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # cut short by a death in the middle of a line
            if event["event"] == "row":
                hear(event)
            else:
                self._last = event
        self._process.wait()
        self._over.set()
        hear(None)

    def _watch(self) -> None:
        memory, wall, stopped = self.limits.memory, self.limits.wall, None
        while not self._over.wait(WATCH):
            spent = time.monotonic() - self._began
            self._peak = peak_memory(self._process.pid) or self._peak
            if memory is not None and self._peak is not None and self._peak > memory:
                self._exceeded = self._too_large(self._peak) + f" It was killed after {time_words(spent)}."
                return self.kill()
            if wall is not None and stopped is None and spent > wall:
                stopped, self._exceeded = spent, _too_long(spent, wall) + " It was interrupted, and its rows are kept."
                self.interrupt()
            if wall is not None and stopped is not None and spent > stopped + GRACE:
                late = f" It was interrupted, did not end within {time_words(GRACE)}, and was killed."
                self._exceeded = _too_long(stopped, wall) + late
                return self.kill()
        return None

    def _too_large(self, peak: int) -> str:
        assert self.limits.memory is not None
        return f"It held {size_words(peak)} of memory, and the limit is {size_words(self.limits.memory)} (--memory)."


def _environment(several: bool) -> dict[str, str]:
    """That of a process, alone on the machine or one of several."""
    if several:
        return _SHARED_GPU | os.environ | _ONE_THREAD
    return _ONE_BLAS_THREAD | os.environ


def _too_long(spent: float, wall: float) -> str:
    return f"It had run for {spent:.1f} s, imports and compilation included, and the limit is {wall:g} s (--wall)."


def _core(slot: int | None) -> int | None:
    return None if slot is None else cores()[slot % len(cores())]
