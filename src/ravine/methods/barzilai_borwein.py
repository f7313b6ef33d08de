"""Barzilai-Borwein: gradient steps whose length is a secant estimate of the inverse curvature.

    θ⁺ = θ − αg,   s = θ⁺ − θ,   y = g⁺ − g,   next α₀ = sᵀs/sᵀy ("long") or sᵀy/yᵀy ("short")

"alternate" takes the long and the short length in turn. The first trial α₀ is shortened by interpolation until
L(θ⁺) ≤ max of the last `memory` values − c₁α|g|², so that a secant length survives although the loss rises for a step.

On a quadratic of P variables it converges R-linearly without any search, and in two variables superlinearly.

Needs      VALUE.
Cost/step  one value and gradient per trial (about 1.1 trials).
Memory     2 P + the last `memory` values.
Deviations (1) where sᵀy ≤ 0 the length is |s|/|y|, the geometric mean of the two where both are positive; (2) lengths
           are kept in [1e-10, 1e10]; (3) the first trial of a run moves at most `first_step`.
Reference  Barzilai & Borwein (1988), IMA J. Numer. Anal. 8; Grippo, Lampariello & Lucidi (1986), SIAM J. Numer. Anal.
           23(4); Raydan (1997), SIAM J. Optim. 7(1); Dai & Fletcher (2005), Numer. Math. 100 (alternation);
           Dai, Al-Baali & Yang (2015), in Numerical Analysis and Optimization, Springer (|s|/|y|).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from ..checks import require_choice, require_count, require_real
from ..globalize.armijo import armijo
from ..globalize.wolfe import along, flat_gradient, search_status
from ..method import Method
from ..types import Info, Step, counts

RULES = ("alternate", "long", "short")
RANGE = (1e-10, 1e10)  # of the step length (Raydan 1997)


class BarzilaiBorweinState(NamedTuple):
    value: Float[Array, ""]
    grad: Float[Array, " P"]
    first: Float[Array, ""]  # α₀ of the next step
    recent: Float[Array, " M"]  # the last values, newest first; before M steps the rest is the first value
    long: Bool[Array, ""]  # the next secant length is the long one


class BarzilaiBorwein(Method):
    """Barzilai-Borwein steps with a non-monotone Armijo search.

    `rule`: "alternate", "long" or "short". `memory`: values the search compares with (1 is monotone). `first_step`:
    the longest first trial move. `c1`: the fraction of the slope that is enough decrease. `max_trials`: trials in one
    step. Raises ValueError or TypeError for options out of range.
    """

    rule: str = eqx.field(static=True, default="alternate")
    memory: int = eqx.field(static=True, default=10)
    first_step: float = 1.0
    c1: float = 1e-4
    max_trials: int = eqx.field(static=True, default=30)

    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_choice(self, "rule", RULES)
        require_count(self, "memory", 1)
        require_real(self, "first_step", 0.0, float("inf"), why="it is a length")
        require_real(self, "c1", 0.0, 1.0, why="no function falls faster than its slope for all step lengths")
        require_count(self, "max_trials", 1)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        norm = jnp.linalg.norm(grad)
        first = jnp.minimum(1.0, self.first_step / jnp.where(norm > 0, norm, 1.0))
        recent = jnp.full(self.memory, value)
        return BarzilaiBorweinState(value, grad, first, recent, jnp.asarray(self.rule != "short"))

    def refresh(self, objective, params, state):
        value, grad = flat_gradient(objective, params, state.grad.dtype)
        return state._replace(value=value, grad=grad, recent=jnp.full_like(state.recent, value))

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        value, grad, first, recent, long = state
        evaluate = along(objective, unravel, theta, -grad)
        ceiling, slope = jnp.max(recent), -(grad @ grad)
        found = armijo(evaluate, value, slope, grad, first, ceiling=ceiling, c1=self.c1, max_trials=self.max_trials)

        move = -found.t * grad
        grad_norm = jnp.linalg.norm(grad)
        length = secant_length(move, found.grad - grad, long, first)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=search_status(value, grad_norm, found.moved, jnp.ones((), bool)),
            counts=counts(residual=found.trials, vjp=found.trials),
            scalars={"step_size": found.t, "trials": found.trials.astype(theta.dtype)},
        )
        after = BarzilaiBorweinState(
            value=found.value,
            grad=found.grad,
            first=jnp.where(found.moved, length, first),
            recent=jnp.concatenate([found.value[None], recent[:-1]]),
            long=~long if self.rule == "alternate" else long,
        )
        return Step(unravel(theta + move), after, info)


def secant_length(s: Array, y: Array, long: Array, otherwise: Array) -> Array:
    """The long or the short length, |s|/|y| where sᵀy ≤ 0, and `otherwise` where y vanishes."""
    ss, sy, yy = s @ s, s @ y, y @ y
    known = (ss > 0) & (yy > 0) & jnp.isfinite(yy)
    yy = jnp.where(known, yy, 1.0)
    curved = known & (sy > 0)
    secant = jnp.where(long, ss / jnp.where(curved, sy, 1.0), sy / yy)
    t = jnp.where(curved, secant, jnp.sqrt(ss / yy))
    return jnp.where(known, jnp.clip(t, *RANGE), otherwise)
