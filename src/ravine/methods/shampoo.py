"""Shampoo: the gradient divided by the fourth roots of its own second moments, from both sides of a matrix.

    L = δL + GGᵀ,   R = δR + GᵀG,   v⁺ = μv + (L + εI)^(−1/4) G (R + εI)^(−1/4),   θ⁺ = θ − α(v⁺ + λθ)

Treatment of vectors and tensors, what stale roots do, and deviations: see `transforms.shampoo_update`; this
method wraps `ravine.transforms.shampoo`, which any training loop can use.

Needs      VALUE.
Cost/step  one value and gradient (residual 1, vjp 1); per m × n matrix two eigendecompositions, about 10(m³+n³) flops,
           and 4mn(m+n).
Memory     2(m² + n²) + mn per matrix; a vector of n up to 2n² + n.
Reference  Gupta, Koren & Singer (2018), Shampoo: Preconditioned Stochastic Tensor Optimization, ICML, arXiv:1802.09568.
"""

from __future__ import annotations

import equinox as eqx

from ..checks import decay, nonnegative, positive, rate, require, whole
from ..transforms.shampoo_update import shampoo
from .optax_methods import AbstractOptax, Rate


class Shampoo(AbstractOptax):
    """See module docstring. `decay` δ = 1 is the paper's sum; a side longer than `max_precond_dim` keeps the diagonal
    of its factor; `frequency` above 1 keeps the roots for so many steps. Raises ValueError for a number out of its
    range."""

    learning_rate: Rate = 1e-2
    momentum: float = 0.9
    decay: float = 1.0
    eps: float = 1e-12
    weight_decay: float = 0.0
    frequency: int = eqx.field(static=True, default=1)
    max_precond_dim: int = eqx.field(static=True, default=2048)

    def __check_init__(self):
        numbers = {"momentum": decay(self.momentum), "eps": positive(self.eps)}
        sizes = {"frequency": whole(self.frequency, 1), "max_precond_dim": whole(self.max_precond_dim, 1)}
        require("Shampoo", learning_rate=rate(self.learning_rate), **numbers, **sizes)
        require("Shampoo", decay=(self.decay, lambda v: 0 < v <= 1, "in (0, 1]"))
        require("Shampoo", weight_decay=nonnegative(self.weight_decay))

    def build(self):
        sizes = {"frequency": self.frequency, "max_precond_dim": self.max_precond_dim}
        numbers = self.learning_rate, self.momentum, self.decay, self.eps, self.weight_decay
        return shampoo(*numbers, **sizes)
