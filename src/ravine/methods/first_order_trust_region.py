"""First-order trust region: the minimiser of the linear model in a ball.

    s = argmin_{|s| ≤ Δ} gᵀs = −Δg/|g|,   ρ = (L(θ) − L(θ + s))/(Δ|g|)

    ρ < η         rejected, Δ ← Δ·`shrink`, another trial
    η ≤ ρ < ¼     Δ ← Δ·`shrink`
    ρ ≥ ¾         Δ ← Δ·`grow`

The loop, cost, memory and the decrease near rounding are those of `gain_ratio_gradient`. The linear model always asks
for a step to the boundary, so Δ must fall with |g| for the method to converge: that is what the second line is for.

Deviation  Δ is kept in [1e-15, 1e15].
Reference  Conn, Gould & Toint (2000), Trust-Region Methods, SIAM, chapter 6.
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from ..checks import require_real
from .gain_ratio_gradient import AbstractGainRatio

POOR, GOOD = 0.25, 0.75
RANGE = (1e-15, 1e15)


class FirstOrderTrustRegion(AbstractGainRatio):
    """First-order trust region, s = −Δg/|g|.

    `radius`: first Δ > 0. `threshold`: η, the smallest accepted gain ratio. `shrink` < 1 < `grow`: factors of Δ.
    `max_trials`: trials in one step. Raises ValueError or TypeError for options out of range.
    """

    radius: float = 1.0
    threshold: float = 0.1
    shrink: float = 0.5
    grow: float = 2.0
    max_trials: int = eqx.field(static=True, default=30)

    control_name: ClassVar[str] = "radius"

    def __check_init__(self):
        require_real(self, "radius", 0.0, float("inf"), why="it is a length")
        require_real(self, "shrink", 0.0, 1.0, why="Δ is multiplied by it after a poor step")
        require_real(self, "grow", 1.0, float("inf"), why="Δ is multiplied by it after a good step")

    def start(self, grad_norm):
        return jnp.full_like(grad_norm, self.radius)

    def length(self, control, grad_norm):
        return control / grad_norm

    def judge(self, control, rho, accepted):
        factor = jnp.where(accepted & (rho >= GOOD), self.grow, 1.0)
        return jnp.clip(control * jnp.where(accepted & (rho >= POOR), factor, self.shrink), *RANGE)
