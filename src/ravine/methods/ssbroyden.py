"""Self-scaled Broyden: τ and φ of every update are chosen to keep the eigenvalues of H together.

    b = sᵀH⁻¹s/(sᵀy),   h = yᵀHy/(sᵀy),   a = bh − 1 ≥ 0,   c = √(a/(1 + a))
    ρ⁻ = min(1, h(1 − c)),   θ⁻ = (ρ⁻ − 1)/a,   θ⁺ = 1/ρ⁻,   θ = max(θ⁻, min(θ⁺, (1 − b)/b))
    σ = 1 + aθ,   σₙ = σ^{1/(1−P)},   ρ = min(1, 1/b)
    τ = min(ρσₙ, σ) if θ ≤ 0,   ρ min(σₙ, 1/θ) otherwise;   at the first update h/σ
    φ = (1 − θ)/(1 + aθ)

θ and φ are the member of the family in terms of H⁻¹ and of H. The rest is the engine's: see `dense_quasi_newton`.
Deviation  where a < 1e-14 (s and Hy parallel: all members coincide) θ = 0.

Reference  Al-Baali (1998), Comput. Optim. Appl. 9, 191-203; Urbán, Stefanou & Pons (2025), J. Comput. Phys. 523,
           arXiv:2405.04230; Kiyani, Shukla, Urbán, Darbon & Karniadakis (2025), arXiv:2501.16371.
"""

from __future__ import annotations

import equinox as eqx

from ..directions.broyden import self_scaled_broyden
from .dense_quasi_newton import AbstractDenseQuasiNewton


class SSBroyden(AbstractDenseQuasiNewton):
    """See module docstring. The first trial move is at most `first_step` long. Raises ValueError for options out of
    range."""

    first_trial: str = eqx.field(static=True, default="decrease")
    first_step: float = 1.0
    c1: float = 1e-4
    c2: float = 0.9
    max_trials: int = eqx.field(static=True, default=25)

    def scaling(self, b, h, fresh, size):
        return self_scaled_broyden(b, h, fresh, size)
