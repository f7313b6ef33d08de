"""STORM: a trust-region method with random models and random values of the objective.

    s ≈ argmin gᵀs + ½sᵀHs  over  |s| ≤ Δ,     g on a sample of b·(Δ₀/Δ)² rows, H on a part of it

by truncated conjugate gradients: a direction of negative curvature is followed to the boundary. What is done with s,
and how values on changing samples are compared, is the engine's (`random_model`).

Needs      FINITE_SUM.
Cost/step  the engine's, and per CG iteration a Hessian-vector product on one in `part` rows of A.
Memory     the engine's, and 5 P.
Deviations the engine's; the radius is doubled also after a step inside it, as in the paper.
Reference  Chen, Menickelly & Scheinberg (2018), Math. Program. 169, arXiv:1504.04231; Steihaug (1983), SIAM J. Numer.
           Anal. 20(3).
"""

from __future__ import annotations

import equinox as eqx

from ..types import batch_work
from .random_model import AbstractRandomModel, Trial, in_ball


class STORMTrustRegion(AbstractRandomModel):
    """STORM: a trust-region method whose samples grow as its radius shrinks.

    `radius`: Δ₀, best the length of the way to go. `batch`: b, rows of the least sample. `accept`: η₁ in (0, 1).
    `enough`: η₂ > 0. `part`: one in `part` blocks gives curvature. `iterations`: the most of CG. `tolerance`: CG ends
    at this share of |g|. Raises ValueError or TypeError for options out of range.
    """

    radius: float = 1.0
    batch: int = eqx.field(static=True, default=64)
    accept: float = 0.1
    enough: float = 0.01
    part: int = eqx.field(static=True, default=4)
    iterations: int = eqx.field(static=True, default=20)
    tolerance: float = 0.1

    def propose(self, curved, count, params, grad, radius):
        move, predicted, products = in_ball(curved, count, params, grad, radius, self.tolerance, self.iterations)
        return Trial(move, predicted, batch_work(curved.rows(params, count), hvp=products))
