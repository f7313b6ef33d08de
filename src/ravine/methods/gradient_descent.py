"""Gradient descent: steepest descent with a fixed, a backtracked or an exact step length.

    θ⁺ = θ − αg

    "fixed"    α = `learning_rate`
    "armijo"   the first of α₀, … with L(θ⁺) ≤ L(θ) − c₁α|g|², shortened by interpolation; α₀ is the last α, doubled if
               the last step accepted its first trial, and `learning_rate` in the first step
    "exact"    α₀ = gᵀg / gᵀHg, the minimiser of the quadratic model along −g, then as "armijo"; where gᵀHg ≤ 0 the
               model has no minimiser and α₀ is that of "armijo"

On a quadratic with eigenvalues λᵢ a fixed α multiplies the component along the i-th eigenvector by 1 − αλᵢ per step:
it converges iff α < 2/λmax, and at best, for α = 2/(λmax + λmin), by (κ − 1)/(κ + 1) per step.

Needs      VALUE.
Cost/step  one value and gradient per trial ("fixed" 1, "exact" about 1, "armijo" about 1.3); "exact" one
           Hessian-vector product more.
Memory     P.
Deviations (1) a fixed step to a point that is not finite is not taken (status REJECTED); (2) "exact" is safeguarded by
           the Armijo condition, which the minimiser of a convex quadratic always fulfils.
Reference  Cauchy (1847), C. R. Acad. Sci. Paris 25; Armijo (1966), Pacific J. Math. 16;
           Nocedal & Wright (2006), Numerical Optimization, chapter 3.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..checks import require_choice, require_count, require_real
from ..globalize.armijo import armijo
from ..globalize.wolfe import along, flat_gradient, flat_hvp, search_status
from ..method import Method
from ..types import Info, Step, counts

RULES = ("armijo", "exact", "fixed")
GROW = 2.0  # of the first trial after a step that accepted its own


class GradientDescentState(NamedTuple):
    value: Float[Array, ""]
    grad: Float[Array, " P"]
    first: Float[Array, ""]  # α₀ of the next step


class GradientDescent(Method):
    """Gradient descent: steepest descent with a fixed, a backtracked or an exact step length.

    `rule`: "armijo", "exact" or "fixed". `learning_rate`: α of "fixed", and the first α₀ of the others. `c1`: the
    fraction of the slope that is enough decrease, and `max_trials`: trials in one step, for "armijo" and "exact".
    Raises ValueError or TypeError for options out of range.
    """

    rule: str = eqx.field(static=True, default="armijo")
    learning_rate: float = 1e-3
    c1: float = 1e-4
    max_trials: int = eqx.field(static=True, default=30)

    def __check_init__(self):
        require_choice(self, "rule", RULES)
        require_real(self, "learning_rate", 0.0, float("inf"), why="it is a step length")
        require_real(self, "c1", 0.0, 1.0, why="no function falls faster than its slope for all step lengths")
        require_count(self, "max_trials", 1)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        return GradientDescentState(value, grad, jnp.asarray(self.learning_rate, theta.dtype))

    def refresh(self, objective, params, state):
        value, grad = flat_gradient(objective, params, state.grad.dtype)
        return state._replace(value=value, grad=grad)

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        value, grad, first = state
        if self.rule == "exact":
            first = _minimiser(grad, flat_hvp(objective, params, grad), first)
        evaluate = along(objective, unravel, theta, -grad)
        fixed = self.rule == "fixed"
        ceiling, max_trials = (jnp.inf, 1) if fixed else (None, self.max_trials)
        slope = -(grad @ grad)
        found = armijo(evaluate, value, slope, grad, first, ceiling=ceiling, c1=self.c1, max_trials=max_trials)

        move = -found.t * grad
        grad_norm = jnp.linalg.norm(grad)
        grown = jnp.where((found.trials == 1) & (not fixed), GROW, 1.0) * found.t
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=search_status(value, grad_norm, found.moved, jnp.asarray(not fixed)),
            counts=counts(residual=found.trials, vjp=found.trials, hvp=int(self.rule == "exact")),
            scalars={"step_size": found.t, "trials": found.trials.astype(theta.dtype)},
        )
        after = GradientDescentState(found.value, found.grad, jnp.where(found.moved, grown, state.first))
        return Step(unravel(theta + move), after, info)


def _minimiser(grad: Array, curved: Array, otherwise: Array) -> Array:
    """gᵀg/gᵀHg where that is a positive number."""
    squared, curvature = grad @ grad, grad @ curved
    t = squared / jnp.where(curvature > 0, curvature, 1.0)
    return jnp.where((curvature > 0) & (t > 0) & jnp.isfinite(t), t, otherwise)
