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
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from ..directions.broyden import Scaling, broyden_update, curvature_pair, inverse_times, quasi_newton_direction
from ..globalize.wolfe import along, check_search, first_trial, flat_gradient, search_status, strong_wolfe
from ..method import Method
from ..types import Info, Step, counts


class DenseState(NamedTuple):
    value: Float[Array, ""]
    decrease: Float[Array, ""]  # value − the value before; 0 where that is not known
    grad: Float[Array, " P"]
    inverse: Float[Array, "P P"]  # H, meaningless while `fresh`
    fresh: Bool[Array, ""]  # H is the identity, not yet scaled


class AbstractDenseQuasiNewton(Method):
    """The engine. A subclass chooses τ and φ."""

    first_trial: eqx.AbstractVar[str]
    first_step: eqx.AbstractVar[float]
    c1: eqx.AbstractVar[float]
    c2: eqx.AbstractVar[float]
    max_trials: eqx.AbstractVar[int]

    second_order: ClassVar[bool] = True

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
        fresh, direction, slope = quasi_newton_direction(state.inverse, grad, grad, state.fresh)

        grad_norm = jnp.linalg.norm(grad)
        size = jnp.linalg.norm(theta)
        first = first_trial(self.first_trial, self.first_step, fresh, size, grad_norm, state.decrease, slope)
        evaluate = along(objective, unravel, theta, direction)
        found = strong_wolfe(evaluate, value, slope, grad, first, c1=self.c1, c2=self.c2, max_trials=self.max_trials)

        s, y = found.t * direction, found.grad - grad
        pair, b, h = curvature_pair(s, y, inverse_times(state.inverse, fresh, y), -found.t * (s @ grad))
        scaling = self.scaling(b, h, fresh, theta.size)
        inverse = broyden_update(state.inverse, fresh, pair, scaling)

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
