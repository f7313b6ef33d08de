"""Polyak's step length: as far along −g as a linear model needs to reach the lowest value.

    θ⁺ = θ − αg,   α = min(γ(L(θ) − L*)/|g|², τα₋)

L* = `lowest`, zero for a sum of squares that can vanish. γ = `relaxation` in (0, 2). The second bound lets α grow by a
factor of at most τ = `growth` per step: where L* cannot be reached |g| gets small while L − L* does not, and the
first bound alone leaps away. Where L* is reached a large τ is faster. The loss may rise.

For a convex L that reaches L* and γ = 1, |θ − θ*| never grows and Σ_k (L(θ_k) − L*)²/|g_k|² ≤ |θ₀ − θ*|²; with
|g| ≤ G the best value of k steps is within G|θ₀ − θ*|/√k of L*. The bound on growth keeps the first of these.

Needs      VALUE.
Cost/step  one value and gradient per trial (almost always 1).
Memory     P.
Deviations (1) a trial that is not finite is shortened by ten, at most `MAX_TRIALS` times; (2) below L* there is no
           step (status NO_DESCENT): `lowest` is wrong.
Reference  Polyak (1969), USSR Comput. Math. Math. Phys. 9(3); Loizou, Vaswani, Laradji & Lacoste-Julien (2021),
           AISTATS, arXiv:2002.10542 (bounded growth).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..checks import require_real
from ..globalize.armijo import armijo
from ..globalize.wolfe import along, flat_gradient, search_status
from ..method import Method
from ..types import Info, Step, counts

MAX_TRIALS = 12


class PolyakState(NamedTuple):
    value: Float[Array, ""]
    grad: Float[Array, " P"]
    length: Float[Array, ""]  # α of the last step, infinite before the first


class Polyak(Method):
    """Polyak's step length α = (L − L*)/|g|², with relaxation and bounded growth.

    `lowest`: L*, any number not above what can be reached. `relaxation`: γ in (0, 2). `growth`: τ > 1, the largest
    ratio of successive step lengths (a large number switches the bound off).
    Raises ValueError or TypeError for options out of range.
    """

    lowest: float = 0.0
    relaxation: float = 1.0
    growth: float = 2.0

    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_real(self, "lowest", -float("inf"), float("inf"), why="it is a value of the objective")
        require_real(self, "relaxation", 0.0, 2.0, why="outside it no step comes closer to the solution")
        require_real(self, "growth", 1.0, why="a step length that cannot grow stays at its smallest")

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        return PolyakState(value, grad, jnp.full_like(value, jnp.inf))

    def refresh(self, objective, params, state):
        value, grad = flat_gradient(objective, params, state.grad.dtype)
        return state._replace(value=value, grad=grad)

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        value, grad, last = state
        squared, grad_norm = grad @ grad, jnp.linalg.norm(grad)
        length = self.relaxation * (value - self.lowest) / jnp.where(squared > 0, squared, 1.0)
        first = jnp.minimum(length, self.growth * last)
        evaluate = along(objective, unravel, theta, -grad)
        found = armijo(evaluate, value, -squared, grad, first, ceiling=jnp.inf, max_trials=MAX_TRIALS)

        move = -found.t * grad
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=search_status(value, grad_norm, found.moved, jnp.ones((), bool)),
            counts=counts(residual=found.trials, vjp=found.trials),
            scalars={"step_size": found.t, "trials": found.trials.astype(theta.dtype)},
        )
        after = PolyakState(found.value, found.grad, jnp.where(found.moved, found.t, last))
        return Step(unravel(theta + move), after, info)
