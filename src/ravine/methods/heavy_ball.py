"""Heavy ball: gradient descent with inertia.

    θ⁺ = θ − αg + β(θ − θ₋)

Step lengths, restarts, cost and memory are those of `accelerated_gradient`. On a quadratic with eigenvalues in [μ, λ]
the best fixed choice is α = 4/(√λ + √μ)² and β = ((√κ − 1)/(√κ + 1))², κ = λ/μ; the error then shrinks by √β per step,
up to a factor that grows linearly.

Reference  Polyak (1964), USSR Comput. Math. Math. Phys. 4(5).
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp

from ..checks import require_real
from .accelerated_gradient import AbstractAccelerated


class HeavyBall(AbstractAccelerated):
    """Heavy ball: gradient descent with inertia, θ⁺ = θ − αg + β(θ − θ₋).

    `momentum`: β in [0, 1). `rule`: "armijo" or "fixed". `learning_rate`: α of "fixed", else the first trial of the
    run. `restart`: "function", "gradient" or "none". `c1`, `max_trials`: of the rule "armijo".
    Raises ValueError or TypeError for options out of range.
    """

    momentum: float = 0.99
    rule: str = eqx.field(static=True, default="armijo")
    restart: str = eqx.field(static=True, default="function")
    learning_rate: float = 1e-3
    c1: float = 0.5
    max_trials: int = eqx.field(static=True, default=30)

    def __check_init__(self):
        require_real(self, "momentum", 0.0, 1.0, why="momentum 1 never forgets a step", ends="[)")

    def tip(self, theta, plain):
        return theta

    def weight(self, t):
        return jnp.asarray(self.momentum, t.dtype), t
