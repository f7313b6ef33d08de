"""The damped Gauss-Newton step continued to higher order: a curve along which the linear model comes true.

A step d moves the rows not to r + Jd but to r + Jd + ½r''[d, d] + …, and what is left over lies mostly in stiff
directions, where it outweighs everything that was gained. The damped system that gave d also says how to bend the
step so that it cancels, order by order:

    s(t) = t d + t² a₂ + … + tⁿ aₙ,      (JᵀJ + λD) aₖ = −Jᵀ cₖ,      k = 2, …, n

with cₖ the coefficient of tᵏ in the rows along the curve of the terms before aₖ. Order 2 is geodesic acceleration,
a₂ = −½(JᵀJ + λD)⁻¹Jᵀr''[d, d]. For a Composite the rows are its outputs z, and J stands for Q^½J, cₖ for Q^½cₖ.

c₂ is exact, from one nested forward sweep. The higher ones are differences of the rows at ±½, of which the known
coefficients of the same parity are taken off: two evaluations, where an exact k-th derivative costs 2ᵏ of them (44 ms
for k = 3 on Burgers' equation with N = 4000, P = 1297, against 2.6 ms). The differences see what the rows do at the
length of the step, and their error of relative order t² cannot spoil a step: every point of the curve is judged by
its true value.

What it is worth: Burgers' equation from one and the same point (loss 1.6e-7, fixed points, λ by Nielsen's rule, 20 s
of one core): order 2 ends at loss 1.3e-9, order 3 at 2e-11, order 4 at 8e-12, with shortening along the curve 1e-12.
One more order costs about 10 ms of 260.

Reference  Transtrum & Sethna (2012), arXiv:1201.5885 (order 2); Cochelin (1994), Comput. Struct. 53 (series with one
           factorisation in path following, the asymptotic-numerical method).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

STEP = 0.5  # where the rows are compared, as a fraction of the step


class Curve(NamedTuple):
    """Coefficients a₁ = d, a₂, … of s(t), the rows' slope Jd (outputs of a Composite), and 2‖a₂‖_D / ‖d‖_D."""

    terms: tuple[Float[Array, " P"], ...]
    slope: Float[Array, " N"]
    bend: Float[Array, ""]


def point(terms: tuple[Array, ...], t: Any) -> Float[Array, " P"]:
    """s(t), by Horner's rule."""
    total = terms[-1]
    for term in terms[-2::-1]:
        total = term + t * total
    return t * total


def continued(local: Any, system: Any, factor: Array, damping: Array, d: Float[Array, " P"], order: int) -> Curve:
    """The curve of the given order whose tangent is d.

    `local` is the linearisation, `system` the damped system and `factor` its factorisation at `damping`.
    Cost: one forward sweep for order 1; a nested one and a solve for order 2; two evaluations of the rows, a product
    with J (of rows and of columns) and a solve for each order more. Memory: order · (N + P).
    """
    if order == 1:
        return Curve((d,), local.jvp(d), jnp.zeros((), d.dtype))

    def correction(coefficient):
        return -system.apply(factor, damping, local.weigh(coefficient))

    slope, second = local.curve(d)
    start = local.residual if local.has_residual else local.outputs
    terms, known = [d, correction(0.5 * second)], [start, slope, 0.5 * second]
    lengths = [jnp.sqrt(jnp.sum(system.scale * v * v)) for v in terms]
    for k in range(3, order + 1):
        if k >= 4:  # of this parity, the rows' coefficient of t^(k-2) is complete only with J a_(k-2)
            known[k - 2] = known[k - 2] + local.jvp(terms[k - 3])
        ahead, behind = (local.rows_at(local.theta + point(tuple(terms), h)) for h in (STEP, -STEP))
        change = 0.5 * (ahead - behind if k % 2 else ahead + behind)
        change = change - sum(known[i] * STEP**i for i in range(k % 2, k, 2))
        coefficient = change / STEP**k
        terms.append(correction(coefficient))
        known.append(coefficient)
    return Curve(tuple(terms), slope, 2 * lengths[1] / lengths[0])
