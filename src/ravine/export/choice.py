"""Which problems and methods go into a benchmark folder, and whether it may be written. Imports no JAX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..registry import Entry, entries, find
from ..spec import is_plan


def choose(folder: Path, problems: Sequence[str], methods: Sequence[str]) -> tuple[list[Entry], list[Entry]]:
    """The problems and methods of these names, all where none are named.

    Raises LookupError for an unknown name and ValueError, one sentence: `folder` is a file or not empty, a method is a
    plan or of another library.
    """
    _check_folder(folder)
    return _chosen("problems", problems), _chosen("methods", [_single(name) for name in methods])


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"export benchopt: {folder} is a file; name a new or empty folder.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"export benchopt: {folder} is not empty; name a new or empty folder.")


def _chosen(kind: str, names: Sequence[str]) -> list[Entry]:
    found = [find(kind, name) for name in names] or list(entries(kind).values())
    return list(dict.fromkeys(found))


def _single(name: str) -> str:
    """A name of one method. Raises ValueError for a rival or a plan."""
    if "/" in name:
        raise ValueError(f"--methods {name}: is of another library; a solver for benchopt is one of ravine's methods.")
    if is_plan(name):
        raise ValueError(f"--methods {name}: is a plan; a solver for benchopt is one method, such as 'lm'.")
    return name
