"""A step along one direction whose length a search on the true loss decides: shared by Gauss-Newton and ENGD.

    θ⁺ = θ + t d,   t from the values L(θ + t d) and the slope gᵀd alone

θ stays where there is no direction (LINEAR_SOLVE), no acceptable t (NO_DESCENT), or no finite value (NONFINITE).

Cost       what the search evaluates; value and gradient at θ are the linearisation's.
Memory     P.
Reference  Nocedal & Wright (2006), Numerical Optimization, section 3.1; the searches name their own (`globalize.grid`).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..globalize.grid import Found
from ..linearization import Linearization
from ..types import Info, Status, Step, counts, more


def searched_step(
    local: Linearization,
    direction: Float[Array, " P"],
    search: Callable[..., Found],
    *,
    solved: Bool[Array, ""],
    solves: Int[Array, ""],
    kernel: bool = False,
) -> Step:
    """θ + t d with t from `search(value_at, value, slope)`; the state is the caller's. `kernel`: d is from JJᵀ.

    θ is unchanged, with the status that says why, if no direction was solved for or no t was acceptable.
    """
    value, grad = local.value, local.grad
    grad_norm = jnp.linalg.norm(grad)
    found = search(lambda t: local.objective.value(local.unravel(local.theta + t * direction)), value, grad @ direction)
    finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
    moved = found.accepted & solved & finite
    status = jnp.where(moved, Status.OK, jnp.where(solved, Status.NO_DESCENT, Status.LINEAR_SOLVE))
    move = jnp.where(moved, found.t * direction, 0.0)
    info = Info(
        value=value,
        grad_norm=grad_norm,
        step_norm=jnp.linalg.norm(move),
        status=jnp.where(finite, status, Status.NONFINITE).astype(jnp.int32),
        counts=more(counts(residual=1 + found.evaluations, solves=solves), local.work(kernel=kernel)),
        scalars={"step_size": jnp.where(moved, found.t, 0.0)},
    )
    return Step(local.unravel(local.theta + move), None, info)
