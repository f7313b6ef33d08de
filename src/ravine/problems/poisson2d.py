"""Poisson equation on the unit square with a smooth manufactured solution.

    -Δu = f in Ω = (0,1)²,    u = 0 on ∂Ω,    u*(x) = sin(πx₁) sin(πx₂),    f = 2π² u*

Equations    pde (n, 1) [units of f];  boundary (n, 1) [units of u], weight 4 where it is not imposed.
Character    linear, elliptic, well posed; no sharp features.
Good values  hard boundary: tanh 2-24-24-1, 30 x 30 cell midpoints, 1e-10 and below. Soft boundary (`hard=False`): tanh
             2-32-1, 900 + 120 points, 1e-8.
Reference    exact. Müller & Zeinhofer, ICML 2023, arXiv:2302.13163, for the soft form.
"""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import points
from ..calculus import Field, laplacian
from ..model import Model
from ..models.hard import Hard, ZeroOnBox
from ..models.mlp import MLP
from ..problem import Equation, Picture, Points, Problem


class Poisson2D(Problem):
    """Poisson equation on the unit square, exact solution sin(πx) sin(πy) (see the module docstring).

    `hard` chooses the default model: zero boundary values by construction, or a plain network and a penalty.
    `design` is the point design of both equations: grid (the same for every key), sobol, halton, hammersley, uniform.
    """

    hard: bool = eqx.field(static=True, default=True)
    boundary_weight: float = eqx.field(static=True, default=4.0)
    n_pde: int = eqx.field(static=True, default=900)
    n_boundary: int = eqx.field(static=True, default=120)
    design: str = eqx.field(static=True, default="grid")

    dim_in: ClassVar[int] = 2
    dim_out: ClassVar[int] = 1
    lower: ClassVar[tuple[float, ...]] = (0.0, 0.0)
    upper: ClassVar[tuple[float, ...]] = (1.0, 1.0)

    def __check_init__(self) -> None:
        points.check_design(self.design)

    @property
    def sizes(self) -> dict[str, int]:
        return {"pde": self.n_pde, "boundary": self.n_boundary}

    def equations(self) -> dict[str, Equation]:
        return {"pde": Equation(self.pde), "boundary": Equation(self.boundary, self.boundary_weight)}

    def pde(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        return laplacian(u, x) + 2 * jnp.pi**2 * self.solution(x)

    def boundary(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        return u(x)

    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        draw = points.design if name == "pde" else points.boundary
        return Points(draw(self.design, n, self.lower, self.upper, rng))

    def solution(self, x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return jnp.prod(jnp.sin(jnp.pi * x), keepdims=True)

    def test_points(self) -> Float[np.ndarray, "m 2"]:
        return points.lattice((101, 101), self.lower, self.upper)

    def default_model(self) -> Model:
        if not self.hard:
            return MLP(2, 1, width=32, depth=1)
        inner = MLP(2, 1, width=24, depth=2, lower=self.lower, upper=self.upper)
        return Hard(inner, ZeroOnBox(self.lower, self.upper), imposes=("boundary",))

    def picture(self) -> Picture:
        axis = np.linspace(0.0, 1.0, 101)
        return Picture(points.lattice((101, 101), self.lower, self.upper), (axis, axis), ("x", "y"))
