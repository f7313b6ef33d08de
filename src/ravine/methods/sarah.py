"""SARAH: the stochastic recursive gradient.

    every m steps  v₀ = ∇L(θ₀);      v_t = ∇L_B(θ_t) − ∇L_B(θ_{t−1}) + v_{t−1},      θ_{t+1} = θ_t − αv_t

v is biased given θ_t, unlike SVRG's, but within one round it shrinks by itself: for f_i convex and l-smooth, L
μ-strongly convex and α < 2/l,

    E|v_t|² ≤ [1 − (2/(αl) − 1) μ²α²]^t E|v₀|²                       (Theorem 1 of the paper)
    E|∇L(θ̃_s)|² ≤ σ^s |∇L(θ̃₀)|²,   σ = 1/(μα(m + 1)) + αl/(2 − αl)     (Theorem 4; `snapshot="random"`)

The loop, needs, cost, memory and deviation are those of `snapshot_gradient`; a round of m steps here has the iterates
θ₀ … θ_{m−1} to draw from (the paper's m is one less).
Reference  Nguyen, Liu, Scheinberg & Takáč (2017), ICML, arXiv:1703.00102.
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx

from .snapshot_gradient import AbstractSnapshot


class SARAH(AbstractSnapshot):
    """SARAH: the stochastic recursive gradient, a full gradient every `inner` steps.

    `learning_rate`: α, None for `share`/ℓ with the largest curvature ℓ met so far. `batch`: b, rows of one step in all
    terms. `inner`: m, None for 2N/b. `snapshot`: "last" or "random". Raises ValueError or TypeError for options out of
    range.
    """

    learning_rate: float | None = None
    share: float = 0.2
    batch: int = eqx.field(static=True, default=8)
    inner: int | None = eqx.field(static=True, default=None)
    snapshot: str = eqx.field(static=True, default="last")

    follows: ClassVar[bool] = True
