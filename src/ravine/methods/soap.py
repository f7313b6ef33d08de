"""SOAP: Adam in the eigenbasis of Shampoo's factors, refreshed every `frequency` steps.

    G' = Q_Lᵀ G Q_R per matrix,   θ⁺ = θ − α (Q_L Adam(G') Q_Rᵀ + λθ),   Q eigenvectors of the averages of GGᵀ, GᵀG

Equations, treatment of vectors and tensors, and deviations: see `transforms.soap_update`; this method wraps
`ravine.transforms.soap`, which any training loop can use.

Needs      VALUE.
Cost/step  one value and gradient (residual 1, vjp 1); per m × n matrix 6mn(m+n) flops, and every `frequency` steps
           about 6(m³+n³) + 4mn(m+n) more.
Memory     2(m² + n² + mn) per matrix, twice the size of every vector.
Reference  Vyas et al. (2024), SOAP: Improving and Stabilizing Shampoo using Adam, arXiv:2409.11321.
"""

from __future__ import annotations

import equinox as eqx

from ..checks import nonnegative, require, whole
from ..transforms.soap_update import soap
from .optax_methods import AbstractOptax, Rate, check_adam


class SOAP(AbstractOptax):
    """See module docstring. Learning rate and decays are the paper's. A side longer than `max_precond_dim` is not
    rotated. Raises ValueError for a number out of its range."""

    learning_rate: Rate = 3e-3
    b1: float = 0.95
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    frequency: int = eqx.field(static=True, default=10)
    max_precond_dim: int = eqx.field(static=True, default=2048)

    def __check_init__(self):
        check_adam(self)
        sizes = {"frequency": whole(self.frequency, 1), "max_precond_dim": whole(self.max_precond_dim, 1)}
        require("SOAP", weight_decay=nonnegative(self.weight_decay), **sizes)

    def build(self):
        sizes = {"frequency": self.frequency, "max_precond_dim": self.max_precond_dim}
        return soap(self.learning_rate, self.b1, self.b2, self.eps, self.weight_decay, **sizes)
