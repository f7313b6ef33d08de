"""What of a run goes into a checkpoint, and how a loop takes it up again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ..records import decode_row
from . import checkpoint as ckpt
from .clock import Clock

if TYPE_CHECKING:
    from .loop import Loop


def save(loop: Loop, finished: Mapping[str, Any] | None) -> None:
    """Write a checkpoint; `finished` is the verdict of a run that has ended."""
    state = loop.state if loop.state is not None else ()
    arrays = ckpt.pack("params", loop.params) | ckpt.pack("state", state)
    arrays |= ckpt.pack("objective", loop.objective) | ckpt.pack("streaks", loop.streaks)
    arrays |= loop.watch.pack()
    meta = {
        "fingerprint": loop.setup.fingerprint,
        "step": loop.k,
        "stage": loop.stage,
        "stage_start": loop.stage_start,
        "ended": loop.ended,
        # A row waits for its step to be complete; if it still waits, it is scored again on resume.
        "recorded": loop.recorded if loop.pending is None else loop.recorded - 1,
        "rows": loop.rows,
        "totals": loop.totals,
        # A row that is scored again on resume is checked again.
        "checks": loop.checks - int(loop.pending is not None and "loss" in loop.pending),
        "seconds": loop.clock.seconds,
        "cpu_seconds": loop.clock.cpu,
        "wall_seconds": loop.clock.wall,
        "compile_seconds": loop.compile_seconds,
        "watch": loop.watch.meta(),
        "finished": finished,
    }
    assert loop.setup.checkpoint is not None
    ckpt.write(loop.setup.checkpoint, loop.k, arrays, meta)


def restore(loop: Loop, saved: ckpt.Saved) -> None:
    """Take up a run where its checkpoint left it. Raises CheckpointError when the arrays do not fit."""
    meta, arrays = saved.meta, saved.arrays
    loop.k, loop.stage, loop.stage_start = meta["step"], meta["stage"], meta["stage_start"]
    loop.ended, loop.recorded = meta["ended"], meta["recorded"]
    loop.rows = [decode_row(r) for r in meta["rows"]]
    loop.totals, loop.checks = dict(meta["totals"]), meta["checks"]
    loop.params = ckpt.unpack("params", loop.params, arrays)
    loop.streaks = ckpt.unpack("streaks", loop.streaks, arrays)
    moved = ckpt.unpack("objective", loop.objective, arrays, exact=False)
    loop.watch.restore(arrays, meta["watch"], loop.params)
    loop.move(moved)
    if loop.stage >= 0:
        like = jax.eval_shape(lambda: loop.engine.start(loop.params, loop.key))
        loop.state = ckpt.unpack("state", jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), like), arrays)
    loop.clock = Clock(meta["seconds"], meta["cpu_seconds"], meta["wall_seconds"])
    loop.compile_seconds += meta["compile_seconds"]
