"""Allen-Cahn equation with thin fronts and a kink in the initial data.

    u_t = D u_xx + 5 (u - u³),   D = 10⁻⁴,   x ∈ [-1, 1] periodic,   t ∈ (0, 1],   u(x, 0) = x² cos(πx)

Equations    pde (n, 1) [u/t];  initial (n, 1) [units of u], weight 100;  periodic (n, 2): u and u_x at -1 minus those
             at 1 [u, u_x].
Character    stiff: fronts of width √(2D/5) = 0.006 form at x = ±1/2, and e⁵ amplifies early errors near u = 0. The
             periodic extension of u(x, 0) has a slope jump of 4 at x = ±1, smoothed over a width √(Dt).
Good values  tanh 3-20-20-20-1 on (-cos πx, -sin πx, 2t - 1), 3000 Sobol points, 256 initial points, 3e-6.
             `hard=True`: u = x² cos(πx) + w(x, t) + t N with w the exact heat layer of the kink, so that N is left a
             smoother function to find.
Scores       l2 (the main one) and linf on |x| <= 0.98, t >= 0.1; l2_full on the whole 257 × 101 grid with t = 0.
Reference    references/allen_cahn1d.py: graded spectral elements, stored as piecewise Chebyshev coefficients; agrees
             with 4096 cosine modes and with a coarser mesh to 3e-13 where scored and 6e-13 on the whole grid; 3e-6
             at t < 1e-5 beside the kink. The public 512-mode files are off by 1.6e-5 (1.6e-7 on |x| <= 0.98).
             Raissi et al., J. Comput. Phys. 378 (2019); Wight & Zhao, Commun. Comput. Phys. 29 (2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from jaxtyping import Array, Float

from .. import points
from ..calculus import Field, directional, taylor
from ..model import Model
from ..models.hard import Hard
from ..models.mlp import MLP
from ..models.periodic import Periodic
from ..problem import Equation, Picture, Points, Problem, RelativeL2, RelativeLinf
from .reference import load

DIFFUSION, RATE = 1e-4, 5.0


def initial_value(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    """x² cos(πx), for all t."""
    return x[:1] ** 2 * jnp.cos(jnp.pi * x[:1])


def smoothed_initial_value(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    """x² cos(πx) + w: the initial value with its kink at x = ±1 diffused, for t > 0; x² cos(πx) as t → 0.

        w = 2 (2 √(Dt/π) exp(-z²) - ξ erfc z),   ξ = 1 - |x|,  z = ξ / √(4Dt):   w_t = D w_xx,  w_ξ = -2 at ξ = 0

    Without w, u(x, 0) + t N with a smooth periodic N would keep the kink for all time.
    """
    xi, spread = 1 - jnp.abs(x[:1]), jnp.sqrt(4 * DIFFUSION * jnp.maximum(x[1], 1e-30))
    z = xi / spread
    return initial_value(x) + 2 * (spread / math.sqrt(math.pi) * jnp.exp(-z * z) - xi * erfc(z))


def away_from_the_kink(x: Float[np.ndarray, "n 2"], ends: float = 0.98, start: float = 0.1) -> np.ndarray:
    """|x| <= ends and t >= start, (n,) of booleans."""
    return (np.abs(x[:, 0]) <= ends) & (x[:, 1] >= start - 1e-12)


def elapsed(x: Float[Array, " 2"]) -> Float[Array, ""]:
    """t, zero where the initial value is imposed."""
    return x[1]


class AllenCahn1D(Problem):
    """Allen-Cahn u_t = 10⁻⁴ u_xx + 5 (u - u³), periodic, points (x, t) (see the module docstring).

    `hard` chooses the default model: the initial value by construction, or by penalty of weight `initial_weight`.
    `design` is the point design of all equations.
    """

    hard: bool = eqx.field(static=True, default=False)
    initial_weight: float = eqx.field(static=True, default=100.0)
    n_pde: int = eqx.field(static=True, default=3000)
    n_initial: int = eqx.field(static=True, default=256)
    n_periodic: int = eqx.field(static=True, default=128)
    design: str = eqx.field(static=True, default="sobol")

    dim_in: ClassVar[int] = 2
    dim_out: ClassVar[int] = 1
    lower: ClassVar[tuple[float, ...]] = (-1.0, 0.0)
    upper: ClassVar[tuple[float, ...]] = (1.0, 1.0)
    analytic: ClassVar[bool] = False

    def __check_init__(self) -> None:
        points.check_design(self.design)

    @property
    def sizes(self) -> dict[str, int]:
        return {"pde": self.n_pde, "initial": self.n_initial, "periodic": self.n_periodic}

    def equations(self) -> dict[str, Equation]:
        return {
            "pde": Equation(self.pde),
            "initial": Equation(self.initial, self.initial_weight),
            "periodic": Equation(self.periodic),
        }

    def pde(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        # along e_x and the curve -e_t/D: u and u_xx - u_t/D from one sweep of three streams
        value, _, bend = taylor(u, x, [[1.0, 0.0]], [0.0, -1.0 / DIFFUSION])
        return -DIFFUSION * bend - RATE * (value - value**3)

    def initial(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        return u(x) - initial_value(x)

    def periodic(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 2"]:
        left, right = x.at[0].set(-1.0), x.at[0].set(1.0)
        slopes = directional(u, left, (1.0, 0.0)) - directional(u, right, (1.0, 0.0))
        return jnp.concatenate([u(left) - u(right), slopes])

    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        if name == "pde":
            return Points(points.design(self.design, n, self.lower, self.upper, rng))
        axis = 1 if name == "periodic" else 0
        along = points.design(self.design, n, self.lower[axis : axis + 1], self.upper[axis : axis + 1], rng)
        return Points(np.insert(along, 1 - axis, -1.0 if name == "periodic" else 0.0, axis=1))

    def resolvable(self, name: str, x: Any) -> np.ndarray:
        """Away from the kink at x = ±1 of the initial value; of the equation also from early times, when u_t is
        unbounded there."""
        return away_from_the_kink(np.asarray(x), start=0.1 if name == "pde" else 0.0)

    def solution(self, x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        stored = load("allen_cahn1d")(jnp.abs(x[0]), x[1])
        return jnp.where(x[1] <= 0, initial_value(x), stored[None])

    def exact(self, points: Any) -> Float[np.ndarray, "m 1"]:
        x, t = (np.asarray(points, float)[:, [i]] for i in (0, 1))
        stored = load("allen_cahn1d").values(np.concatenate([np.abs(x), t], axis=1))[:, None]
        return np.where(t <= 0, x**2 * np.cos(np.pi * x), stored)

    def reference_error(self) -> dict[str, float]:
        """How far the reference itself may be off, in the metrics of this problem, and its `largest` error anywhere."""
        stored = load("allen_cahn1d")
        scored, full, largest = (float(e) for e in stored.error)
        return {"l2": scored, "l2_full": full, "largest": max(largest, stored.corner_error)}

    def full_grid(self) -> Float[np.ndarray, "m 2"]:
        """257 × 101 points, t = 0 and the kinks at x = ±1 included."""
        return points.lattice((257, 101), self.lower, self.upper)

    def test_points(self) -> Float[np.ndarray, "m 2"]:
        grid = self.full_grid()
        return grid[away_from_the_kink(grid)]

    def metrics(self) -> dict[str, Callable[[Field, Mapping[str, Any]], Float[Array, ""]]]:
        scored, grid = self.test_points(), self.full_grid()
        values = self.exact(scored)
        return {
            "l2": RelativeL2(scored, values),
            "l2_full": RelativeL2(grid, self.exact(grid)),
            "linf": RelativeLinf(scored, values),
        }

    def default_model(self) -> Model:
        network = MLP(3, 1, width=20, depth=3)
        model = Periodic(network, (True, False), self.lower, self.upper, imposes=("periodic",))
        return Hard(model, elapsed, smoothed_initial_value, imposes=("initial",)) if self.hard else model

    def picture(self) -> Picture:
        x, t = np.linspace(-1.0, 1.0, 257), np.linspace(0.0, 1.0, 101)
        return Picture(self.full_grid(), (x, t), ("x", "t"))
