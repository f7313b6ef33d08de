"""Ctrl-C while a loop runs: the first press is noted and read between two device calls, the second raises."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Any


class Interrupt:
    """`with interrupt.listening():` notes Ctrl-C in `pressed`, so that no computation is torn in the middle.

    Only Python's own handler is replaced, and only on the main thread, where signals arrive: whoever ignores Ctrl-C
    or handles it has decided what it means. The old handler is back afterwards.
    """

    def __init__(self):
        self.pressed = False

    def __call__(self, number: int, frame: Any) -> None:
        if self.pressed:
            signal.default_int_handler(number, frame)
        self.pressed = True

    @contextmanager
    def listening(self):
        mine = threading.current_thread() is threading.main_thread()
        old = signal.getsignal(signal.SIGINT) if mine else None
        if old is not signal.default_int_handler and not isinstance(old, Interrupt):  # of a run around this one
            yield
            return
        signal.signal(signal.SIGINT, self)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, old)
