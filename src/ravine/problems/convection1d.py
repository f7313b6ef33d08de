"""Linear convection at high speed on the circle: a wave carried through many of its own lengths.

    u_t + β u_x = 0,   x ∈ [0, 2π] periodic,   t ∈ [0, 1],   u(x, 0) = sin x,   u*(x, t) = sin(x - βt)

Equations    pde (n, 1): (u_t + β u_x)/β [units of u_x];  periodic (n, 1): u(0, t) - u(2π, t) [units of u];
             initial (n, 1): u(x, 0) - sin x [units of u].
Character    linear, hyperbolic, β/2π periods in time. A network can satisfy the equation at all scattered
             points and travel wrongly between them: a low loss with an error of order one.
Good values  β = 40: sine 3-24-24-1 on (cos x, sin x, 20t - 10), u = sin x + t · network, 1500 points, 6e-8.
Reference    exact. Krishnapriyan et al., NeurIPS 2021, arXiv:2109.01050.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import points
from ..calculus import Field, directional
from ..model import Model
from ..models.hard import Hard
from ..models.mlp import MLP
from ..models.periodic import Periodic
from ..problem import Equation, Picture, Points, Problem


def initial_wave(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    """sin x, the initial data carried unchanged through time."""
    return jnp.sin(x[:1])


def elapsed(x: Float[Array, " 2"]) -> Float[Array, ""]:
    """t, which vanishes where the initial data are imposed."""
    return x[1]


class Convection1D(Problem):
    """Linear convection u_t + βu_x = 0 of a sine wave on the circle (see the module docstring).

    `beta` is the speed, not zero; `design` the point design of the pde term, and on the edges in one dimension.
    """

    beta: float = eqx.field(static=True, default=40.0)
    n_pde: int = eqx.field(static=True, default=1500)
    n_periodic: int = eqx.field(static=True, default=128)
    n_initial: int = eqx.field(static=True, default=256)
    design: str = eqx.field(static=True, default="sobol")

    dim_in: ClassVar[int] = 2
    dim_out: ClassVar[int] = 1
    lower: ClassVar[tuple[float, ...]] = (0.0, 0.0)
    upper: ClassVar[tuple[float, ...]] = (2 * math.pi, 1.0)

    def __check_init__(self) -> None:
        points.check_design(self.design)
        if not (math.isfinite(self.beta) and self.beta != 0):
            raise ValueError(f"Convection1D: beta must be finite and not zero; got {self.beta!r}.")

    @property
    def sizes(self) -> dict[str, int]:
        return {"pde": self.n_pde, "periodic": self.n_periodic, "initial": self.n_initial}

    def equations(self) -> dict[str, Equation]:
        return {
            "pde": Equation(self.pde),
            "periodic": Equation(self.periodic),
            "initial": Equation(self.initial),
        }

    def pde(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        return directional(u, x, (1.0, 1.0 / self.beta))

    def periodic(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        return u(x.at[0].set(self.lower[0])) - u(x.at[0].set(self.upper[0]))

    def initial(self, u: Field, x: Float[Array, " 2"], q: Any) -> Float[Array, " 1"]:
        return u(x.at[1].set(0.0)) - initial_wave(x)

    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        if name == "pde":
            return Points(points.design(self.design, n, self.lower, self.upper, rng))
        axis = 1 if name == "periodic" else 0
        along = points.design(self.design, n, self.lower[axis : axis + 1], self.upper[axis : axis + 1], rng)
        return Points(np.insert(along, 1 - axis, 0.0, axis=1))

    def solution(self, x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return jnp.sin(x[:1] - self.beta * x[1])

    def test_points(self) -> Float[np.ndarray, "m 2"]:
        return points.lattice((101, 101), self.lower, self.upper)

    def default_model(self) -> Model:
        network = MLP(3, 1, width=24, depth=2, activation="sin")
        inner = Periodic(network, (True, False), self.lower, self.upper, stretch=10.0, imposes=("periodic",))
        return Hard(inner, elapsed, initial_wave, imposes=("initial",))

    def picture(self) -> Picture:
        axes = (np.linspace(0.0, self.upper[0], 101), np.linspace(0.0, 1.0, 101))
        return Picture(points.lattice((101, 101), self.lower, self.upper), axes, ("x", "t"))
