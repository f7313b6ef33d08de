"""The engine of the dense quasi-Newton methods: one scaled update of the Broyden class for H ≈ (∇²L)⁻¹.

    d = −Hg,   θ⁺ = θ + t d  (t by a strong Wolfe search),   s = θ⁺ − θ,   y = g⁺ − g
    w = Hy,    v = s/(sᵀy) − w/(yᵀw)
    H⁺ = (H − wwᵀ/(yᵀw) + φ (yᵀw) vvᵀ)/τ + ssᵀ/(sᵀy)              φ = 1: BFGS,  φ = 0: DFP

H⁺y = s for every τ and φ, and H⁺ stays positive definite for τ > 0, sᵀy > 0 and φ above the value at which the
update becomes singular. A method of the family chooses τ and φ from
b = sᵀH⁻¹s/(sᵀy) = −t sᵀg/(sᵀy) and h = yᵀHy/(sᵀy), which cost nothing.

Needs      VALUE.
Cost/step  one value and gradient per trial of the search (about 1.1 trials with the method's default first trial);
           two products Hx and one pass over H.
Memory     P² + P.
Deviations 1. The update is skipped unless sᵀy > ulp |s||y|. 2. Where −Hg is no descent direction, and in the step
           after a failed search (status REJECTED), H restarts from the identity; only a search that fails along −g
           gives NO_DESCENT. 3. After `refresh` H is kept: new points change the curvature little.
Reference  Nocedal & Wright (2006), Numerical Optimization, chapter 6; Al-Baali (1998), Comput. Optim. Appl. 9.
"""

from __future__ import annotations

import abc
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from ..globalize.wolfe import along, check_search, first_trial, flat_gradient, search_status, strong_wolfe
from ..method import Method
from ..types import Info, Step, counts


class DenseState(NamedTuple):
    value: Float[Array, ""]
    decrease: Float[Array, ""]  # value − the value before; 0 where that is not known
    grad: Float[Array, " P"]
    inverse: Float[Array, "P P"]  # H, meaningless while `fresh`
    fresh: Bool[Array, ""]  # H is the identity, not yet scaled


class Scaling(NamedTuple):
    """The member of the family taken at one step."""

    tau: Float[Array, ""]
    phi: Float[Array, ""]


class Pair(NamedTuple):
    """What the update needs of one step."""

    s: Float[Array, " P"]
    y: Float[Array, " P"]
    w: Float[Array, " P"]  # Hy
    usable: Bool[Array, ""]  # curvature is positive beyond rounding


def broyden_update(inverse: Array, pair: Pair, scaling: Scaling) -> Array:
    """H⁺: one pass over H, symmetric to the last bit if H is; H itself where the pair is not usable."""
    s, y, w, usable = pair
    sy, yw = jnp.where(usable, s @ y, 1.0), jnp.where(usable, y @ w, 1.0)
    m, n = s / jnp.sqrt(sy), w / jnp.sqrt(yw)
    z = s * (jnp.sqrt(yw) / sy) - n
    m, n, z = (jnp.where(usable, x, 0.0) for x in (m, n, z))
    tau = jnp.where(usable, scaling.tau, 1.0)
    phi = jnp.where(usable, scaling.phi, 1.0)
    outer = phi * (z[:, None] * z[None, :]) - n[:, None] * n[None, :]
    return (inverse + outer) / tau + m[:, None] * m[None, :]


class AbstractDenseQuasiNewton(Method):
    """The engine. A subclass chooses τ and φ."""

    first_trial: eqx.AbstractVar[str]
    first_step: eqx.AbstractVar[float]
    c1: eqx.AbstractVar[float]
    c2: eqx.AbstractVar[float]
    max_trials: eqx.AbstractVar[int]
    second_order = True

    def __check_init__(self):
        check_search(self)

    @abc.abstractmethod
    def scaling(self, b: Array, h: Array, fresh: Array, size: int) -> Scaling:
        """τ and φ from b and h; `fresh` where H is the unscaled identity; `size` is P."""

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        eye = jnp.eye(theta.size, dtype=theta.dtype)
        return DenseState(value, jnp.zeros_like(value), grad, eye, jnp.ones((), bool))

    def footprint(self, n: int, p: int) -> int:
        return 2 * p * p + 8 * p  # H and the H of the next step

    def refresh(self, objective, params, state):
        value, grad = flat_gradient(objective, params, state.grad.dtype)
        return state._replace(value=value, decrease=jnp.zeros_like(value), grad=grad)

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        value, grad = state.value, state.grad
        fresh, direction, slope = _direction(state)

        grad_norm = jnp.linalg.norm(grad)
        size = jnp.linalg.norm(theta)
        first = first_trial(self.first_trial, self.first_step, fresh, size, grad_norm, state.decrease, slope)
        evaluate = along(objective, unravel, theta, direction)
        found = strong_wolfe(evaluate, value, slope, grad, first, c1=self.c1, c2=self.c2, max_trials=self.max_trials)

        s, y = found.t * direction, found.grad - grad
        base = jnp.where(fresh, jnp.eye(theta.size, dtype=theta.dtype), state.inverse)
        pair, b, h = _pair(s, y, base @ y, -found.t * (s @ grad))
        scaling = self.scaling(b, h, fresh, theta.size)
        inverse = broyden_update(base, pair, scaling)

        fresh_after = jnp.where(found.moved, fresh & ~pair.usable, True)
        state = DenseState(found.value, found.value - value, found.grad, inverse, fresh_after)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(s),
            status=search_status(value, grad_norm, found.moved, fresh),
            counts=counts(residual=found.trials, vjp=found.trials),
            scalars={
                "step_size": found.t,
                "trials": found.trials.astype(theta.dtype),
                "curvature": jnp.where(pair.usable, (s @ y) / (s @ s), 0.0),
                "tau": scaling.tau,
                "phi": scaling.phi,
            },
        )
        return Step(unravel(theta + s), state, info)


def _direction(state: DenseState) -> tuple[Array, Array, Array]:
    """(H is the identity, d, gᵀd): −Hg, or −g where that is no descent direction."""
    newton = -(state.inverse @ state.grad)
    slope = newton @ state.grad
    fresh = state.fresh | ~((slope < 0) & (slope > -jnp.inf))
    direction = jnp.where(fresh, -state.grad, newton)
    return fresh, direction, jnp.where(fresh, -(state.grad @ state.grad), slope)


def _pair(s: Array, y: Array, w: Array, sbs: Array) -> tuple[Pair, Array, Array]:
    """The pair with its b and h, which are 1 where it is not usable."""
    sy, yw = s @ y, y @ w
    ulp = jnp.finfo(s.dtype).eps
    usable = (sy > ulp * jnp.linalg.norm(s) * jnp.linalg.norm(y)) & (yw > 0) & (sbs > 0) & jnp.isfinite(yw)
    safe = jnp.where(usable, sy, 1.0)
    b = jnp.where(usable, sbs / safe, 1.0)
    h = jnp.where(usable, yw / safe, 1.0)
    return Pair(s, y, w, usable), b, h
