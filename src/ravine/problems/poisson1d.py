"""Poisson equation on the unit interval, of one frequency: the physics-informed twin of Regression1D.

    -u'' = f in (0, 1),   u(0) = u(1) = 0,   u*(x) = sin(kπx),   f = k²π² u*

Equations    pde (n, 1) [units of f];  boundary (2, 1) [units of u], weight 100.
Character    linear; the second derivative weighs mode k by k²π², which makes the kernel of the pde rows flatter than
             that of the data and the high modes learnable, while two boundary rows of weight 100 set the largest
             curvature and so the step of gradient descent.
Good values  tanh 1-20-1 (61 parameters), 64 cell midpoints, k = 1 or 4.
Reference    exact. The setting follows common practice (Lagaris, Likas & Fotiadis, IEEE Trans. Neural Netw. 9, 1998).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..calculus import Field, laplacian
from ..problem import Equation
from .sine1d import Sine1D


class Poisson1D(Sine1D):
    """Poisson equation on (0, 1) with solution sin(kπx), k = `frequency` (see the module docstring).

    `design` is the point design inside: grid (cell midpoints, the same for every key), sobol, halton, hammersley,
    uniform.
    """

    frequency: int = eqx.field(static=True, default=1)
    boundary_weight: float = eqx.field(static=True, default=100.0)
    n_pde: int = eqx.field(static=True, default=64)
    design: str = eqx.field(static=True, default="grid")

    def __check_init__(self) -> None:
        self.check()

    @property
    def sizes(self) -> dict[str, int]:
        return {"pde": self.n_pde, "boundary": 2}

    @property
    def fixed(self) -> frozenset[str]:
        return frozenset(self.sizes) if self.design == "grid" else frozenset({"boundary"})

    def equations(self) -> dict[str, Equation]:
        return {"pde": Equation(self.pde), "boundary": Equation(self.boundary, self.boundary_weight)}

    def pde(self, u: Field, x: Float[Array, " 1"], q: Any) -> Float[Array, " 1"]:
        return laplacian(u, x) + (self.frequency * jnp.pi) ** 2 * self.solution(x)
