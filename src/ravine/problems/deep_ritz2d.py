"""The Poisson equation on the unit square as an energy (Deep Ritz).

    min E(u) = ∫_Ω ½|∇u|² - f u dx  over u = 0 on ∂Ω,    Ω = (0,1)²,    f = 2π² u*
    u*(x) = sin(πx₁) sin(πx₂),    E(u*) = -π²/4

Equations    energy: z = (u, u_x, u_y), φ(z, x) = ½|∇u|² - f u, convex in z [units of f · u], Gauss-Legendre weights;
             boundary: u [units of u], weight 500, where the model does not impose it (a penalty, which moves the
             minimiser by O(1/weight)).
Character    linear, elliptic; the loss is an energy, negative at the solution, no residual. Its gap is the squared H1
             error, so an error of 1e-8 is below rounding of the energy. Quadrature too coarse for the model gives
             an energy below E(u*): the score checks this with a finer rule.
Good values  hard boundary, tanh 2-24-24-1, 40 x 40 Gauss points, 3e-9.
Reference    exact. E & Yu, Commun. Math. Stat. 6 (2018), arXiv:1710.00211.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import points
from ..calculus import Field, gradient
from ..model import Model
from ..models.hard import Hard, ZeroOnBox
from ..models.mlp import MLP
from ..problem import Equation, Picture, Points, Problem


class DeepRitz2D(Problem):
    """Deep Ritz energy of the Poisson equation on the unit square (see the module docstring).

    `n_energy` must have near-equal factors (a tensor Gauss rule); energy points and weights are the same for every key.
    """

    boundary_weight: float = eqx.field(static=True, default=500.0)
    n_energy: int = eqx.field(static=True, default=1600)
    n_boundary: int = eqx.field(static=True, default=120)

    dim_in: ClassVar[int] = 2
    dim_out: ClassVar[int] = 1
    lower: ClassVar[tuple[float, ...]] = (0.0, 0.0)
    upper: ClassVar[tuple[float, ...]] = (1.0, 1.0)

    @property
    def sizes(self) -> dict[str, int]:
        return {"energy": self.n_energy, "boundary": self.n_boundary}

    @property
    def fixed(self) -> frozenset[str]:
        return frozenset({"energy"})

    def equations(self) -> dict[str, Equation]:
        return {
            "energy": Equation(self.jet, outer=self.density),
            "boundary": Equation(self.boundary, self.boundary_weight),
        }

    def jet(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 3"]:
        """z = (u, u_x, u_y)."""
        return jnp.concatenate([u(x), gradient(u, x)[0]])

    def density(self, z: Float[Array, " 3"], x: Float[Array, " 2"]) -> Float[Array, ""]:
        """φ(z, x) = ½(z₁² + z₂²) - f(x) z₀."""
        return 0.5 * (z[1] ** 2 + z[2] ** 2) - 2 * jnp.pi**2 * self.solution(x)[0] * z[0]

    def boundary(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        return u(x)

    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        if name == "energy":
            return Points(*points.gauss(points.grid_shape(n, 2), self.lower, self.upper))
        return Points(points.boundary("sobol", n, self.lower, self.upper, rng))

    def solution(self, x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return jnp.prod(jnp.sin(jnp.pi * x), keepdims=True)

    def test_points(self) -> Float[np.ndarray, "m 2"]:
        return points.lattice((101, 101), self.lower, self.upper)

    def metrics(self) -> dict[str, Any]:
        """Relative errors as everywhere, and `energy_gap` = |E(u) - E(u*)| / |E(u*)| by an 80 x 80 Gauss rule."""
        rule = points.gauss((80, 80), self.lower, self.upper)
        return super().metrics() | {"energy_gap": EnergyGap(self, *rule)}

    def default_model(self) -> Model:
        inner = MLP(2, 1, width=24, depth=2, lower=self.lower, upper=self.upper)
        return Hard(inner, ZeroOnBox(self.lower, self.upper), imposes=("boundary",))

    def picture(self) -> Picture:
        axis = np.linspace(0.0, 1.0, 101)
        return Picture(points.lattice((101, 101), self.lower, self.upper), (axis, axis), ("x", "y"))


class EnergyGap(eqx.Module):
    """|E(u) - E(u*)| / |E(u*)|, E by quadrature."""

    problem: DeepRitz2D
    points: Float[Any, "m 2"]
    weights: Float[Any, " m"]

    def __call__(self, u: Field, q: Mapping[str, Any]) -> Float[Array, ""]:
        density = jax.vmap(lambda x: self.problem.density(self.problem.jet(u, x, q), x))(jnp.asarray(self.points))
        exact = -(math.pi**2) / 4
        return jnp.abs(jnp.sum(jnp.asarray(self.weights) * density) - exact) / abs(exact)
