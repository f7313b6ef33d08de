"""SVRG: stochastic variance-reduced gradient.

    every m steps  θ̃ = θ,  μ = ∇L(θ̃);      v = ∇L_B(θ) − ∇L_B(θ̃) + μ,      θ⁺ = θ − αv

E v = ∇L(θ), and its variance vanishes as θ and θ̃ approach the minimiser, so a constant α converges. For rows f_i convex
and l-smooth, L μ-strongly convex, αl < ½ and `snapshot="random"`, snapshots obey E[L(θ̃_s) − L*] ≤ ρ^s [L(θ̃₀) − L*],

    ρ = 1/(μα(1 − 2lα)m) + 2lα/(1 − 2lα)        (Theorem 1 of the paper, for batches of one row)

The loop, needs, cost, memory and deviation are those of `snapshot_gradient`. It pays where N exceeds l/μ by far:
m ≈ l/μ steps of a few rows then do what one step on all rows would; where l/μ exceeds N it loses to L-BFGS, and a
linear problem with few parameters is Gauss-Newton's (`benchmarks/finite_sums.py`).
Reference  Johnson & Zhang (2013), NeurIPS 26.
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx

from .snapshot_gradient import AbstractSnapshot


class SVRG(AbstractSnapshot):
    """SVRG: stochastic variance-reduced gradient, a full gradient every `inner` steps.

    `learning_rate`: α, None for `share`/ℓ with the largest curvature ℓ met so far. `batch`: b, rows of one step in all
    terms. `inner`: m, None for 2N/b. `snapshot`: "last" or "random". Raises ValueError or TypeError for options out of
    range.
    """

    learning_rate: float | None = None
    share: float = 0.2
    batch: int = eqx.field(static=True, default=8)
    inner: int | None = eqx.field(static=True, default=None)
    snapshot: str = eqx.field(static=True, default="last")

    follows: ClassVar[bool] = False
