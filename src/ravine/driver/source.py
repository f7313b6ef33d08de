"""Which code is running: versions of packages and the commit of this one. Imports no JAX."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
from pathlib import Path

RESULTS = ("benchmarks/results", "benchmarks/suite")  # folders of a checkout that no run depends on


@functools.cache
def version(package: str) -> str | None:
    """The installed version, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def commit() -> str | None:
    """The commit of ravine's own source tree when it runs from a checkout; '+' marks local changes.

    Changed results are none: a benchmark that writes them would mark its own next run.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        head = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
        found = subprocess.run(head, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
        dirty = ["git", "-C", str(root), "--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]
        dirty += ["--", ".", *(f":(exclude){path}" for path in RESULTS)]
        changed = subprocess.run(dirty, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return found + ("+" if changed else "")


def code() -> dict[str, str | None]:
    """Which code makes a run, for the record of one that may not live to write its provenance."""
    return {"ravine": version("ravine"), "commit": commit()}
