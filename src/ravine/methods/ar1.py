"""AR1: first-order adaptive regularisation.

    s = argmin gᵀs + (σ/2)|s|² = −g/σ,   ρ = (L(θ) − L(θ + s))/(−gᵀs)

    ρ < η       rejected, σ ← σ·`increase`, another trial
    ρ ≥ ¾       σ ← σ·`decrease`
    between     σ stays

The loop, cost, memory and the decrease near rounding are those of `gain_ratio_gradient`. At most O(ε⁻²) steps reach
|g| ≤ ε on a function whose gradient is Lipschitz; on a quadratic ρ = 1 − λ/(2σ) for the Rayleigh quotient λ of g, so σ
settles between λ/(2(1 − η)) and 2λ.

Deviation  σ is kept in [1e-15, 1e15].
Reference  Cartis, Gould & Toint (2022), Evaluation Complexity of Algorithms for Nonconvex Optimization, SIAM
           (AR1); Birgin, Gardenghi, Martínez, Santos & Toint (2017), Math. Program. 163 (the family ARp).
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from ..checks import require_real
from .gain_ratio_gradient import AbstractGainRatio

VERY_SUCCESSFUL = 0.75
RANGE = (1e-15, 1e15)


class AR1(AbstractGainRatio):
    """AR1: first-order adaptive regularisation, s = −g/σ.

    `sigma`: first σ > 0. `threshold`: η, the smallest accepted gain ratio. `decrease` < 1 < `increase`: factors of σ.
    `max_trials`: trials in one step. Raises ValueError or TypeError for options out of range.
    """

    sigma: float = 1.0
    threshold: float = 0.1
    decrease: float = 0.5
    increase: float = 2.0
    max_trials: int = eqx.field(static=True, default=30)

    control_name: ClassVar[str] = "sigma"

    def __check_init__(self):
        require_real(self, "sigma", 0.0, float("inf"), why="the regularised model has a minimiser for σ > 0 only")
        require_real(self, "decrease", 0.0, 1.0, why="σ is multiplied by it after a very good step")
        require_real(self, "increase", 1.0, float("inf"), why="σ is multiplied by it after a rejection")

    def start(self, grad_norm):
        return jnp.full_like(grad_norm, self.sigma)

    def length(self, control, grad_norm):
        return 1 / control

    def judge(self, control, rho, accepted):
        factor = jnp.where(accepted, jnp.where(rho >= VERY_SUCCESSFUL, self.decrease, 1.0), self.increase)
        return jnp.clip(control * factor, *RANGE)
