"""Nesterov's accelerated gradient: the gradient is taken at the extrapolated point.

    p = θ − αg,   θ⁺ = p + β(p − p₋)

    β = (t − 1)/t⁺,  t⁺ = (1 + √(1 + 4t²))/2,  t = 1 at the start and after a restart      (`momentum=None`)

or a constant. θ is the extrapolated point of the literature, and what the record describes; p is its sequence of
iterates. Step lengths, restarts, cost and memory are those of `accelerated_gradient`.

With α = 1/λmax the sequence t gives L(p_k) − L* ≤ 2λmax|θ₀ − θ*|²/(k + 1)² on a convex function; the constant
β = (√κ − 1)/(√κ + 1) gives an error that shrinks by √(1 − 1/√κ) per step on a strongly convex one, and by 1 − 1/√κ on
a quadratic. Restarts give the second kind of rate without knowing κ.

Reference  Nesterov (1983), Soviet Math. Dokl. 27(2); Nesterov (2018), Lectures on Convex Optimization, section 2.2.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp

from ..checks import require_real
from .accelerated_gradient import AbstractAccelerated


class Nesterov(AbstractAccelerated):
    """Nesterov's accelerated gradient, with the sequence t or a constant momentum, and restarts.

    `momentum`: β in [0, 1), or None for the sequence. `rule`: "armijo" or "fixed". `learning_rate`: α of "fixed", else
    the first trial of the run. `restart`: "function", "gradient" or "none". `c1`, `max_trials`: of the rule "armijo".
    Raises ValueError or TypeError for options out of range.
    """

    momentum: float | None = None
    rule: str = eqx.field(static=True, default="armijo")
    restart: str = eqx.field(static=True, default="function")
    learning_rate: float = 1e-3
    c1: float = 0.5
    max_trials: int = eqx.field(static=True, default=30)

    def __check_init__(self):
        if self.momentum is not None:
            require_real(self, "momentum", 0.0, 1.0, why="momentum 1 never forgets a step", ends="[)")

    def tip(self, theta, plain):
        return plain

    def weight(self, t):
        after = 0.5 * (1 + jnp.sqrt(1 + 4 * t * t))
        if self.momentum is None:
            return (t - 1) / after, after
        return jnp.asarray(self.momentum, t.dtype), t
