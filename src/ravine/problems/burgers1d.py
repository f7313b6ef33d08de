"""Burgers' equation with a viscous shock at x = 0.

    u_t + u u_x = ν u_xx  on (-1, 1) × (0, 1],    u(x, 0) = -sin(πx),    u(±1, t) = 0,    ν = 0.01/π

Equations    pde (n, 1) [u/t];  initial (n, 1) and boundary (n, 1) [units of u], weight 100 where they are not imposed.
Character    smooth until t ≈ 0.32, then a layer at x = 0 of width about 4ν / (u₋ - u₊); u_x reaches -152 at ν = 0.01/π.
             With fixed points a network can jump there between the points: a spurious solution of low training loss.
Good values  hard conditions u = -sin(πx) + t (1 - x²) N: tanh 2-24-24-24-1, 4000 Sobol points that move with the
             residual, 1e-7. ν = 0.01/π and ν = 0.01 are different problems in the literature: say which.
Reference    exact, by the Cole-Hopf transformation (`problems.reference`): rounding, 1e-13 against spectral elements
             (references/burgers1d.py). Basdevant et al., Comput. Fluids 14 (1986); Raissi et al., J. Comput. Phys.
             378 (2019).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import points
from ..calculus import Field, taylor
from ..model import Model
from ..models.hard import Hard
from ..models.mlp import MLP
from ..problem import Equation, Picture, Points, Problem, RelativeH1, RelativeL2, RelativeLinf
from .reference import cole_hopf, cole_hopf_slopes


def initial_sine(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    """-sin(πx), the initial value continued to all t; zero at x = ±1."""
    return -jnp.sin(jnp.pi * x[:1])


def zero_at_start_and_ends(x: Float[Array, " 2"]) -> Float[Array, ""]:
    """t (1 - x²)."""
    return x[1] * (1 - x[0] ** 2)


def check_viscosity(who: str, viscosity: Any) -> None:
    """ValueError unless 1e-4 <= viscosity <= 1."""
    if isinstance(viscosity, bool) or not isinstance(viscosity, (int, float)) or not 1e-4 <= viscosity <= 1:
        raise ValueError(
            f"{who}: viscosity must be a number from 1e-4 to 1, where the quadrature of the exact solution has been "
            f"checked; got {viscosity!r}."
        )


def test_grid() -> Float[np.ndarray, "m 2"]:
    """257 × 100 points, t = 0.01, 0.02, .., 1."""
    return points.lattice((257, 100), (-1.0, 0.01), (1.0, 1.0))


@functools.lru_cache(maxsize=8)
def exact_on_test_grid(viscosity: float) -> Float[np.ndarray, "m 3"]:
    """(u, u_x, u_t) at `test_grid`, computed once per process and viscosity; not to be written to."""
    values = cole_hopf_slopes(test_grid(), viscosity)
    values.flags.writeable = False
    return values


def grid_metrics(viscosity: float) -> dict[str, Callable[[Field, Mapping[str, Any]], Float[Array, ""]]]:
    """Relative L2 error, H1 seminorm error and largest error against the exact solution on `test_grid`."""
    grid, exact = test_grid(), exact_on_test_grid(viscosity)
    return {
        "l2": RelativeL2(grid, exact[:, :1]),
        "h1": RelativeH1(grid, exact[:, None, 1:]),
        "linf": RelativeLinf(grid, exact[:, :1]),
    }


class Burgers1D(Problem):
    """Burgers' equation, u(x, 0) = -sin(πx), points (x, t) (see the module docstring).

    `viscosity` is ν. `hard` chooses the default model: initial and boundary values by construction, or a plain
    network and penalties of weight `condition_weight`. `design` is the point design of all equations.
    """

    viscosity: float = eqx.field(static=True, default=0.01 / math.pi)
    hard: bool = eqx.field(static=True, default=True)
    condition_weight: float = eqx.field(static=True, default=100.0)
    n_pde: int = eqx.field(static=True, default=4000)
    n_initial: int = eqx.field(static=True, default=256)
    n_boundary: int = eqx.field(static=True, default=128)
    design: str = eqx.field(static=True, default="sobol")

    dim_in: ClassVar[int] = 2
    dim_out: ClassVar[int] = 1
    lower: ClassVar[tuple[float, ...]] = (-1.0, 0.0)
    upper: ClassVar[tuple[float, ...]] = (1.0, 1.0)

    def __check_init__(self) -> None:
        points.check_design(self.design)
        check_viscosity("Burgers1D", self.viscosity)

    @property
    def sizes(self) -> dict[str, int]:
        return {"pde": self.n_pde, "initial": self.n_initial, "boundary": self.n_boundary}

    def equations(self) -> dict[str, Equation]:
        return {
            "pde": Equation(self.pde),
            "initial": Equation(self.initial, self.condition_weight),
            "boundary": Equation(self.boundary, self.condition_weight),
        }

    def pde(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        # along e_x, and the curve -e_t/ν: u, u_x and u_xx - u_t/ν from one sweep of three streams
        value, slopes, bend = taylor(u, x, [[1.0, 0.0]], [0.0, -1.0 / self.viscosity])
        return value * slopes[0] - self.viscosity * bend

    def initial(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        return u(x) - initial_sine(x)

    def boundary(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        return u(x)

    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        if name == "pde":
            return Points(points.design(self.design, n, self.lower, self.upper, rng))
        if name == "initial":
            x = points.design(self.design, n, self.lower[:1], self.upper[:1], rng)
            return Points(np.concatenate([x, np.zeros((n, 1))], axis=1))
        ends = [(end, m) for end, m in ((-1.0, n // 2), (1.0, n - n // 2)) if m]
        times = [points.design(self.design, m, self.lower[1:], self.upper[1:], rng) for _, m in ends]
        sides = [np.full((m, 1), end) for end, m in ends]
        return Points(np.concatenate([np.concatenate(sides), np.concatenate(times)], axis=1))

    def solution(self, x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return cole_hopf(x[0], x[1], self.viscosity)[None]

    def test_points(self) -> Float[np.ndarray, "m 2"]:
        return test_grid()

    def exact(self, points: Any) -> Float[np.ndarray, "m 1"]:
        return cole_hopf_slopes(points, self.viscosity)[:, :1]

    def reference(self) -> Float[np.ndarray, "m 1"]:
        return exact_on_test_grid(self.viscosity)[:, :1]

    def metrics(self) -> dict[str, Callable[[Field, Mapping[str, Any]], Float[Array, ""]]]:
        return grid_metrics(self.viscosity)

    def default_model(self) -> Model:
        inner = MLP(2, 1, width=24, depth=3, lower=self.lower, upper=self.upper)
        if not self.hard:
            return inner
        return Hard(inner, zero_at_start_and_ends, initial_sine, imposes=("initial", "boundary"))

    def picture(self) -> Picture:
        x, t = np.linspace(-1.0, 1.0, 257), np.linspace(0.0, 1.0, 101)
        return Picture(points.lattice((257, 101), self.lower, self.upper), (x, t), ("x", "t"))
