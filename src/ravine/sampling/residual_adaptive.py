"""Residual-based adaptive distribution (RAD): all points redrawn with density following the residual.

    p(x) ∝ |r(x)|^power / mean |r|^power + constant,   from a fresh pool of pool · n points, every `every` steps.

Points that the problem calls unresolvable stay. Negative result on record: on Allen-Cahn, redrawing unconditionally
every 10 steps stopped progress where a guard that acts only on evidence did not; see `PointGuard`.

Needs      residual rows (LeastSquares) and a source of fresh points.
Cost/act   pool + 1 residual evaluations.
Memory     the pool, `pool` times the points.
Reference  Wu, Zhu, Tan, Kartha, Lu (2023), CMAME 403, 115671, arXiv:2207.10289.
"""

from __future__ import annotations

import numpy as np

from .base import (
    Look,
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


class ResidualAdaptive(Sampler):
    """See module docstring. Raises ValueError for a non-positive `every` or `pool`, or a negative `power` or
    `constant`; terms with quadrature weights, coupled terms and measured data keep their points."""

    every: int | None = 500
    power: float = 1.0
    constant: float = 1.0
    pool: int = 4

    def __check_init__(self):
        check_every(self)
        total = self.power + self.constant
        if not (self.pool >= 1 and self.power >= 0 and self.constant >= 0 and 0 < total < float("inf")):
            raise ValueError(
                f"ResidualAdaptive(power={self.power}, constant={self.constant}, pool={self.pool}): power and constant "
                "must be nonnegative and finite, not both zero, and pool at least 1."
            )

    def check(self, objective) -> str | None:
        return needs_residual(self, objective)

    def act(self, objective, params, state, source, seed, step) -> Look:
        parts, qs, loss, pools = {}, [], 0.0, {}
        for name in movable(objective, source):
            term = objective.parts[name]
            pool = draw_pool(objective, params, name, pool_size(term.n, self.pool), source, seed, step)
            finite = np.isfinite(pool.squares)
            size = np.where(finite, pool.squares, 0.0) ** (self.power / 2)
            density = np.where(finite, size / max(float(np.mean(size)), np.finfo(float).tiny) + self.constant, 0.0)
            movers = np.flatnonzero(resolvable(source, name, term.points))
            index = pick(density, len(movers), rng(seed, step, name + "/rad"))
            parts[name] = term.with_points(exchange(term.points, movers, choose(pool.points, index)))
            qs.append(pool.q)
            loss += 0.5 * scalar_weight(term) * pool.mean
            pools[name] = len(density)
        if not parts:
            return Look(objective, state)
        return Look(objective.replace(**parts), state, True, max(qs), loss, sweeps(objective, pools))
