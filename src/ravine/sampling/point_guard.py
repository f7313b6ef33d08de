"""The point guard: leave the points alone until a fresh pool says that they no longer tell the truth.

At each look, for every movable term, with q = mean |r|² on a fresh pool / mean |r|² on the training points:

    q ≤ threshold         nothing changes (and the count of consecutive alarms is set to 0)
    an alarm              a random `swap` of the points is replaced by pool points drawn from
                          p = mix · |r| / Σ|r| + (1 − mix) / m
    3rd alarm in a row    while 2 N is at most `growth` times the first, N doubles instead, new points drawn from p

Points that the problem calls unresolvable (beside a singularity of its data) count for nothing and stay where they are.
Deterministic given the seed. The loss jumps when points change. N only doubles, since a new N means a new compilation,
on the clock; by default it does not.
Measured with Levenberg-Marquardt, 40 s of one core, seed 0: Burgers (nu = 0.01/pi) with fixed points ends at training
loss 2e-13 and error 6e-4 (q = 6e7), with the guard at 2e-7, with growth 2 at 4e-7. Leaving the largest 0.3 % of the
residuals out of q and p ends at 5e-5: they mark the shock.

Needs      residual rows (LeastSquares) and a source of fresh points.
Cost/look  pool + 1 residual evaluations.
Memory     the pool, `pool` times the points.
Reference  ravine's own (the q statistic and the swap); residual-proportional draws as in Wu, Zhu, Tan, Kartha & Lu
           (2023), CMAME 403, 115671, arXiv:2207.10289.
"""

from __future__ import annotations

import jax
import numpy as np

from ..objective import Term
from .base import (
    Look,
    Pool,
    Sampler,
    check_every,
    choose,
    draw_pool,
    exchange,
    movable,
    needs_residual,
    pick,
    pool_size,
    resolvable,
    rng,
    scalar_weight,
    sweeps,
)

_PATIENCE = 3  # alarms in a row before N doubles


class PointGuard(Sampler):
    """See module docstring. `every=None` lets the method say how often it can afford a look.

    Raises ValueError for values outside: threshold > 1, 0 < swap ≤ 1, 0 ≤ mix ≤ 1, pool ≥ 1, growth ≥ 1.
    """

    every: int | None = None
    threshold: float = 2.0
    swap: float = 0.2
    mix: float = 0.6
    pool: int = 4
    growth: int = 1

    def __check_init__(self):
        check_every(self)
        good = self.threshold > 1 and 0 < self.swap <= 1 and 0 <= self.mix <= 1 and self.pool >= 1 and self.growth >= 1
        if not good:
            raise ValueError(
                f"PointGuard(threshold={self.threshold}, swap={self.swap}, mix={self.mix}, pool={self.pool}, growth="
                f"{self.growth}): need threshold > 1, swap in (0, 1], mix in [0, 1], pool >= 1 and growth >= 1."
            )

    def check(self, objective) -> str | None:
        return needs_residual(self, objective)

    def start(self, objective) -> dict[str, np.ndarray]:
        state: dict[str, np.ndarray] = {}
        for name, term in objective.parts.items():
            state[f"{name}/alarms"] = np.asarray(0)
            state[f"{name}/first_n"] = np.asarray(term.n)
        return state

    def act(self, objective, params, state, source, seed, step) -> Look:
        parts, qs, loss, pools, notes = {}, [], 0.0, {}, []
        state = dict(state)
        names = movable(objective, source)
        for name in names:
            term, first = objective.parts[name], int(state[f"{name}/first_n"])
            size = pool_size(max(self.pool * first, term.n), 1)  # a doubling takes as many points as there are
            pool = draw_pool(objective, params, name, size, source, seed, step)
            qs.append(pool.q)
            loss += 0.5 * scalar_weight(term) * pool.mean
            pools[name] = size
            alarms = int(state[f"{name}/alarms"]) + 1 if pool.q > self.threshold else 0
            if alarms:
                grow = alarms >= _PATIENCE and 2 * term.n <= self.growth * first
                movers = np.flatnonzero(resolvable(source, name, term.points))
                parts[name] = self._moved(term, pool, grow, movers, rng(seed, step, name + "/guard"))
                if grow:
                    alarms = 0
                    notes.append(f"{name}: {term.n} -> {2 * term.n} points")
            state[f"{name}/alarms"] = np.asarray(alarms)
        if not names:
            return Look(objective, state)
        moved = objective.replace(**parts) if parts else objective
        return Look(moved, state, bool(parts), max(qs), loss, sweeps(objective, pools), "; ".join(notes) or None)

    def _moved(self, term: Term, pool: Pool, grow: bool, movers: np.ndarray, generator: np.random.Generator) -> Term:
        size = np.sqrt(np.where(np.isfinite(pool.squares), pool.squares, 0.0))
        total = float(size.sum())
        density = self.mix * size / total + (1 - self.mix) / len(size) if total > 0 else size
        density = np.where(np.isfinite(pool.squares), density, 0.0)
        count = term.n if grow else max(1, round(self.swap * len(movers)))
        drawn = choose(pool.points, pick(density, count, generator))
        if grow:
            join = lambda old, new: np.concatenate([np.asarray(old), np.asarray(new)])
            return _spread_weight(term, jax.tree.map(join, term.points, drawn))
        out = generator.choice(movers, count, replace=False)
        return term.with_points(exchange(term.points, out, drawn))


def _spread_weight(term: Term, points) -> Term:
    """More rows under the same weight; per-row weights belong to rows and cannot be carried to new ones."""
    weight = term.weight if np.ndim(term.weight) == 0 else np.asarray(scalar_weight(term))
    return Term(term.fn, points, weight, None, term.coupled)
