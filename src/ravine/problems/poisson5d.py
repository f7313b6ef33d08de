"""Poisson equation on the five-dimensional unit cube with a separable smooth solution.

    -Δu = f in Ω = (0,1)⁵,    u = u* on ∂Ω,    u*(x) = Σ_i cos(πx_i),    f = π² u*

Equations    pde (n, 1) [units of f];  boundary (n, 1) [units of u], weight 10.
Character    linear, elliptic, smooth; the difficulty is the dimension. Five sine units represent u* exactly, so with
             sine activation it tests optimisation rather than approximation.
Good values  sine 5-24-24-1, 3000 + 500 points, 2e-8.
Reference    exact. Dangel, Müller & Zeinhofer, NeurIPS 2024, arXiv:2405.15603.
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
from ..models.mlp import MLP
from ..problem import Equation, Picture, Points, Problem


class Poisson5D(Problem):
    """Poisson equation on the 5-D unit cube, exact solution Σ cos(πx_i) (see the module docstring).

    `design` is the point design of both equations: sobol, halton, hammersley, uniform, grid (the same for every key).
    """

    boundary_weight: float = eqx.field(static=True, default=10.0)
    n_pde: int = eqx.field(static=True, default=3000)
    n_boundary: int = eqx.field(static=True, default=500)
    design: str = eqx.field(static=True, default="sobol")

    dim_in: ClassVar[int] = 5
    dim_out: ClassVar[int] = 1
    lower: ClassVar[tuple[float, ...]] = (0.0,) * 5
    upper: ClassVar[tuple[float, ...]] = (1.0,) * 5

    def __check_init__(self) -> None:
        points.check_design(self.design)

    @property
    def sizes(self) -> dict[str, int]:
        return {"pde": self.n_pde, "boundary": self.n_boundary}

    def equations(self) -> dict[str, Equation]:
        return {"pde": Equation(self.pde), "boundary": Equation(self.boundary, self.boundary_weight)}

    def pde(self, u: Field, x: Float[Array, " 5"], q: Any) -> Float[Array, " 1"]:
        return laplacian(u, x) + jnp.pi**2 * self.solution(x)

    def boundary(self, u: Field, x: Float[Array, " 5"], q: Any) -> Float[Array, " 1"]:
        return u(x) - self.solution(x)

    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        draw = points.design if name == "pde" else points.boundary
        return Points(draw(self.design, n, self.lower, self.upper, rng))

    def solution(self, x: Float[Array, " 5"]) -> Float[Array, " 1"]:
        return jnp.sum(jnp.cos(jnp.pi * x), keepdims=True)

    def test_points(self) -> Float[np.ndarray, "m 5"]:
        """20,000 uniform points of a stream of their own."""
        return points.design("uniform", 20_000, self.lower, self.upper, points.generator(0, "test points"))

    def default_model(self) -> Model:
        return MLP(5, 1, width=24, depth=2, activation="sin")

    def picture(self) -> Picture:
        """The slice x₃ = x₄ = x₅ = ½."""
        axis = np.linspace(0.0, 1.0, 101)
        plane = points.lattice((101, 101), (0.0, 0.0), (1.0, 1.0))
        rest = np.full((len(plane), 3), 0.5)
        return Picture(np.concatenate([plane, rest], axis=1), (axis, axis), ("x₁", "x₂"))
