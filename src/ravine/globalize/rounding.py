"""Where the change of a function drowns in the rounding of its values, so that slopes have to tell.

    |φ(t) − φ(0)| ≤ max(ε, 8 ulp) |φ(0)|,      ε = 1e-9

A sum of squares near zero is known to about ulp/|r|, far less than to an ulp, hence ε in float64. In float32 an ulp is
1.2e-7: a fixed ε would lie below it, and no difference of two values, however meaningless, would be called rounding.

Reference  Hager & Zhang (2005), SIAM J. Optim. 16(1) (ε|φ(0)| in the approximate Wolfe conditions).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

NOISE = 1e-9
ROUNDING = 8.0  # ulp of φ(0): differences of values below it are noise


def slack(value: Float[Array, ""], noise: float = NOISE) -> Float[Array, ""]:
    """Up to this much a value may differ from `value` by rounding alone."""
    return max(noise, ROUNDING * float(jnp.finfo(value.dtype).eps)) * jnp.abs(value)


def drowns(new: Float[Array, ""], old: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether rounding may have made the difference of two values."""
    return jnp.abs(new - old) <= slack(old)
