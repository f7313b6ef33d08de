"""Objective-function-free AdaGrad: every decision is made from gradients.

    v⁺ = v + g²,   v₀ = ς,   θ⁺ = θ − αg/(v⁺)^μ          (each component on its own)

μ = ½ is AdaGrad. Read as a trust-region method, component i has the radius α|gᵢ|/(vᵢ⁺)^μ, which needs no gain ratio:
the loss is never compared, so noise in its values changes nothing, and it may rise. For a Lipschitz gradient and
μ = ½ the smallest |g| of k steps is O(1/√k), as for methods that do compare.

`Info.value` is for the record alone: it comes with the gradient. The one thing looked at is whether it is finite,
that is, whether θ⁺ lies where the objective is defined. Adding a constant to the objective changes no step.

Needs      VALUE (of which it uses the gradient).
Cost/step  one value and gradient.
Memory     2 P.
Deviations (1) the model has no second-order term (B = 0); (2) α, 1 in the papers, is an option; (3) a value or a
           gradient that is not finite at θ⁺ rejects the step (status REJECTED, parameters unchanged) and halves the
           next, which is taken with v⁺ ← 2^(1/μ) v⁺.
Reference  Gratton, Kopaničáková & Toint (2023), SIAM J. Optim. 33(4), arXiv:2302.07049; Gratton, Jerad & Toint (2022),
           arXiv:2203.01647; Duchi, Hazan & Singer (2011), J. Mach. Learn. Res. 12 (AdaGrad).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..checks import require_real
from ..globalize.wolfe import flat_gradient
from ..method import Method
from ..types import Info, Status, Step, counts


class OFFOAdaGradState(NamedTuple):
    value: Float[Array, ""]  # for the record
    grad: Float[Array, " P"]
    weights: Float[Array, " P"]  # v


class OFFOAdaGrad(Method):
    """Objective-function-free AdaGrad: steps −αg/(ς + Σg²)^μ; no value of the objective is compared.

    `learning_rate`: α. `initial`: ς > 0, v before the first step. `exponent`: μ in (0, 1).
    Raises ValueError or TypeError for options out of range.
    """

    learning_rate: float = 0.3
    initial: float = 0.01
    exponent: float = 0.5

    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_real(self, "learning_rate", 0.0, float("inf"), why="it is a step length")
        require_real(self, "initial", 0.0, float("inf"), why="it keeps the weights away from zero")
        require_real(self, "exponent", 0.0, 1.0, why="the theory holds for exponents between")

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        return OFFOAdaGradState(value, grad, jnp.full_like(theta, self.initial))

    def refresh(self, objective, params, state):
        value, grad = flat_gradient(objective, params, state.grad.dtype)
        return state._replace(value=value, grad=grad)

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        grad = state.grad
        finite = jnp.all(jnp.isfinite(grad)) & jnp.isfinite(state.value)
        weights = state.weights + grad * grad
        target = theta - self.learning_rate * grad / weights**self.exponent
        value, new = flat_gradient(objective, unravel(target), theta.dtype)
        moved = finite & jnp.all(jnp.isfinite(new)) & jnp.isfinite(value)

        move = jnp.where(moved, target - theta, 0.0)
        status = jnp.where(moved, Status.OK, jnp.where(finite, Status.REJECTED, Status.NONFINITE))
        info = Info(
            value=state.value,
            grad_norm=jnp.linalg.norm(grad),
            step_norm=jnp.linalg.norm(move),
            status=status.astype(jnp.int32),
            counts=counts(residual=1, vjp=1),
            scalars={"smallest_weight": jnp.min(weights), "largest_weight": jnp.max(weights)},
        )
        after = OFFOAdaGradState(
            value=jnp.where(moved, value, state.value),
            grad=jnp.where(moved, new, grad),
            # The next step adds g² again.
            weights=jnp.where(moved, weights, weights * 2.0 ** (1 / self.exponent) - grad * grad),
        )
        return Step(unravel(jnp.where(moved, target, theta)), after, info)
