"""The driver's side of sampling: when to look, what moved, and which iterate the run stands by."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..method import Method
from ..objective import LeastSquares
from ..sampling.base import Source, draw_pool, movable, pool_size, scalar_weight
from ..types import Params
from . import checkpoint as ckpt
from .precision import cast
from .setup import Setup

_POOL = 4  # final look: pool points per training point


class Watch:
    """Sampler state, the record of its looks, and the iterate with the lowest fresh-pool residual."""

    def __init__(self, setup: Setup, objective, methods: tuple[Method, ...]):
        self.setup = setup
        self.state = setup.sampler.start(objective) if setup.sampler is not None else {}
        self.sweeps = 0.0
        self.q: float | None = None  # the latest look
        self.pool_loss: float | None = None  # of the returned parameters, at the last look
        self.moves = 0  # how often points changed
        told = [one.remark(objective) for one in (setup.sampler, *methods) if one is not None]
        self.notes: list[str] = list(dict.fromkeys(remark for remark in told if remark is not None))
        self.best: tuple[float, int, Params] | None = None  # (pool loss, step, parameters)
        self.acted_at = 0
        self.stood_by: Params | None = None
        self.acts = any(self.period(method) for method in methods)

    def period(self, method) -> int | None:
        """Steps between two looks, None if there are none."""
        sampler, source = self.setup.sampler, self.setup.source
        idle = sampler is None or (source is None and not sampler.batching)
        return None if idle else sampler.period(method)

    def batches(self, objective):
        """What draws the rows of each step at the sampler's present state, None where every step sees all rows."""
        sampler = self.setup.sampler
        return None if sampler is None else sampler.batches(objective, self.state, self.setup.seed)

    def compile(self, objective, params: Params) -> None:
        """One look thrown away, so that its programs are compiled before the clock starts."""
        sampler = self.setup.sampler
        if sampler is not None and self.acts:
            sampler.act(objective, params, self.state, self.setup.source, self.setup.seed, 0)
        if self.setup.source is not None and isinstance(objective, LeastSquares):
            for name in movable(objective, self.setup.source):
                n = pool_size(objective.parts[name].n, _POOL)
                draw_pool(objective, params, name, n, self.setup.source, self.setup.seed, 0)

    def act(self, objective, params: Params, method, step: int):
        """The moved objective, or None where nothing moved."""
        sampler, source, period = self.setup.sampler, self.setup.source, self.period(method)
        if sampler is None or not period or step == 0 or step % period or step == self.acted_at:
            return None
        look = sampler.act(objective, params, self.state, source, self.setup.seed, step)
        self.acted_at = step
        self.state, self.sweeps = look.state, self.sweeps + look.sweeps
        self.q = look.q if look.q is not None else self.q
        if look.note and look.note not in self.notes:
            self.notes.append(look.note)
        lowest = np.inf if self.best is None else self.best[0]
        if look.pool_loss is not None and look.pool_loss < lowest:
            self.best = (look.pool_loss, step, params)
        if not look.changed:
            return None
        if look.objective is objective:  # another batch size, the same points
            return objective
        self.moves += 1
        return cast(look.objective, self.setup.dtype)

    def final(self, objective, params: Params, step: int, swap: bool) -> tuple[Params, int, float | None]:
        """(returned parameters, their step, q): the last iterate, or with `swap` the best one where that is better.
        Both candidates are compared on one and the same fresh pool."""
        source = self.setup.source
        if source is None or not isinstance(objective, LeastSquares):
            return params, step, None
        loss, q = self._look(objective, params, source, step)
        self.pool_loss = loss
        if not swap or self.best is None or not self.moves or self.best[1] == step:
            return params, step, q
        other_loss, other_q = self._look(objective, self.best[2], source, step)
        if np.isfinite(other_loss) and (not np.isfinite(loss) or other_loss < loss):
            self.pool_loss = other_loss
            return self.best[2], self.best[1], other_q
        return params, step, q

    def settle(self, params: Params, q: float | None) -> None:
        """Remember the returned iterate, so that a finished checkpoint can return it again."""
        self.q = q if q is not None else self.q
        self.stood_by = params

    def returned(self, params: Params) -> Params:
        """The iterate a finished run returned; `params` where it returned its last."""
        return params if self.stood_by is None else self.stood_by

    def _look(self, objective, params: Params, source: Source, step: int) -> tuple[float, float | None]:
        loss, qs = 0.0, []
        for name in movable(objective, source):
            term = objective.parts[name]
            count = pool_size(term.n, _POOL)
            pool = draw_pool(objective, params, name, count, source, self.setup.seed, step + 1)
            loss += 0.5 * scalar_weight(term) * pool.mean
            qs.append(pool.q)
        return loss, max(qs, default=None)

    def mark(self) -> dict[str, Any]:
        """What `go_back` returns to: every attribute as it is now."""
        return vars(self) | {"notes": list(self.notes)}

    def go_back(self, marked: dict[str, Any]) -> None:
        vars(self).update(marked)

    # -- checkpoints -----------------------------------------------------------------------------------------
    def pack(self) -> dict[str, np.ndarray]:
        out = {f"sampler:{k}": np.asarray(v) for k, v in self.state.items()}
        out |= ckpt.pack("best", self.best[2]) if self.best is not None else {}
        return out | (ckpt.pack("stood_by", self.stood_by) if self.stood_by is not None else {})

    def meta(self) -> dict[str, Any]:
        best = None if self.best is None else [self.best[0], self.best[1]]
        kept = {"sweeps": self.sweeps, "q": self.q, "moves": self.moves, "notes": self.notes, "best": best}
        return kept | {"acted_at": self.acted_at}

    def restore(self, arrays: dict[str, np.ndarray], meta: dict[str, Any], like: Params) -> None:
        self.state = {k.removeprefix("sampler:"): v for k, v in arrays.items() if k.startswith("sampler:")}
        self.sweeps, self.q, self.moves = meta["sweeps"], meta["q"], meta["moves"]
        self.notes, self.acted_at = meta["notes"], meta["acted_at"]
        if meta["best"] is not None:
            self.best = (meta["best"][0], meta["best"][1], ckpt.unpack("best", like, arrays))
        if "stood_by/0" in arrays:
            self.stood_by = ckpt.unpack("stood_by", like, arrays)
