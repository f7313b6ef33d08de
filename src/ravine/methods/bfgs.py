"""BFGS: the dense quasi-Newton update of Broyden, Fletcher, Goldfarb and Shanno.

    H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ,   ρ = 1/(yᵀs)

This is the engine's update with φ = 1 and τ = 1. With `scale_first` the identity is multiplied by sᵀy/(yᵀy) before
the first update. Equations, needs, cost, memory and deviations: see `dense_quasi_newton`.

Reference  Nocedal & Wright (2006), Numerical Optimization, sections 6.1 (update) and 6.1, eq. 6.20 (first scaling).
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp

from .dense_quasi_newton import AbstractDenseQuasiNewton, Scaling


class BFGS(AbstractDenseQuasiNewton):
    """See module docstring. The first trial move is at most `first_step` long. Raises ValueError for options out of
    range."""

    scale_first: bool = eqx.field(static=True, default=True)
    first_trial: str = eqx.field(static=True, default="unit")
    first_step: float = 1.0
    c1: float = 1e-4
    c2: float = 0.9
    max_trials: int = eqx.field(static=True, default=25)

    def scaling(self, b, h, fresh, size):
        one = jnp.ones_like(b)
        return Scaling(jnp.where(fresh, h, one) if self.scale_first else one, one)
