"""The engine of SVRG and SARAH: batch gradients corrected by what the same batch says at a reference point.

    t = 0          θ_r = θ,   v = ∇L(θ)                          (all rows)
    t = 1 … m−1    v = ∇L_B(θ) − ∇L_B(θ_r) + v_r
    always         θ⁺ = θ − αv

v_r is the direction found at the reference θ_r. SVRG leaves (θ_r, v_r) where t = 0 put them; SARAH moves them to (θ, v)
in every step. The batch is the same in both gradients, so their difference, and the noise, vanishes with |θ − θ_r|.
The value is estimated in the same way. `snapshot="random"`: the next round starts from an iterate of this one drawn
uniformly, as the theorems want it; "last" from the last.

Needs      FINITE_SUM.
Cost/step  two gradients over b rows (6 b); one over all rows (3 N) in every m-th step.
Memory     5 P.
Deviation  batches are stratified by term and drawn without replacement.
Reference  named by the two methods.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import require_choice, require_count, require_real
from ..finite_sum import batch_sizes, draw
from ..globalize.wolfe import flat_gradient
from ..linearization import dims
from ..method import Method
from ..types import Info, Status, Step, Structure, batch_work, counts

SNAPSHOTS = ("last", "random")


class SnapshotState(NamedTuple):
    at: Int[Array, ""]  # t
    reference: Float[Array, " P"]  # θ_r
    direction: Float[Array, " P"]  # v_r
    value: Float[Array, ""]  # of L at θ_r
    pick: Int[Array, ""]  # the t whose iterate starts the next round
    picked: Float[Array, " P"]


class AbstractSnapshot(Method):
    """The engine. A subclass says whether the reference follows the iterates."""

    learning_rate: eqx.AbstractVar[float]
    batch: eqx.AbstractVar[int]
    inner: eqx.AbstractVar[int | None]
    snapshot: eqx.AbstractVar[str]
    follows: eqx.AbstractClassVar[bool]

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_real(self, "learning_rate", 0.0, float("inf"), why="it is a step length")
        require_count(self, "batch", 1)
        if self.inner is not None:
            require_count(self, "inner", 1)
        require_choice(self, "snapshot", SNAPSHOTS)

    def footprint(self, n: int, p: int) -> int:
        return 8 * p + n

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        zero = jnp.zeros((), jnp.int32)
        return SnapshotState(zero, theta, jnp.zeros_like(theta), jnp.zeros((), theta.dtype), zero, theta)

    def refresh(self, objective, params, state):
        """A direction of other points is worth nothing: the next step looks at all rows."""
        return state._replace(at=jnp.zeros_like(state.at))

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        for_batch, for_pick = jr.split(key)
        shares = batch_sizes(objective.sizes, self.batch)
        rounds = self.inner or max(1, 2 * sum(objective.sizes.values()) // sum(shares.values()))
        batch = objective.rows(draw(for_batch, objective.sizes, shares))

        def whole(_):
            return flat_gradient(objective, params, theta.dtype)

        def corrected(_):
            value, grad = flat_gradient(batch, params, theta.dtype)
            value_r, grad_r = flat_gradient(batch, unravel(state.reference), theta.dtype)
            return value - value_r + state.value, grad - grad_r + state.direction

        fresh = state.at == 0
        value, v = jax.lax.cond(fresh, whole, corrected, None)
        pick = jnp.where(fresh, jr.randint(for_pick, (), 0, rounds, jnp.int32), state.pick)
        picked = jnp.where(state.at == pick, theta, state.picked)
        ends = state.at + 1 >= rounds
        move = -self.learning_rate * v
        target = theta + move
        if self.snapshot == "random":
            target = jnp.where(ends, picked, target)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(v))

        work = batch_work(dims(batch, params).rows, value=2, vjp=2)
        info = Info(
            value=value,
            grad_norm=jnp.linalg.norm(v),
            step_norm=jnp.where(finite, jnp.linalg.norm(target - theta), 0.0),
            status=jnp.where(finite, Status.OK, Status.NONFINITE).astype(jnp.int32),
            counts=counts(residual=fresh, vjp=fresh, batch=jnp.where(fresh, 0, work)),
            scalars={"inner_step": state.at.astype(theta.dtype)},
        )
        moves = fresh | self.follows
        after = SnapshotState(
            at=jnp.where(ends, 0, state.at + 1),
            reference=jnp.where(moves, theta, state.reference),
            direction=jnp.where(moves, v, state.direction),
            value=jnp.where(moves, value, state.value),
            pick=pick,
            picked=picked,
        )
        return Step(unravel(jnp.where(finite, target, theta)), after, info)
