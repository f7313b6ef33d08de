"""Files of JSON objects, one a line, as a program that may be killed at any moment leaves them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from ..records import dumps


class Found(NamedTuple):
    objects: list[dict[str, Any]]
    notes: list[str]  # what was left out, a sentence each


def read_objects(path: Path | str) -> Found:
    """The objects of a file. A line that was cut short is left out with a note.

    A line counts as cut short if it is the beginning of an object whose end is lacking; `append_object` goes on in a
    new line, so there may be some before the last. Raises ValueError, one sentence, for any other line.
    """
    objects, notes = [], []
    for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1):
        try:
            found = json.loads(line)
        except ValueError:
            if not _cut_short(line.decode(errors="replace")):
                raise ValueError(f"`{path}`, line {number}, is not JSON: not written by ravine, or damaged.") from None
            notes.append(f"Line {number} of {Path(path).name} was cut short and is left out.")
            continue
        if not isinstance(found, dict):
            raise ValueError(f"`{path}`, line {number}, is not an object.")
        objects.append(found)
    return Found(objects, notes)


def _cut_short(line: str) -> bool:
    """Whether an object begins and never ends: a brace or a string is still open."""
    depth, inside, escaped = 0, False, False
    for letter in line:
        if escaped:
            escaped = False
        elif inside:
            escaped, inside = letter == "\\", letter != '"'
        else:
            inside = letter == '"'
            depth += (letter == "{") - (letter == "}")
    return line.startswith("{") and (depth > 0 or inside)


def append_object(path: Path | str, value: dict[str, Any]) -> None:
    """Add one line in one write, on disk when this returns; a last line that was cut short stays a line of its own.

    Raises OSError if the line did not fit on the disk.
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        cut = size > 0 and file.read(1) != b"\n"
        line = (b"\n" if cut else b"") + dumps(value).encode() + b"\n"
        written = file.write(line)
        if written != len(line):  # without a buffer a full disk takes what fits, and raises nothing
            raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes were written", str(path))
        os.fsync(file.fileno())
