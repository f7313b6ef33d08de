"""The steady clock: stopped while compiling, scoring, calling back and writing."""

from __future__ import annotations

import time
from contextlib import contextmanager


class Clock:
    """Steady seconds (wall and process CPU) and total wall seconds; `off()` stops the steady ones for a block."""

    def __init__(self, seconds: float = 0.0, cpu: float = 0.0, wall: float = 0.0):
        self._seconds, self._cpu, self._wall = seconds, cpu, wall
        self._running = False
        self._wall_start = time.perf_counter()

    def start(self) -> None:
        self._mark = (time.perf_counter(), time.process_time())
        self._running = True

    def stop(self) -> None:
        if self._running:
            self._seconds += time.perf_counter() - self._mark[0]
            self._cpu += time.process_time() - self._mark[1]
            self._running = False

    @contextmanager
    def off(self):
        was = self._running
        self.stop()
        try:
            yield
        finally:
            if was:
                self.start()

    @property
    def seconds(self) -> float:
        return self._seconds + (time.perf_counter() - self._mark[0] if self._running else 0.0)

    @property
    def cpu(self) -> float:
        return self._cpu + (time.process_time() - self._mark[1] if self._running else 0.0)

    @property
    def wall(self) -> float:
        return self._wall + time.perf_counter() - self._wall_start
