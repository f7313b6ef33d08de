"""Self-scaled BFGS: H is divided by τ before every BFGS update.

    b = sᵀH⁻¹s/(sᵀy),    OL: τ = 1/b (Oren and Luenberger),    AB: τ = min(1, 1/b) (Al-Baali)

The first update scales the identity by 1/h = sᵀy/(yᵀHy). The rest is the engine's: see `dense_quasi_newton`.

Reference  Oren & Luenberger (1974), Management Science 20(5); Al-Baali (1998), Comput. Optim. Appl. 9;
           Urbán, Stefanou & Pons (2025), J. Comput. Phys. 523, arXiv:2405.04230.
"""

from __future__ import annotations

import equinox as eqx

from ..checks import require_choice
from ..directions.broyden import BFGS_VARIANTS, self_scaled_bfgs
from .dense_quasi_newton import AbstractDenseQuasiNewton


class SSBFGS(AbstractDenseQuasiNewton):
    """See module docstring. The first trial move is at most `first_step` long. Raises ValueError for options out of
    range."""

    variant: str = eqx.field(static=True, default="AB")
    first_trial: str = eqx.field(static=True, default="decrease")
    first_step: float = 1.0
    c1: float = 1e-4
    c2: float = 0.9
    max_trials: int = eqx.field(static=True, default=25)

    def __check_init__(self):
        require_choice(self, "variant", BFGS_VARIANTS)

    def scaling(self, b, h, fresh, size):
        return self_scaled_bfgs(b, h, fresh, self.variant)
