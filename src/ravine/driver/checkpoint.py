"""Checkpoints: arrays and JSON in one .npz, never pickle; written atomically; the last two are kept.

A checkpoint holds everything that decides the next step: parameters, method state, points and weights, sampler
state, streaks, totals, and the rows so far. A truncated or foreign file is refused with a sentence and the last
good one is used instead.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..records import dumps
from ..static import is_array
from .fingerprint import is_key, plain
from .notice import warn

KEEP = 2
_META = "meta.json"


class Saved(NamedTuple):
    """A checkpoint read back: arrays by name, and the JSON part."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with the reason as a sentence."""


def write(folder: Path, step: int, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Path:
    """Write step-<n>.npz atomically and drop all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:012d}.npz"
    text = np.frombuffer(dumps(meta).encode(), dtype=np.uint8)
    entries: dict[str, Any] = {_META: text, **arrays}
    temporary = folder / f".{path.name}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:  # straight into the file: a state may take half of the memory
        np.savez(file, **entries)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    for old in sorted(folder.glob("step-*.npz"))[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def read(path: Path) -> Saved:
    """One checkpoint file. Raises CheckpointError when it is truncated, corrupt or not ours."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(arrays.pop(_META).tobytes().decode())
        if not isinstance(meta, dict) or "step" not in meta:
            raise ValueError("it has no step")
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"checkpoint {path.name} cannot be read ({error}); it is truncated or foreign.") from None
    return Saved(arrays, meta)


def latest(folder: Path, expected: str | None) -> Saved | None:
    """The newest good checkpoint, None if the folder has none at all. A bad one is named in a warning and skipped.

    Raises CheckpointError when checkpoints exist but none can be used, or the fingerprint differs.
    """
    files = sorted(folder.glob("step-*.npz"), reverse=True)
    problems = []
    for path in files:
        try:
            saved = read(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        found = saved.meta.get("fingerprint")
        if expected is not None and found != expected:
            raise CheckpointError(
                f"checkpoint {path} belongs to another run (different objective, method, parameters, seed or "
                "precision); give a new checkpoint path, or repeat the call that wrote it."
            )
        for problem in problems:
            warn(f"{problem} The previous checkpoint (step {saved.meta['step']}) is used.")
        return saved
    if problems:
        raise CheckpointError(problems[0] + " No earlier checkpoint is left.")
    return None


def pack(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    """The array leaves of a tree, numbered in flattening order (typed keys as their data)."""
    leaves = [x for x in jax.tree.leaves(tree) if is_array(x)]
    return {f"{prefix}/{i}": plain(x) for i, x in enumerate(leaves)}


def unpack(prefix: str, like: Any, arrays: dict[str, np.ndarray], exact: bool = True) -> Any:
    """A tree shaped like `like` with the stored leaves. `exact=False` lets leading sizes differ (moved points)."""
    leaves, treedef = jax.tree.flatten(like)
    out, i = [], 0
    for leaf in leaves:
        if not is_array(leaf):
            out.append(leaf)
            continue
        stored = arrays.get(f"{prefix}/{i}")
        i += 1
        want = plain(leaf)
        same = stored is not None and stored.dtype == want.dtype and stored.ndim == want.ndim
        if stored is None or not same or (exact and stored.shape != want.shape):
            raise CheckpointError(f"the checkpoint's {prefix} do not match this run's; give a new checkpoint path.")
        out.append(_restore(stored, leaf))
    return jax.tree.unflatten(treedef, out)


def _restore(stored: np.ndarray, like: Any) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(stored)) if is_key(like) else jnp.asarray(stored)
