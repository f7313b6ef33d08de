"""The engine of SVRG and SARAH: batch gradients corrected by what the same batch says at a reference point.

    t = 0          θ_r = θ,   v = ∇L(θ)                          (all rows)
    t = 1 … m−1    v = ∇L_B(θ) − ∇L_B(θ_r) + v_r
    always         θ⁺ = θ − αv

v_r is the direction found at the reference θ_r. SVRG leaves (θ_r, v_r) where t = 0 put them; SARAH moves them to (θ, v)
in every step. The batch is the same in both gradients, so their difference, and the noise, vanishes with |θ − θ_r|.
The value is estimated in the same way. `snapshot="random"`: the next round starts from an iterate of this one drawn
uniformly, as the theorems want it; "last" from the last.

With `learning_rate=None` α = share/ℓ, and ℓ is the largest curvature met on a batch (`curvature_rate`), which costs
nothing, for both gradients are there. (1.5 s of eight problems: no run diverges and each ends as low as with α = 1e-2
or lower, which diverges on four of them.)

Needs      FINITE_SUM.
Cost/step  two gradients over b rows (6 b); one over all rows (3 N) in every m-th step; ten Hessian-vector products over
           all rows (60 N), once.
Memory     5 P.
Deviations (1) batches are stratified by term and drawn without replacement; (2) the rule for α, the papers leave it to
           the reader.
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

from ..checks import require_choice, require_count
from ..finite_sum import batch_sizes, draw
from ..globalize.wolfe import flat_gradient
from ..linearization import dims
from ..method import Method
from ..types import Info, Status, Step, Structure, batch_work, counts
from .curvature_rate import PRODUCTS, at_start, rate, require_rate, secant, widened

SNAPSHOTS = ("last", "random")


class SnapshotState(NamedTuple):
    at: Int[Array, ""]  # t
    reference: Float[Array, " P"]  # θ_r
    direction: Float[Array, " P"]  # v_r
    value: Float[Array, ""]  # of L at θ_r
    smoothness: Float[Array, ""]  # ℓ, 0 before it is known
    pick: Int[Array, ""]  # the t whose iterate starts the next round
    picked: Float[Array, " P"]


class AbstractSnapshot(Method):
    """The engine. A subclass says whether the reference follows the iterates."""

    learning_rate: eqx.AbstractVar[float | None]
    share: eqx.AbstractVar[float]
    batch: eqx.AbstractVar[int]
    inner: eqx.AbstractVar[int | None]
    snapshot: eqx.AbstractVar[str]
    follows: eqx.AbstractClassVar[bool]

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_rate(self)
        require_count(self, "batch", 1)
        require_choice(self, "snapshot", SNAPSHOTS)
        if self.inner is not None:
            require_count(self, "inner", self._least())

    def _least(self) -> int:
        """Steps of a round: a random one of a single iterate is the start itself, which would never be left."""
        return 2 if self.snapshot == "random" else 1

    def footprint(self, n: int, p: int) -> int:
        return 8 * p + n

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        at, nothing = jnp.zeros((), jnp.int32), jnp.zeros((), theta.dtype)
        return SnapshotState(at, theta, jnp.zeros_like(theta), nothing, nothing, at, theta)

    def refresh(self, objective, params, state):
        """A direction of other points is worth nothing: the next step looks at all rows."""
        return state._replace(at=jnp.zeros_like(state.at))

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        for_batch, for_pick = jr.split(key)
        adapts = self.learning_rate is None
        shares = batch_sizes(objective.sizes, self.batch)
        rounds = self.inner or max(self._least(), 2 * sum(objective.sizes.values()) // sum(shares.values()))
        batch = objective.rows(draw(for_batch, objective.sizes, shares))

        def whole(_):
            return *flat_gradient(objective, params, theta.dtype), self._first(objective, params, theta, state, key)

        def corrected(_):
            value, grad = flat_gradient(batch, params, theta.dtype)
            value_r, grad_r = flat_gradient(batch, unravel(state.reference), theta.dtype)
            met = widened(state.smoothness, secant(grad - grad_r, theta - state.reference, theta))
            return value - value_r + state.value, grad - grad_r + state.direction, met if adapts else state.smoothness

        fresh = state.at == 0
        value, v, smoothness = jax.lax.cond(fresh, whole, corrected, None)
        pick = jnp.where(fresh, jr.randint(for_pick, (), 0, rounds, jnp.int32), state.pick)
        picked = jnp.where(state.at == pick, theta, state.picked)
        ends = state.at + 1 >= rounds
        length = rate(self.share, smoothness, v) if adapts else self.learning_rate
        target = theta - length * v
        if self.snapshot == "random":
            target = jnp.where(ends, picked, target)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(v))

        work = batch_work(dims(batch, params).rows, value=2, vjp=2)
        info = Info(
            value=value,
            grad_norm=jnp.linalg.norm(v),
            step_norm=jnp.where(finite, jnp.linalg.norm(target - theta), 0.0),
            status=jnp.where(finite, Status.OK, Status.NONFINITE).astype(jnp.int32),
            counts=counts(
                residual=fresh,
                vjp=fresh,
                hvp=adapts * PRODUCTS * (fresh & (state.smoothness == 0)),
                batch=jnp.where(fresh, 0, work),
            ),
            scalars={"inner_step": state.at.astype(theta.dtype), "step_size": jnp.asarray(length, theta.dtype)},
        )
        moves = fresh | self.follows
        after = SnapshotState(
            at=jnp.where(ends, 0, state.at + 1),
            reference=jnp.where(moves, theta, state.reference),
            direction=jnp.where(moves, v, state.direction),
            value=jnp.where(moves, value, state.value),
            smoothness=smoothness,
            pick=pick,
            picked=picked,
        )
        return Step(unravel(jnp.where(finite, target, theta)), after, info)

    def _first(self, objective, params, theta: Array, state: SnapshotState, key) -> Array:
        """ℓ at a snapshot: that of the start where none is known yet."""
        if self.learning_rate is not None:
            return state.smoothness
        return jax.lax.cond(
            state.smoothness > 0, lambda: state.smoothness, lambda: at_start(objective, params, theta, key)
        )
