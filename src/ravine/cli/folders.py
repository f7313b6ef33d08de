"""Where runs go: a folder the user names, which must be new or empty, or the next free one under runs/."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from .parse import Usage

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def choose(out: str | None, name: str) -> Path:
    """The folder of a run, not yet made. Raises Usage if `out` is a file or is not empty."""
    if out is None:
        return free(Path("runs") / slug(name))
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise Usage(f"--out {out}: is a file; name a folder, such as {free(path)}.")
    if path.is_dir() and any(path.iterdir()):
        beside = path if path.name not in ("", "..") else path / slug(name)  # `.` and `/` have no name to number
        raise Usage(f"--out {out}: is not empty; name a new folder, such as {free(beside)}.")
    return path


def choose_known(out: str | None) -> Path:
    """The folder of a comparison to continue: it holds one, or is new or empty. Raises Usage."""
    if out is None:
        raise Usage("--continue: name the folder of the comparison with --out.")
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise Usage(f"--out {out}: is a file; name the folder of the comparison.")
    if path.is_dir() and any(path.iterdir()) and not (path / "compare.json").is_file():
        raise Usage(f"--out {out}: holds no comparison to continue, for there is no compare.json in it.")
    return path


@contextmanager
def held(folder: Path) -> Generator[None]:
    """Keep `folder` for one comparison until it ends or dies, where the system can lock a folder. Raises Usage."""
    lock = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if fcntl and lock is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Usage(
                    f"{folder}: another comparison is at work there; wait for it, or name another folder with --out."
                ) from None
            except OSError:
                pass  # a file system without locks
        yield
    finally:
        if lock is not None:
            os.close(lock)


def free(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... that does not exist."""
    return next(p for n in count(1) if not (p := path if n == 1 else path.with_name(f"{path.name}-{n}")).exists())


def slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", name).strip("-.") or "run"


def run_name(problem: str, method: str) -> str:
    return slug(f"{problem}-{method.replace(':', '')}")
