"""The largest curvature of a symmetric matrix that is known only by its products.

    v⁺ = Hv/|Hv|,      |Hv| → max |λ(H)|      from below, by the factor |λ₂/λ₁| a step

Cost       one product a step.
Memory     2 P.
Reference  Golub & Van Loan (2013), Matrix Computations, 4th ed., section 8.2.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def largest(
    product: Callable[[Array], Array], like: Float[Array, " P"], steps: int, key: PRNGKeyArray
) -> Float[Array, ""]:
    """|Hv| after `steps` products, the first of a normal direction; 0 where H vanishes on it. `product(v)` is Hv."""

    def step(_, carry):
        v, _ = carry
        found = product(v)
        length = jnp.linalg.norm(found)
        return found / jnp.where(length > 0, length, 1.0), length

    v = jax.random.normal(key, like.shape, like.dtype)
    first = (v / jnp.linalg.norm(v), jnp.zeros((), like.dtype))
    return jax.lax.fori_loop(0, steps, step, first)[1]
