"""Stochastic Levenberg-Marquardt: random Gauss-Newton models, regularised by the gradient over the radius.

    (G + γI) s = −g,   γ = |g|/Δ,     g on a sample of b·(Δ₀/Δ)² rows, G = JᵀQJ of a part of it

so that |s| ≤ |g|/γ = Δ whatever G is: 1/Δ takes the place of Levenberg-Marquardt's λ and is doubled where the step
fails and halved where it does not, and the theory of random trust-region models holds. Rows that judge a step, and the
test of |g| against Δ, are the engine's (`random_model`). The system is solved by conjugate gradients on products.

Needs      FINITE_SUM and COMPOSITE (least squares, or a convex function of outputs).
Cost/step  the engine's, and per CG iteration one forward and one reverse sweep over one in `part` rows of A, both
           linear; where those rows are more than one block, and not all, each block is linearised anew in every
           iteration (kept, the blocks would hold the intermediates of all rows, while samples are to be small).
Memory     the engine's, 5 P, and the intermediates of a sweep over one block, or over all rows.
Deviations the engine's; the paper's stationarity measures for least squares with zero residual are not used.
Reference  Bergou, Diouane, Kungurtsev & Royer (2022), SIAM/ASA J. Uncertain. Quantif. 10(1), arXiv:1807.02176;
           Bergou, Gratton & Vicente (2016), SIAM/ASA J. Uncertain. Quantif. 4(1) (γ from |g|).
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..linalg.conjugate_gradients import Product, Within, within
from ..types import Params, Structure, batch_work
from .growing_sample import Blocks
from .hessian_free import rows_product
from .random_model import AbstractRandomModel, Trial


class StochasticLM(AbstractRandomModel):
    """Levenberg-Marquardt with random Gauss-Newton models: samples grow as the regularisation does.

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

    needs: ClassVar[Structure] = Structure.FINITE_SUM | Structure.COMPOSITE

    def propose(self, curved, count, params, grad, radius):
        gamma = jnp.linalg.norm(grad) / radius
        found = self._solved(curved, count, params, grad, gamma)
        # m(s) is without the regularisation: sᵀGs = sᵀ(G + γI)s − γ|s|².
        curvature = found.x @ found.product - gamma * (found.x @ found.x)
        predicted = -(grad @ found.x) - 0.5 * curvature
        sweeps = found.iterations
        return Trial(found.x, predicted, batch_work(curved.rows(params, count), jvp=sweeps, vjp=sweeps))

    def _solved(self, curved: Blocks, count: Array, params: Params, grad: Array, gamma: Array) -> Within:
        """CG on (G + γI)s = −g. What can be linearised before its loop is: one block, or the whole sum."""

        def solve(curvature: Product) -> Within:
            product = lambda v: curvature(v) + gamma * v
            return within(product, -grad, tolerance=self.tolerance, max_iterations=self.iterations)

        def one() -> Within:
            return solve(gauss_newton_product(curved.block(0), params))

        def several() -> Within:
            return solve(lambda v: curved.mean(lambda f: gauss_newton_product(f, params)(v), count))

        def whole() -> Within:
            return solve(gauss_newton_product(curved.objective, params))

        if curved.number == 1:
            return whole()
        if self.part > 1:  # a part is never the whole
            return jax.lax.cond(count == 1, one, several)
        which = jnp.where(count == 1, 0, jnp.where(count < curved.number, 1, 2))
        return jax.lax.switch(which, [one, several, whole])


def gauss_newton_product(objective, params: Params) -> Product:
    """v -> JᵀQJ v of one objective, linearised here and once."""
    local = objective.linearize(params)
    rows = rows_product(local)
    back = jax.linear_transpose(rows, local.theta)
    return lambda v: back(rows(v))[0]
