"""The engine of heavy ball and Nesterov's method: a gradient step and an extrapolation beyond it.

    p = θ − αg,   m = momentum of the method,   θ⁺ = p + βm

heavy ball m = θ − θ₋,  Nesterov m = p − p₋. One of three rules lets go of the momentum, θ⁺ = p, and starts it anew:

    "function"   L(p + βm) > L(θ): the extrapolation is thrown away, which costs one gradient more; where the two values
                 differ by rounding, the trapezoid rule tells them apart: ½(g + g⁺)ᵀ(p + βm − θ) > 0
    "gradient"   gᵀm > 0: the momentum points uphill; seen before anything is evaluated
    "none"       never

With every rule an extrapolation whose value or gradient is not finite is thrown away too. The step length is
`learning_rate` ("fixed"), or the first of α₀, … with L(p) ≤ L(θ) − c₁α|g|² ("armijo"), shortened by interpolation; α₀
is the last α, a tenth longer if the last step accepted its first trial, and `learning_rate` in the first step. With
c₁ = ½ the condition holds for all α ≤ 1/λmax. Where the change of L drowns in rounding the slope at p decides
(`globalize.armijo`): near a minimum with L* ≠ 0 values say nothing below |g| ≈ √(ulp L*/α), gradients do. "armijo" with
"function" never raises the loss by more than rounding.

Needs      VALUE.
Cost/step  one value and gradient; one value per trial of "armijo" (about 1.1), and one gradient per trial whose
           change drowns; one gradient more where the extrapolation was thrown away.
Memory     2 P.
Deviations (1) the rule "function" takes the step back that went up, and does not only restart after it; (2) the step
           length may grow again, for which the momentum of the papers is not corrected.
Reference  O'Donoghue & Candès (2015), Found. Comput. Math. 15 (restarts); Beck & Teboulle (2009), SIAM J. Imaging
           Sci. 2(1) (backtracking).
"""

from __future__ import annotations

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..checks import require_choice, require_count, require_real
from ..globalize.armijo import armijo
from ..globalize.rounding import drowns
from ..globalize.wolfe import flat_gradient, search_status
from ..method import Method
from ..types import Info, Step, counts

RULES = ("armijo", "fixed")
RESTARTS = ("function", "gradient", "none")
GROW = 1.1  # of the first trial after a step that accepted its own


class AcceleratedState(NamedTuple):
    value: Float[Array, ""]
    grad: Float[Array, " P"]
    anchor: Float[Array, " P"]  # where the momentum starts: θ₋ or p₋
    first: Float[Array, ""]  # α₀ of the next step
    t: Float[Array, ""]  # of Nesterov's sequence, 1 after a restart


class AbstractAccelerated(Method):
    """The engine. A subclass says where the momentum starts and what β is."""

    rule: eqx.AbstractVar[str]
    restart: eqx.AbstractVar[str]
    learning_rate: eqx.AbstractVar[float]
    c1: eqx.AbstractVar[float]
    max_trials: eqx.AbstractVar[int]

    def __check_init__(self):
        require_choice(self, "rule", RULES)
        require_choice(self, "restart", RESTARTS)
        require_real(self, "learning_rate", 0.0, float("inf"), why="it is a step length")
        require_real(self, "c1", 0.0, 1.0, why="no function falls faster than its slope for all step lengths")
        require_count(self, "max_trials", 1)

    @abc.abstractmethod
    def tip(self, theta: Array, plain: Array) -> Array:
        """Where the momentum ends, and the next one starts: θ or p."""

    @abc.abstractmethod
    def weight(self, t: Array) -> tuple[Array, Array]:
        """β, and the next t."""

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        first = jnp.asarray(self.learning_rate, theta.dtype)
        return AcceleratedState(value, grad, theta, first, jnp.ones_like(value))

    def refresh(self, objective, params, state):
        value, grad = flat_gradient(objective, params, state.grad.dtype)
        return state._replace(value=value, grad=grad)

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        value, grad = state.value, state.grad
        length, trials, slopes, found = self._length(objective, unravel, theta, state)

        plain = theta - length * grad
        tip = self.tip(theta, plain)
        momentum = tip - state.anchor
        beta, t = self.weight(state.t)
        uphill = (grad @ momentum > 0) if self.restart == "gradient" else jnp.zeros((), bool)
        ahead = plain + jnp.where(uphill, 0.0, beta) * momentum
        there = flat_gradient(objective, unravel(ahead), theta.dtype)
        bad = ~_finite(there) | (_rises(state, there, ahead - theta) if self.restart == "function" else False)
        thrown = bad & found & jnp.any(ahead != plain)
        landed = jax.lax.cond(thrown, lambda: flat_gradient(objective, unravel(plain), theta.dtype), lambda: there)
        restarted = thrown | uphill
        target = jnp.where(restarted, plain, ahead)
        moved = found & _finite(landed)

        after = AcceleratedState(
            value=jnp.where(moved, landed[0], value),
            grad=jnp.where(moved, landed[1], grad),
            anchor=jnp.where(moved, jnp.where(restarted, plain, tip), theta),
            first=self._next_first(state, length, trials, moved),
            t=jnp.where(restarted | ~moved, 1.0, t),
        )
        move, grad_norm = jnp.where(moved, target - theta, 0.0), jnp.linalg.norm(grad)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=search_status(value, grad_norm, moved, jnp.asarray(self.rule != "fixed")),
            counts=counts(residual=trials + 1 + thrown, vjp=1 + thrown + slopes),
            scalars={
                "step_size": jnp.where(moved, length, 0.0),
                "momentum": jnp.where(moved & ~restarted, beta, 0.0),
                "restarted": restarted.astype(theta.dtype),
            },
        )
        return Step(unravel(jnp.where(moved, target, theta)), after, info)

    def _length(self, objective, unravel, theta, state) -> tuple[Array, Array, Array, Array]:
        """α, the values and the slopes it took, and whether there is one."""
        squared, none = state.grad @ state.grad, jnp.zeros((), jnp.int32)
        if self.rule == "fixed":
            usable = (squared > 0) & (squared < jnp.inf) & jnp.isfinite(state.value)
            return jnp.where(usable, state.first, 0.0), none, none, usable

        def evaluate(t):  # by values alone, unless they say nothing
            there = unravel(theta - t * state.grad)
            value = objective.value(there).astype(theta.dtype)
            unclear = drowns(value, state.value)
            slope = lambda: -(state.grad @ flat_gradient(objective, there, theta.dtype)[1])
            return value, jax.lax.cond(unclear, slope, lambda: jnp.full_like(value, jnp.nan)), ()

        found = armijo(evaluate, state.value, -squared, (), state.first, c1=self.c1, max_trials=self.max_trials)
        return found.t, found.trials, found.slopes, found.moved

    def _next_first(self, state, length, trials, moved) -> Array:
        if self.rule == "fixed":
            return state.first
        return jnp.where(moved, jnp.where(trials == 1, GROW, 1.0) * length, state.first)


def _finite(there: tuple[Array, Array]) -> Array:
    return jnp.isfinite(there[0]) & jnp.all(jnp.isfinite(there[1]))


def _rises(state: AcceleratedState, there: tuple[Array, Array], move: Array) -> Array:
    """Whether L is higher at the end of `move`."""
    trapezoid = 0.5 * (state.grad + there[1]) @ move
    return jnp.where(drowns(there[0], state.value), trapezoid > 0, there[0] > state.value)
