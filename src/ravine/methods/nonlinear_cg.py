"""Nonlinear conjugate gradients: directions that stay conjugate on a quadratic, from two vectors of memory.

    d⁺ = −g⁺ + βd,   θ⁺ = θ + t d  (t by a strong Wolfe search),   y = g⁺ − g

    "PR+"   β = max(0, yᵀg⁺/gᵀg)                                       Polak-Ribière, truncated
    "FR"    β = g⁺ᵀg⁺/gᵀg                                               Fletcher-Reeves
    "HZ"    β = max(η, (y − 2d yᵀy/dᵀy)ᵀg⁺/dᵀy),   η = −1/(|d| min(0.01, |g|))     Hager-Zhang

The direction restarts from −g⁺ where successive gradients are far from orthogonal, |g⁺ᵀg| ≥ ν g⁺ᵀg⁺ (Powell's test),
after P steps without a restart, where it is no descent direction, and after a failed search. The first trial is the
one whose first-order change equals that of the last step, t₋ dᵀ₋g₋/dᵀg; in the first step min(1, first_step/|g|).

With an exact search all three are the linear conjugate gradient method on a quadratic: at most as many steps as there
are distinct eigenvalues.

Needs      VALUE.
Cost/step  one value and gradient per trial of the search (about 2.5).
Memory     3 P.
Deviations (1) Powell's test and the restart after P steps apply to all three β. (2) c₂ = 0.01 instead of the usual
           0.1: conjugacy lives on the accuracy of the search, and a quadratic takes fewer evaluations in all.
           (3) A search that fails along d is REJECTED and the next step goes along −g; only a search that fails there
           gives NO_DESCENT. (4) `refresh` drops the direction: it is conjugate for the old points only.
Reference  Fletcher & Reeves (1964), Comput. J. 7; Polak & Ribière (1969), RIRO 3; Powell (1977), Math. Program. 12
           (restarts); Gilbert & Nocedal (1992), SIAM J. Optim. 2(1) (PR+); Hager & Zhang (2005), SIAM J. Optim. 16(1).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import require_choice, require_count, require_real
from ..globalize.wolfe import along, flat_gradient, search_status, strong_wolfe
from ..method import Method
from ..types import Info, Step, counts

C1 = 1e-4  # of the decrease condition; next to a small c₂ it hardly ever decides
FLOOR = 0.01  # η of Hager & Zhang (2005)


class NonlinearCGState(NamedTuple):
    value: Float[Array, ""]
    grad: Float[Array, " P"]
    direction: Float[Array, " P"]  # d of the next step
    change: Float[Array, ""]  # t dᵀg of the last step, 0 where there was none
    age: Int[Array, ""]  # steps since the direction was −g


class NonlinearCG(Method):
    """Nonlinear conjugate gradients with a strong Wolfe search: Polak-Ribière, Fletcher-Reeves or Hager-Zhang.

    `beta`: "PR+", "FR" or "HZ". `orthogonality`: ν > 0 of Powell's restart test (a large number switches it off).
    `first_step`: the longest first trial move. `c2`: the curvature condition's, in (1e-4, 1); "FR" needs c2 < ½ for
    descent. `max_trials`: trials in one search. Raises ValueError or TypeError for options out of range.
    """

    beta: str = eqx.field(static=True, default="PR+")
    orthogonality: float = 0.2
    first_step: float = 1.0
    c2: float = 0.01
    max_trials: int = eqx.field(static=True, default=25)

    batchable: ClassVar[bool] = False  # its memory is of one batch

    def __check_init__(self):
        require_choice(self, "beta", BETAS)
        require_real(self, "orthogonality", 0.0, why="with 0 every step would restart")
        require_real(self, "first_step", 0.0, float("inf"), why="it is a length")
        require_real(self, "c2", C1, 1.0, why="with c₁ < c₂ < 1 a Wolfe point always exists")
        require_count(self, "max_trials", 1)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        return _from_gradient(*flat_gradient(objective, params, theta.dtype))

    def refresh(self, objective, params, state):
        return _from_gradient(*flat_gradient(objective, params, state.grad.dtype))

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        value, grad, direction, change, age = state
        grad_norm, slope = jnp.linalg.norm(grad), direction @ grad
        start = jnp.minimum(1.0, self.first_step / jnp.where(grad_norm > 0, grad_norm, 1.0))
        first = jnp.where(change < 0, change / jnp.where(slope < 0, slope, -1.0), start)
        evaluate = along(objective, unravel, theta, direction)
        found = strong_wolfe(evaluate, value, slope, grad, first, c1=C1, c2=self.c2, max_trials=self.max_trials)

        beta = BETAS[self.beta](found.grad, grad, direction)
        conjugate = -found.grad + beta * direction
        squared, after = found.grad @ found.grad, conjugate @ found.grad
        far = jnp.abs(found.grad @ grad) >= self.orthogonality * squared
        restart = ~found.moved | far | (age + 1 >= theta.size) | ~((after < 0) & (after > -jnp.inf))
        move = found.t * direction
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=search_status(value, grad_norm, found.moved, age == 0),
            counts=counts(residual=found.trials, vjp=found.trials),
            scalars={
                "step_size": found.t,
                "trials": found.trials.astype(theta.dtype),
                "beta": jnp.where(restart, 0.0, beta),
            },
        )
        state = NonlinearCGState(
            value=found.value,
            grad=found.grad,
            direction=jnp.where(restart, -found.grad, conjugate),
            change=found.t * slope,
            age=jnp.where(restart, 0, age + 1),
        )
        return Step(unravel(theta + move), state, info)


def _from_gradient(value: Array, grad: Array) -> NonlinearCGState:
    return NonlinearCGState(value, grad, -grad, jnp.zeros_like(value), jnp.zeros((), jnp.int32))


def _ratio(numerator: Array, denominator: Array) -> Array:
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1.0), 0.0)


def polak_ribiere(new: Array, old: Array, _: Array) -> Array:
    return jnp.maximum(0.0, _ratio((new - old) @ new, old @ old))


def fletcher_reeves(new: Array, old: Array, _: Array) -> Array:
    return _ratio(new @ new, old @ old)


def hager_zhang(new: Array, old: Array, direction: Array) -> Array:
    y = new - old
    along_d = direction @ y  # positive at a Wolfe point
    beta = _ratio((y - 2 * _ratio(y @ y, along_d) * direction) @ new, along_d)
    floor = -_ratio(jnp.ones_like(beta), jnp.linalg.norm(direction) * jnp.minimum(FLOOR, jnp.linalg.norm(old)))
    return jnp.maximum(beta, floor)


BETAS = {"PR+": polak_ribiere, "FR": fletcher_reeves, "HZ": hager_zhang}
