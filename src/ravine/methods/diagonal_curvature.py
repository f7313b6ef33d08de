"""The engine of the methods that divide a gradient average by an estimate of the Hessian's diagonal.

    m⁺ = β₁m + (1 − β₁)g
    every `every`-th step   D⁺ = the average of D and a look z ⊙ Hz (`linalg.hutchinson`), else D⁺ = D
    θ⁺ = θ − α u(m⁺, D⁺)

How looks are averaged and what u is, is the subclass's. The first step takes `first_looks`.

Needs      VALUE.
Cost/step  one value and gradient; one Hessian-vector product in every `every`-th step, `first_looks` in the first.
Memory     2 P, and 2 P during a look.
Deviations where value or gradient is not finite, parameters and state stay as they are (status NONFINITE); a look that
           is not finite is left out of the average, and before the first finite one no step is made.
Reference  named by the two methods.
"""

from __future__ import annotations

import abc
from functools import partial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import require_count, require_real
from ..globalize.wolfe import flat_gradient, flat_hvp
from ..linalg.hutchinson import diagonal_look
from ..method import Method
from ..types import Info, Status, Step, counts


class DiagonalState(NamedTuple):
    steps: Int[Array, ""]
    looks: Int[Array, ""]  # that entered the average
    momentum: Float[Array, " P"]
    curvature: Float[Array, " P"]  # the average of looks, as the subclass keeps it


class AbstractDiagonalCurvature(Method):
    """The engine. A subclass averages the looks and says what the step is."""

    learning_rate: eqx.AbstractVar[float]
    b1: eqx.AbstractVar[float]
    b2: eqx.AbstractVar[float]
    eps: eqx.AbstractVar[float]
    every: eqx.AbstractVar[int]
    first_looks: eqx.AbstractVar[int]

    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_real(self, "learning_rate", 0.0, float("inf"), why="it is a step length")
        require_real(self, "b1", 0.0, 1.0, why="an average with weight 1 never forgets", ends="[)")
        require_real(self, "b2", 0.0, 1.0, why="an average with weight 1 never forgets", ends="[)")
        require_real(self, "eps", 0.0, float("inf"), why="a curvature may vanish")
        require_count(self, "every", 1)
        require_count(self, "first_looks", 1)

    @abc.abstractmethod
    def average(self, curvature: Array, look: Array) -> Array:
        """D⁺."""

    @abc.abstractmethod
    def estimate(self, state: DiagonalState) -> Array:
        """The diagonal that the averages stand for, without the bias of their start from zero."""

    @abc.abstractmethod
    def direction(self, state: DiagonalState) -> Array:
        """u of the state after the averages were brought up to date; `looks` is at least 1 where it is used."""

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        zero = jnp.zeros((), jnp.int32)
        return DiagonalState(zero, zero, jnp.zeros_like(theta), jnp.zeros_like(theta))

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        grad_norm = jnp.linalg.norm(grad)
        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)

        due = state.steps % self.every == 0
        product = partial(flat_hvp, objective, params)

        def look(i, seen):
            found = diagonal_look(product, theta, jax.random.fold_in(key, i))
            fine = jnp.all(jnp.isfinite(found))
            return jnp.where(fine, self.average(seen[0], found), seen[0]), seen[1] + fine

        number = jnp.where(due, jnp.where(state.looks > 0, 1, self.first_looks), 0)
        curvature, looks = jax.lax.fori_loop(0, number, look, (state.curvature, state.looks))
        after = DiagonalState(
            steps=state.steps + 1,
            looks=looks,
            momentum=self.b1 * state.momentum + (1 - self.b1) * grad,
            curvature=curvature,
        )
        moved, diagonal = finite & (after.looks > 0), self.estimate(after)
        move = jnp.where(moved, -self.learning_rate * self.direction(after), 0.0)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=jnp.where(finite, jnp.where(moved, Status.OK, Status.REJECTED), Status.NONFINITE).astype(jnp.int32),
            counts=counts(residual=1, vjp=1, hvp=number),
            scalars={"smallest_curvature": jnp.min(diagonal), "largest_curvature": jnp.max(diagonal)},
        )
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
        return Step(unravel(theta + move), after, info)
