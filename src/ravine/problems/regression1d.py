"""Regression on the unit interval, of one frequency: the data-driven twin of Poisson1D.

    u(x_i) = u*(x_i),  i = 1..n,   u(0) = u(1) = 0,   u*(x) = sin(kπx)

Equations    data (n, 1) [units of u];  boundary (2, 1) [units of u], weight 100: points, weights, network and starts
             are those of Poisson1D, and u stands where -u'' stands there. Both are measurements: no sampler moves them.
Character    the kernel of a tanh network falls off so fast that the high modes of the error are learnt last: k = 4
             takes a first-order method far longer than k = 1.
Good values  tanh 1-20-1 (61 parameters), 64 cell midpoints, k = 1 or 4.
Reference    exact. Rahaman et al., ICML 2019, arXiv:1806.08734, for the order in which frequencies are learnt.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from ..calculus import Field
from ..problem import Equation
from .sine1d import Sine1D


class Regression1D(Sine1D):
    """Fit of sin(kπx), k = `frequency`, from its values (see the module docstring).

    `design` is the point design inside: grid (cell midpoints, the same for every key), sobol, halton, hammersley,
    uniform.
    """

    frequency: int = eqx.field(static=True, default=1)
    boundary_weight: float = eqx.field(static=True, default=100.0)
    n_data: int = eqx.field(static=True, default=64)
    design: str = eqx.field(static=True, default="grid")

    def __check_init__(self) -> None:
        self.check()

    @property
    def sizes(self) -> dict[str, int]:
        return {"data": self.n_data, "boundary": 2}

    @property
    def measured(self) -> frozenset[str]:
        return frozenset(self.sizes)

    def equations(self) -> dict[str, Equation]:
        return {"data": Equation(self.data), "boundary": Equation(self.boundary, self.boundary_weight)}

    def data(self, u: Field, x: Float[Array, " 1"], q: Any) -> Float[Array, " 1"]:
        return u(x) - self.solution(x)
