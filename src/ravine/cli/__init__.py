"""The command `ravine`. Help and wrong usage are answered without importing JAX."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from ..driver.allocator import keep_freed_memory
from .parse import Usage, parse

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done (target reached, converged, or the budget spent with no target set); 1 stalled, diverged, failed or target
    unmet; 2 wrong usage, with one sentence on stderr; 130 interrupted.
    """
    try:
        request = parse(sys.argv[1:] if argv is None else list(argv))
        if isinstance(request, int):
            return request
        # BLAS threads wait for each other by spinning; beside a busy neighbour that made LM six times slower.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        keep_freed_memory()
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # ty: ignore[invalid-assignment] (a function takes the place of one)
            status = import_module(f".{request.command}_command", __package__).run(request)
        sys.stdout.flush()
        return status
    except Usage as error:
        return _wrong(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output left; say nothing, not even at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        return _wrong(f"{error.filename or 'a file'}: {error.strerror or error}.")
    except KeyboardInterrupt:
        print("ravine: interrupted.", file=sys.stderr)
        return INTERRUPTED


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a line of ours: the place in the code that Python would add tells a user of commands nothing."""
    text = f"ravine: {' '.join(str(message).split())}\n"
    if not issubclass(category, UserWarning):  # meant for those who write code
        text = warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=file or sys.stderr, flush=True)


def _wrong(sentence: str) -> int:
    print(f"ravine: {sentence}", file=sys.stderr)
    return 2
