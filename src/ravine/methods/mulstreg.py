"""MUlSTREG: stochastic multilevel adaptive regularisation.

    fine     s = argmin gᵀs + (λ/2)|s|² = −g/λ,                         g = ∇L_B(θ)
    coarse   m(s) = L_C(θ + s) + (g − ∇L_C(θ))ᵀs,  C ⊂ B;   `coarse_steps` times  s ← s − (∇m(s) + λs)/λ'
    ρ = (L_B(θ) − L_B(θ + s))/(m(0) − m(s)),      accepted if ρ ≥ η₁ and |g| ≥ η₂/λ
    λ ← λ/γ if accepted, else γλ

C is a uniform part of the rows of B, so the coarse model costs less; the linear term makes its slope at s = 0 that of
the fine one. For a fine step m(0) − m(s) = |g|²/λ. Fine and coarse steps take turns: `coarse_every` − 1 fine ones
between two coarse ones. λ' = 2λ: m is as smooth as L, and where λ has been found large enough for L a step 1/(2λ) is
safe for m + (λ/2)|·|². The finest level is a batch, not all rows.

How comparing values stays sound: L_B(θ) and L_B(θ + s) are values on the same rows, and none is carried to the next
step, whose batch is new. B made the step and judges it, so near the minimum ρ says too little; |g| ≥ η₂/λ drives λ up
where |g| is noise, and steps end.

Needs      FINITE_SUM.
Cost/step  fine: one gradient and one value over b rows (4 b); coarse: 4 b, and `coarse_steps` gradients and one
           value over b/`ratio` rows.
Memory     5 P.
Deviations (1) two levels in one space of parameters, both of rows; (2) decrease and gradient are estimated on the same
           batch; (3) λ is kept in [1e-15, 1e15]; (4) the coarse model is minimised by gradient steps.
Reference  Marini, Porcelli & Riccietti (2024), arXiv:2412.11630; Chen, Menickelly & Scheinberg (2018), Math. Program.
           169 (the stochastic acceptance test).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import require_count, require_real
from ..finite_sum import batch_sizes, draw, draw_part
from ..globalize.wolfe import flat_gradient
from ..linearization import dims
from ..method import Method
from ..types import Info, Status, Step, Structure, batch_work, counts

RANGE = (1e-15, 1e15)


class MUlSTREGState(NamedTuple):
    regularisation: Float[Array, ""]  # λ
    at: Int[Array, ""]  # steps since the last coarse one


class MUlSTREG(Method):
    """MUlSTREG: regularised gradient steps on batches, some from a coarse model on fewer rows.

    `regularisation`: first λ. `threshold`: η₁, `least`: η₂, `factor`: γ > 1. `batch`: b, rows of B in all terms;
    `ratio`: of b to the rows of C, rounded down term by term. `coarse_every`: every so many steps is coarse.
    `coarse_steps`: gradient steps on m.
    Raises ValueError or TypeError for options out of range.
    """

    regularisation: float = 10.0
    threshold: float = 0.1
    least: float = 0.1
    factor: float = 2.0
    batch: int = eqx.field(static=True, default=16)
    ratio: int = eqx.field(static=True, default=4)
    coarse_every: int = eqx.field(static=True, default=2)
    coarse_steps: int = eqx.field(static=True, default=4)

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_real(self, "regularisation", 0.0, float("inf"), why="the model has a minimiser for λ > 0 only")
        require_real(self, "threshold", 0.0, 1.0, why="a model that is exact has the ratio 1")
        require_real(self, "least", 0.0, float("inf"), why="it is what ends steps on noise")
        require_real(self, "factor", 1.0, float("inf"), why="λ grows by it after a rejection")
        for name in ("batch", "ratio", "coarse_every", "coarse_steps"):
            require_count(self, name, 1)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        return MUlSTREGState(jnp.asarray(self.regularisation, theta.dtype), jnp.ones((), jnp.int32))

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        lam = state.regularisation
        idx = draw(key, objective.sizes, batch_sizes(objective.sizes, self.batch))
        fine, coarse = objective.rows(idx), objective.rows(self._fewer(key, idx))
        value, g = flat_gradient(fine, params, theta.dtype)

        def along_coarse(_):
            return self._coarse(coarse, unravel, theta, g, lam)

        turn = (state.at % self.coarse_every) == 0
        move, predicted = jax.lax.cond(turn, along_coarse, lambda _: (-g / lam, g @ g / lam), None)
        trial = fine.value(unravel(theta + move)).astype(theta.dtype)
        gain = (value - trial) / jnp.where(predicted > 0, predicted, 1.0)
        grad_norm = jnp.linalg.norm(g)
        accepted = (predicted > 0) & (gain >= self.threshold) & (grad_norm * lam >= self.least) & jnp.isfinite(trial)

        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
        b, c = dims(fine, params).rows, dims(coarse, params).rows
        extra = batch_work(c, value=self.coarse_steps + 1, vjp=self.coarse_steps)
        move = jnp.where(accepted & finite, move, 0.0)
        status = jnp.where(accepted, Status.OK, Status.REJECTED)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=jnp.where(finite, status, Status.NONFINITE).astype(jnp.int32),
            counts=counts(batch=batch_work(b, value=2, vjp=1) + jnp.where(turn, extra, 0)),
            scalars={"lambda": lam, "gain": gain, "coarse": turn.astype(theta.dtype)},
        )
        following = jnp.clip(jnp.where(accepted, lam / self.factor, lam * self.factor), *RANGE)
        return Step(unravel(theta + move), MUlSTREGState(following, (state.at + 1) % self.coarse_every), info)

    def _fewer(self, key, idx: dict[str, Array]) -> dict[str, Array]:
        """The rows of C, a uniform part of those of B."""
        shares = {name: max(1, rows.shape[0] // self.ratio) for name, rows in idx.items()}
        return draw_part(jax.random.fold_in(key, 1), idx, shares)

    def _coarse(self, coarse, unravel, theta: Array, g: Array, lam: Array) -> tuple[Array, Array]:
        """(s, m(0) − m(s))."""
        value, slope = flat_gradient(coarse, unravel(theta), theta.dtype)
        lift = g - slope

        def body(_, s):
            return s - (flat_gradient(coarse, unravel(theta + s), theta.dtype)[1] + lift + lam * s) / (2 * lam)

        s = jax.lax.fori_loop(1, self.coarse_steps, body, -g / (2 * lam))
        return s, value - coarse.value(unravel(theta + s)).astype(theta.dtype) - lift @ s
