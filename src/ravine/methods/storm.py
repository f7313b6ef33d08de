"""STORM: momentum that reduces variance, without rounds and without full gradients.

    d_t = ∇L_B(θ_t) + (1 − a_t)(d_{t−1} − ∇L_B(θ_{t−1})),      θ_{t+1} = θ_t − α_t d_t
    α_t = k/(w + Σ_{s≤t} G_s²)^{1/3},      a_{t+1} = min(1, c α_t²),      G_t = |∇L_B(θ_t)|

Both gradients are of the same batch. a = 1 is SGD, a = 0 SARAH without an end. The step length decays by itself, as
t^{-1/3}; E|∇L| = O(t^{-1/3}) for smooth nonconvex L, the best rate there is for such estimates.

Needs      FINITE_SUM.
Cost/step  two gradients over b rows (6 b).
Memory     3 P.
Deviations (1) batches of b rows, stratified by term, for one sample; (2) a is kept at most 1; (3) the value is
           estimated by the same recursion.
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


class STORMState(NamedTuple):
    previous: Float[Array, " P"]  # θ_{t−1}
    direction: Float[Array, " P"]  # d_{t−1}
    value: Float[Array, ""]  # estimate of L at θ_{t−1}
    weight: Float[Array, ""]  # a_t; 1 where nothing is remembered
    squares: Float[Array, ""]  # Σ G²


class STORM(Method):
    """STORM: recursive momentum on batches, with a step length from the gradients seen.

    `learning_rate`: k. `offset`: w > 0, `decay`: c > 0. `batch`: b, rows of one step in all terms.
    Raises ValueError or TypeError for options out of range.
    """

    learning_rate: float = 0.1
    offset: float = 0.1
    decay: float = 10.0
    batch: int = eqx.field(static=True, default=8)

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_real(self, "learning_rate", 0.0, float("inf"), why="it is a step length")
        require_real(self, "offset", 0.0, float("inf"), why="it keeps the first step finite")
        require_real(self, "decay", 0.0, float("inf"), why="momentum that forgets nothing keeps its first error")
        require_count(self, "batch", 1)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        zero = jnp.zeros((), theta.dtype)
        return STORMState(theta, jnp.zeros_like(theta), zero, jnp.ones_like(zero), zero)

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

        squares = state.squares + grad @ grad
        rate = self.learning_rate / jnp.cbrt(self.offset + squares)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(d))
        move = jnp.where(finite, -rate * d, 0.0)
        info = Info(
            value=value,
            grad_norm=jnp.linalg.norm(d),
            step_norm=jnp.linalg.norm(move),
            status=jnp.where(finite, Status.OK, Status.NONFINITE).astype(jnp.int32),
            counts=counts(batch=batch_work(dims(batch, params).rows, value=2, vjp=2)),
            scalars={"step_size": rate, "weight": state.weight},
        )
        after = STORMState(theta, d, value, jnp.minimum(1.0, self.decay * rate**2), squares)
        return Step(unravel(theta + move), after, info)
