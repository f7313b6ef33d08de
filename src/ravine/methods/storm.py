"""STORM: momentum that reduces variance, without rounds and without full gradients.

    d_t = ∇L_B(θ_t) + (1 − a_t)(d_{t−1} − ∇L_B(θ_{t−1})),      θ_{t+1} = θ_t − α_t d_t
    α_t = k/(w + Σ_{s≤t} G_s²)^{1/3},      a_{t+1} = min(1, c α_t²),      G_t = |∇L_B(θ_t)|

Both gradients are of the same batch. a = 1 is SGD, a = 0 SARAH without an end. The step length decays by itself, as
t^{-1/3}; E|∇L| = O(t^{-1/3}) for smooth nonconvex L, the best rate there is for such estimates.

k has the unit G^{2/3}/l and c that of l², and the theorem takes them so. With `learning_rate=None`

    α_t = (share/ℓ) ((1 + w) G_1²/(w G_1² + Σ_{s≤t} G_s²))^{1/3},      a_{t+1} = min(1, c (ℓα_t)²)

where ℓ is the largest curvature met on a batch (`curvature_rate`), a secant that costs nothing. The first step is
share/ℓ, and a scale of L changes no iterate.

Needs      FINITE_SUM.
Cost/step  two gradients over b rows (6 b); without a given k ten Hessian-vector products over all rows (60 N), once.
Memory     3 P.
Deviations (1) batches of b rows, stratified by term, for one sample; (2) a is kept at most 1; (3) the value is
           estimated by the same recursion; (4) the unit of k and c by default.
Reference  Cutkosky & Orabona (2019), NeurIPS 32, arXiv:1905.10018.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..checks import require_count, require_real
from ..finite_sum import batch_sizes, draw
from ..globalize.wolfe import flat_gradient
from ..linearization import dims
from ..method import Method
from ..types import Info, Status, Step, Structure, batch_work, counts
from .curvature_rate import PRODUCTS, at_start, rate, require_rate, secant, widened


class STORMState(NamedTuple):
    previous: Float[Array, " P"]  # θ_{t−1}
    direction: Float[Array, " P"]  # d_{t−1}
    value: Float[Array, ""]  # estimate of L at θ_{t−1}
    weight: Float[Array, ""]  # a_t; 1 where nothing is remembered
    squares: Float[Array, ""]  # Σ G²
    first: Float[Array, ""]  # G² of the first step that had a gradient; 0 before it, and −1 before any step
    smoothness: Float[Array, ""]  # ℓ, 0 before it is known


class STORM(Method):
    """STORM: recursive momentum on batches, with a step length from the gradients seen.

    `learning_rate`: k, None for steps that begin as `share`/ℓ with the largest curvature ℓ met so far. `offset`: w > 0,
    `decay`: c > 0. `batch`: b, rows of one step in all terms. Raises ValueError or TypeError for options out of range.
    """

    learning_rate: float | None = None
    share: float = 0.2
    offset: float = 0.1
    decay: float = 10.0
    batch: int = eqx.field(static=True, default=8)

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_rate(self)
        require_real(self, "offset", 0.0, float("inf"), why="it keeps the first step finite")
        require_real(self, "decay", 0.0, float("inf"), why="momentum that forgets nothing keeps its first error")
        require_count(self, "batch", 1)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        zero = jnp.zeros((), theta.dtype)
        smoothness = zero if self.learning_rate is not None else at_start(objective, params, theta, key)
        return STORMState(theta, jnp.zeros_like(theta), zero, jnp.ones_like(zero), zero, zero - 1, smoothness)

    def refresh(self, objective, params, state):
        return state._replace(weight=jnp.ones_like(state.weight))

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        batch = objective.rows(draw(key, objective.sizes, batch_sizes(objective.sizes, self.batch)))
        value_b, grad = flat_gradient(batch, params, theta.dtype)
        value_old, grad_old = flat_gradient(batch, unravel(state.previous), theta.dtype)
        keep = 1 - state.weight
        value = value_b + keep * (state.value - value_old)
        d = grad + keep * (state.direction - grad_old)

        first, squares = jnp.where(state.first > 0, state.first, grad @ grad), state.squares + grad @ grad
        smoothness, unit = state.smoothness, 1.0
        if self.learning_rate is None:
            smoothness = unit = widened(state.smoothness, secant(grad - grad_old, theta - state.previous, theta))
            decayed = jnp.cbrt((1 + self.offset) * first / (self.offset * first + squares))
            length = rate(self.share, smoothness, d) * jnp.where(first > 0, decayed, 1.0)
        else:
            length = self.learning_rate / jnp.cbrt(self.offset + squares)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(d))
        move = jnp.where(finite, -length * d, 0.0)
        info = Info(
            value=value,
            grad_norm=jnp.linalg.norm(d),
            step_norm=jnp.linalg.norm(move),
            status=jnp.where(finite, Status.OK, Status.NONFINITE).astype(jnp.int32),
            counts=counts(
                hvp=PRODUCTS * (state.first < 0) if self.learning_rate is None else 0,
                batch=batch_work(dims(batch, params).rows, value=2, vjp=2),
            ),
            scalars={"step_size": length, "weight": state.weight},
        )
        weight = jnp.minimum(1.0, self.decay * (unit * length) ** 2)
        after = STORMState(theta, d, value, weight, squares, first, smoothness)
        return Step(unravel(theta + move), after, info)
