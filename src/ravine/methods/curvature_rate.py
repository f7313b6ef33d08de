"""Step lengths from the curvature met: α = share/ℓ, where a theorem wants α below a share of 1/l and l is not known.

    ℓ₀ = max |λ(∇²L)| at the start,      ℓ⁺ = max(0.999 ℓ, the curvature met on a batch), ℓ where none was met

What is met is a secant |∇L_B(θ) − ∇L_B(θ')|/|θ − θ'| where both gradients are there, and |∇²L_B v|/|v| along the
direction v of the step where they are not. Along a move that drowns in rounding nothing is met: ℓ must stay, or it
would decay at the end of a run until steps are too long. A batch bends more than the mean of all rows, and it is on
batches that a step is too long; so ℓ₀ alone is not enough. Scaling L changes no iterate.

Cost       `PRODUCTS` Hessian-vector products over all rows, once; nothing for a secant, a product over b rows along v.
Memory     2 P during a product.
Reference  the rule is ours; that the smoothness of batches, not of L, bounds the step: Gower, Loizou, Qian,
           Sailanbayev, Shulgin & Richtárik (2019), ICML, arXiv:1901.09401.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import require_real
from ..globalize.wolfe import flat_hvp
from ..linalg.power import largest
from ..types import Params

PRODUCTS = 10  # with the Hessian of L, before the first step
FORGET = 0.999  # of ℓ, a step
EVERY = 10  # steps from one look along v to the next


def require_rate(owner: Any) -> None:
    """Raise ValueError or TypeError unless `learning_rate` is a length or None, and `share` sensible."""
    if owner.learning_rate is not None:
        require_real(owner, "learning_rate", 0.0, float("inf"), why="it is a step length")
    require_real(owner, "share", 0.0, 2.0, why="a step of 2/ℓ no longer descends")


def at_start(objective, params: Params, theta: Float[Array, " P"], key: PRNGKeyArray | None) -> Float[Array, ""]:
    """ℓ₀, 0 where a product is not finite. `key` None: always the same first direction."""
    key = jax.random.key(0) if key is None else key
    found = largest(partial(flat_hvp, objective, params), theta, PRODUCTS, key)
    return jnp.where(jnp.isfinite(found), found, 0.0)


def secant(change: Float[Array, " P"], move: Float[Array, " P"], theta: Float[Array, " P"]) -> Float[Array, ""]:
    """|change|/|move|; NaN where the move is so short that rounding would be divided by it."""
    length, least = jnp.linalg.norm(move), jnp.sqrt(jnp.finfo(theta.dtype).eps) * jnp.linalg.norm(theta)
    return jnp.where(length > least, jnp.linalg.norm(change) / jnp.where(length > 0, length, 1.0), jnp.nan)


def along(batch, params: Params, v: Float[Array, " P"]) -> Float[Array, ""]:
    """|∇²L_B v|/|v|; NaN for v = 0."""
    length = jnp.linalg.norm(v)
    found = jnp.linalg.norm(flat_hvp(batch, params, v / jnp.where(length > 0, length, 1.0)))
    return jnp.where(length > 0, found, jnp.nan)


def widened(smoothness: Float[Array, ""], met: Float[Array, ""], forget: float = FORGET) -> Float[Array, ""]:
    """ℓ⁺; ℓ where what was met is not finite."""
    return jnp.where(jnp.isfinite(met), jnp.maximum(forget * smoothness, met), smoothness)


def looked(batch, params: Params, v: Float[Array, " P"], smoothness: Array, steps: Array) -> tuple[Array, Array]:
    """(ℓ⁺ with a look along v in every `EVERY`-th step, how many looks: 1 or 0)."""
    due = steps % EVERY == 0
    met = jax.lax.cond(due, lambda: along(batch, params, v), lambda: jnp.full_like(smoothness, jnp.nan))
    return widened(smoothness, met, FORGET**EVERY), due.astype(jnp.int32)


def rate(share: Float[Array, ""] | float, smoothness: Float[Array, ""], v: Float[Array, " P"]) -> Float[Array, ""]:
    """α. Without any curvature the step is `share` long."""
    known, length = (smoothness > 0) & jnp.isfinite(smoothness), jnp.linalg.norm(v)
    return share / jnp.where(known, smoothness, jnp.where(length > 0, length, 1.0))
