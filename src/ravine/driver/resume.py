"""`resume`: go on with a run of `solve` from its folder alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..records import has_checkpoint
from .budget import Budget
from .configuration import build
from .run import Run
from .solve import carry_out

# Entries of run.json that whoever started the run may have chosen: they do not follow from its configuration.
_KEPT = ("name", "problem", "method", "seed", "command", "task")


def resume(folder: str | Path, *, budget: Budget | None = None, progress: Callable | None = None) -> Run:
    """Go on with the run in `folder` from its last good checkpoint, exactly as if it had not stopped.

    budget    a larger budget than the run was given, which is the default
    progress  fn(row, loop) at recorded rows

    A run that is finished is returned as it stands, and its reason says so. Raises ValueError (one sentence) where
    the folder holds no run, no checkpoint, or a run with parts that run.json cannot hold (an own problem, an optax
    transformation): such a run goes on when `solve` or `minimize` is called again as before with the same `checkpoint`.
    """
    folder = Path(folder)
    stored = _read(folder / "run.json")
    configuration = stored.get("configuration")
    if not isinstance(configuration, dict) or "problem" not in configuration:
        why = stored.get("not_resumable") or "run.json does not say how it was called"
        raise ValueError(
            f"{folder} cannot be resumed from its files: {why}; call solve or minimize again as before with "
            f"checkpoint={str(folder / 'checkpoint')!r}."
        )
    if not has_checkpoint(folder):
        raise ValueError(
            f"{folder} holds no checkpoint to go on from: it was removed, or written elsewhere; call solve again as "
            "before with the checkpoint that it was given, or start a new run in another folder."
        )
    call = {name: build(value) for name, value in configuration.items()}
    call["budget"] = Budget(**call["budget"]) if budget is None else budget
    kept = {k: stored[k] for k in _KEPT if k in stored}
    return carry_out(**call, folder=folder, resumed=True, progress=progress, description=kept)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path.parent} holds no run: there is no run.json in it; name the folder given as out.")
    try:
        stored = json.loads(path.read_text(encoding="utf8"))
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        raise ValueError(f"{path} is not a record of a run: it was cut short or written by another program.")
    return stored
