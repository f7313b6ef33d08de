"""The process of one run: a task comes in on stdin, rows go out on stdout as JSON lines.

stdin stays open for as long as the parent lives; when it closes the run is interrupted, so a parent that is killed
leaves no process behind, and the run can be resumed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any, TextIO

from ..driver.allocator import keep_freed_memory
from ..records import dumps
from ..rivals.library import NotInstalled
from .limits import own_peak
from .task import Task, refusal

INTERVAL = 0.5  # seconds between rows sent to the parent


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit ignoring it
    keep_freed_memory()
    stream = _private_stdout()
    envelope = json.loads(sys.stdin.readline())
    send(stream, {"event": "begun"})  # what happens from here on is of the run, and not of the machine
    if envelope["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {envelope["core"]})  # before JAX sizes its thread pools
    threading.Thread(target=_interrupt_when_orphaned, daemon=True).start()
    try:
        task = Task(**envelope["task"])
        run = task.run(progress=_Sender(stream))
    except NotInstalled as error:
        send(stream, {"event": "not_installed", "reason": error.reason, "suggestion": error.suggestion})
        return 0
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        send(stream, {"event": "refused", "reason": reason})
        return 2
    except KeyboardInterrupt:  # before the driver had begun; later ones end in a status
        send(stream, {"event": "interrupted"})
        return 130
    send(stream, {"event": "done", "status": run.status, "peak_memory": own_peak()})
    return 0


def send(stream: TextIO, message: dict[str, Any]) -> None:
    stream.write(dumps(message) + "\n")
    stream.flush()


class _Sender:
    """Rows at most every INTERVAL seconds, the first at once."""

    def __init__(self, stream: TextIO):
        self.stream, self.sent = stream, float("-inf")

    def __call__(self, row: dict[str, Any], loop: Any) -> None:
        if time.monotonic() - self.sent >= INTERVAL:
            self.sent = time.monotonic()
            send(self.stream, {"event": "row", "row": row})


def _private_stdout() -> TextIO:
    """The pipe to the parent; whatever else prints goes to stderr."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


def _interrupt_when_orphaned() -> None:
    while sys.stdin.readline():
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is on disk; leaving at once spares JAX's teardown and any thread still compiling.
    os._exit(code)
