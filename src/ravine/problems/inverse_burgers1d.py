"""Inverse problem: the two coefficients of Burgers' equation from samples of its solution.

    find λ₁, λ₂ and u with   u_t + λ₁ u u_x - λ₂ u_xx = 0  on (-1, 1) × (0, 1],   u(x_i, t_i) = u_i,  i = 1..2000

Data         u_i = u*(x_i, t_i) + noise · std(u*) · N(0, 1), u* of Burgers1D: true values λ₁ = 1, λ₂ = ν = 0.01/π. The
             sample key fixes the places (uniform) and the noise. Initial and boundary values are not given.
Equations    pde (n, 1) [u/t];  data (n, 1) [units of u], rows {"x": (2,), "u": (1,)}, weight 100.
Unknowns     params["coefficients"] = {"lambda1": 0, "lambda2": 0.02} at first: themselves, not logarithms; use
             `bounds` to keep λ₂ positive. λ₂ = 0.0032 is small beside λ₁ u and is seen only in the layer at x = 0.
Character    nonlinear least squares in network and coefficients together; with noise the data term cannot vanish,
             its floor is ½ · weight · (noise · std)².
Good values  tanh 2-24-24-24-1, 4000 Sobol points, 2000 samples; noise-free 2e-6 in u and 1e-5 in
             λ₂ in 20 s of one core; 1e-2 is common elsewhere.
Scores       l2, h1 and linf of the field as in Burgers1D; error_lambda1 and error_lambda2, relative.
Reference    exact, as Burgers1D. Raissi, Perdikaris & Karniadakis, J. Comput. Phys. 378 (2019), section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from .. import points
from ..calculus import Field, directional, taylor
from ..model import Model
from ..models.mlp import MLP
from ..problem import CoefficientError, Equation, Picture, Points, Problem
from .burgers1d import check_viscosity, exact_on_test_grid, grid_metrics, test_grid
from .reference import cole_hopf, cole_hopf_slopes


class InverseBurgers1D(Problem):
    """Identify λ₁ and λ₂ in u_t + λ₁ u u_x - λ₂ u_xx = 0 from `samples` values of u (see the module docstring).

    `noise` is relative to the standard deviation of the sampled values; `viscosity` the true λ₂; `data_weight` the
    weight of the data term; `design` the point design of the pde term.
    """

    viscosity: float = eqx.field(static=True, default=0.01 / math.pi)
    noise: float = eqx.field(static=True, default=0.0)
    samples: int = eqx.field(static=True, default=2000)
    data_weight: float = eqx.field(static=True, default=100.0)
    n_pde: int = eqx.field(static=True, default=4000)
    design: str = eqx.field(static=True, default="sobol")

    dim_in: ClassVar[int] = 2
    dim_out: ClassVar[int] = 1
    lower: ClassVar[tuple[float, ...]] = (-1.0, 0.0)
    upper: ClassVar[tuple[float, ...]] = (1.0, 1.0)

    def __check_init__(self) -> None:
        points.check_design(self.design)
        points.check_count(self.samples, "InverseBurgers1D: samples")
        check_viscosity("InverseBurgers1D", self.viscosity)
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(
                f"InverseBurgers1D: noise is a fraction of the standard deviation, 0 or more; got {self.noise!r}."
            )

    @property
    def sizes(self) -> dict[str, int]:
        return {"pde": self.n_pde, "data": self.samples}

    @property
    def fixed(self) -> frozenset[str]:
        return frozenset({"pde"}) if self.design in points.FIXED_DESIGNS else frozenset()

    @property
    def measured(self) -> frozenset[str]:
        return frozenset({"data"})

    def equations(self) -> dict[str, Equation]:
        return {"pde": Equation(self.pde), "data": Equation(self.data, self.data_weight)}

    def pde(self, u: Field, x: Float[Array, " 2"], q: Mapping[str, Any]) -> Float[Array, " 1"]:
        # u_t apart: folded into the curve as in Burgers1D it would carry 1/λ₂, and λ₂ may pass through zero
        value, slopes, bend = taylor(u, x, [[1.0, 0.0]])
        return directional(u, x, (0.0, 1.0)) + q["lambda1"] * value * slopes[0] - q["lambda2"] * bend

    def data(self, u: Field, row: Mapping[str, Array], q: Mapping[str, Any]) -> Float[Array, " 1"]:
        return u(row["x"]) - row["u"]

    def coefficients(self) -> dict[str, Any]:
        return {"lambda1": 0.0, "lambda2": 0.02}

    def true_coefficients(self) -> dict[str, float]:
        return {"lambda1": 1.0, "lambda2": self.viscosity}

    def accuracy(self) -> dict[str, float]:
        # std(u) < 1, and six standard deviations are exceeded once in 5e8 samples
        return {"data": 6 * self.noise} if self.noise else {}

    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        if name == "pde":
            return Points(points.design(self.design, n, self.lower, self.upper, rng))
        x = points.design("uniform", n, self.lower, self.upper, rng)
        u = self.exact(x)
        return Points({"x": x, "u": u + self.noise * np.std(u) * rng.standard_normal(u.shape)})

    def solution(self, x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return cole_hopf(x[0], x[1], self.viscosity)[None]

    def test_points(self) -> Float[np.ndarray, "m 2"]:
        return test_grid()

    def exact(self, points: Any) -> Float[np.ndarray, "m 1"]:
        return cole_hopf_slopes(points, self.viscosity)[:, :1]

    def reference(self) -> Float[np.ndarray, "m 1"]:
        return exact_on_test_grid(self.viscosity)[:, :1]

    def metrics(self) -> dict[str, Callable[[Field, Mapping[str, Any]], Float[Array, ""]]]:
        errors = {f"error_{k}": CoefficientError(k, v) for k, v in self.true_coefficients().items()}
        return grid_metrics(self.viscosity) | errors

    def default_model(self) -> Model:
        return MLP(2, 1, width=24, depth=3, lower=self.lower, upper=self.upper)

    def picture(self) -> Picture:
        x, t = np.linspace(-1.0, 1.0, 257), np.linspace(0.0, 1.0, 101)
        return Picture(points.lattice((257, 101), self.lower, self.upper), (x, t), ("x", "t"))
