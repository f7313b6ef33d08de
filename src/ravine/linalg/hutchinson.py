"""One random look at the diagonal of a matrix that is known only by its products.

    z ⊙ Hz,   z of independent signs:      E[z ⊙ Hz] = diag H,      E[(z ⊙ Hz)²]ᵢ = Σ_j H_ij²

so the mean of many looks is the diagonal, while the root of their mean SQUARE is the length of the row: equal to |H_ii|
only where the row has nothing beside its diagonal. For a diagonal H one look is exact, because zᵢ² = 1; with normal z,
the other usual choice, it is not, and the variance of component i is larger by 2 H_ii².

Cost       one product.
Memory     2 P.
Reference  Hutchinson (1990), Commun. Stat. Simul. Comput. 19(2) (trace); Bekas, Kokiopoulou & Saad (2007), Appl. Numer.
           Math. 57 (diagonal).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float, PRNGKeyArray


def diagonal_look(product: Callable[[Array], Array], like: Float[Array, " P"], key: PRNGKeyArray) -> Float[Array, " P"]:
    """z ⊙ Hz for signs z of the shape and type of `like`; `product(v)` is Hv."""
    z = jax.random.rademacher(key, like.shape, like.dtype)
    return z * product(z)
