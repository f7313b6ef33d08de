"""Batches that grow when their noise may turn the gradient round: the inner-product test.

    Var(∇L_Bᵀ ∇L)  ≤  θ² |∇L|⁴      and      E|∇L_B − its part along ∇L|²  ≤  ν² |∇L|²

Noise across the gradient costs little: a step stays a descent direction while the part along it is right, so batches
may be smaller than the norm test asks for. Both sides are estimated over one batch, ∇L by ∇L_B.

Everything else, the cost and the deviations as in `norm_test`.
Reference  Bollapragada, Byrd & Nocedal (2018), SIAM J. Optim. 28(4), arXiv:1710.11258 (θ = 0.9, ν = 5.84).
"""

from __future__ import annotations

from .base import check_every
from .batches import check_size
from .norm_test import AbstractGrowing


class InnerProductTest(AbstractGrowing):
    """Batches that double while their noise along the gradient exceeds θ times it, or their noise across it ν times it.

    `size`: the first. `theta`: θ in (0, 1). `nu`: ν > 0. `every`: steps between two tests. Raises ValueError for values
    outside.
    """

    size: int = 64
    theta: float = 0.9
    nu: float = 5.84
    every: int | None = 50

    def __check_init__(self):
        check_size(self)
        check_every(self)
        if not (0 < self.theta < 1 and self.nu > 0):
            raise ValueError(
                f"InnerProductTest(theta={self.theta}, nu={self.nu}): theta must lie in (0, 1), nu above 0."
            )

    def holds(self, spread, factors):
        along = sum(spread.along[k] * f for k, f in factors.items())
        across = sum((spread.total[k] - spread.along[k]) * f for k, f in factors.items())
        return along <= self.theta**2 * spread.squared and across <= self.nu**2 * spread.squared
