"""The engine of the first-order methods with a gain ratio: one number decides how far to go along −g.

    θ⁺ = θ − αg,   ρ = (L(θ) − L(θ⁺))/(α|g|²),   accepted if ρ ≥ η

α|g|² is the decrease that the linear model predicts. A rejected trial changes the control (more regularisation, a
smaller radius) and is repeated, at most `max_trials` times in one step; the control survives the step also where all
trials failed (status REJECTED). Where the change of L is lost in rounding (`globalize.rounding`), the true decrease is
taken from gradients, ½α(g + g⁺)ᵀg, which is exact on a quadratic. A trial that is not finite is rejected.

Needs      VALUE.
Cost/step  one value and gradient per trial (usually 1.0 to 1.5 trials).
Memory     P.
Reference  Conn, Gould & Toint (2000), Trust-Region Methods, SIAM, ch. 6 (gain ratio); Hager & Zhang (2005), SIAM J.
           Optim. 16(1) (decrease from gradients near rounding). The two methods name their own.
"""

from __future__ import annotations

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..checks import require_count, require_real
from ..globalize.rounding import drowns
from ..globalize.wolfe import flat_gradient
from ..method import Method
from ..types import Info, Status, Step, counts


class GainRatioState(NamedTuple):
    value: Float[Array, ""]
    grad: Float[Array, " P"]
    control: Float[Array, ""]  # of the next trial: σ or Δ


class _Trial(NamedTuple):
    """The last trial of a step; value and grad are those of the start unless it was accepted."""

    count: Int[Array, ""]
    accepted: Bool[Array, ""]
    control: Float[Array, ""]
    length: Float[Array, ""]
    rho: Float[Array, ""]
    value: Float[Array, ""]
    grad: Float[Array, " P"]


class AbstractGainRatio(Method):
    """The engine. A subclass says what the control is, how long its step, and how ρ changes it."""

    threshold: eqx.AbstractVar[float]
    max_trials: eqx.AbstractVar[int]
    control_name: eqx.AbstractClassVar[str]

    @abc.abstractmethod
    def start(self, grad_norm: Array) -> Array:
        """The control of the first trial."""

    @abc.abstractmethod
    def length(self, control: Array, grad_norm: Array) -> Array:
        """α."""

    @abc.abstractmethod
    def judge(self, control: Array, rho: Array, accepted: Array) -> Array:
        """The control of the next trial; ρ may be NaN or −∞ where the trial was not finite."""

    def __check_init__(self):
        require_real(self, "threshold", 0.0, 1.0, why="a gain ratio of 1 is a perfect model")
        require_count(self, "max_trials", 1)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        control = jnp.asarray(self.start(jnp.linalg.norm(grad)), theta.dtype)
        return GainRatioState(value, grad, control)

    def refresh(self, objective, params, state):
        value, grad = flat_gradient(objective, params, state.grad.dtype)
        return state._replace(value=value, grad=grad)

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        value, grad, control = state
        squared, grad_norm = grad @ grad, jnp.linalg.norm(grad)
        usable = (squared > 0) & (squared < jnp.inf) & jnp.isfinite(value)

        def attempt(t: _Trial) -> _Trial:
            length = self.length(t.control, grad_norm)
            there, slope = flat_gradient(objective, unravel(theta - length * grad), theta.dtype)
            there = jnp.where(jnp.all(jnp.isfinite(slope)), there, jnp.inf)  # nothing could go on from there
            decrease = jnp.where(drowns(there, value), 0.5 * length * ((grad + slope) @ grad), value - there)
            rho = decrease / (length * squared)
            accepted = (rho >= self.threshold) & (rho < jnp.inf)
            return _Trial(
                count=t.count + 1,
                accepted=accepted,
                control=self.judge(t.control, rho, accepted),
                length=jnp.where(accepted, length, 0.0),
                rho=rho,
                value=jnp.where(accepted, there, value),
                grad=jnp.where(accepted, slope, grad),
            )

        zero = jnp.zeros_like(value)
        none = _Trial(jnp.zeros((), jnp.int32), jnp.zeros((), bool), control, zero, zero, value, grad)
        end = jax.lax.while_loop(lambda t: usable & ~t.accepted & (t.count < self.max_trials), attempt, none)
        move = -end.length * grad
        status = jnp.where(end.accepted | (squared == 0), Status.OK, Status.REJECTED)
        finite = jnp.isfinite(value) & (squared < jnp.inf)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=jnp.where(finite, status, Status.NONFINITE).astype(jnp.int32),
            counts=counts(residual=end.count, vjp=end.count),
            scalars={
                self.control_name: control,
                "rho": end.rho,
                "step_size": end.length,
                "trials": end.count.astype(theta.dtype),
            },
        )
        return Step(unravel(theta + move), GainRatioState(end.value, end.grad, end.control), info)
