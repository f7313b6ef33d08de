"""What Poisson1D and Regression1D share: the function, the points, the network, so that only an operator differs."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import points
from ..calculus import Field
from ..model import Model
from ..models.mlp import MLP
from ..problem import Picture, Points, Problem


class Sine1D(Problem):
    """Abstract: find u* = sin(kπx) on [0, 1] with a tanh network 1-20-1 of 61 parameters, from n points inside and the
    two ends."""

    frequency: eqx.AbstractVar[int]
    boundary_weight: eqx.AbstractVar[float]
    design: eqx.AbstractVar[str]

    dim_in: ClassVar[int] = 1
    dim_out: ClassVar[int] = 1
    lower: ClassVar[tuple[float, ...]] = (0.0,)
    upper: ClassVar[tuple[float, ...]] = (1.0,)

    def check(self) -> None:
        """ValueError for an unknown design or a frequency that is not a positive whole number."""
        points.check_design(self.design)
        points.check_count(self.frequency, f"{type(self).__name__}: frequency")

    def boundary(self, u: Field, x: Float[Array, " 1"], q: Any) -> Float[Array, " 1"]:
        return u(x)

    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        if name == "boundary":
            return Points(np.resize([[0.0], [1.0]], (n, 1)))
        return Points(points.design(self.design, n, self.lower, self.upper, rng))

    def solution(self, x: Float[Array, " 1"]) -> Float[Array, " 1"]:
        return jnp.sin(self.frequency * math.pi * x)

    def test_points(self) -> Float[np.ndarray, "m 1"]:
        return points.lattice((1001,), self.lower, self.upper)

    def default_model(self) -> Model:
        return MLP(1, 1, width=20, depth=1, lower=self.lower, upper=self.upper)

    def picture(self) -> Picture:
        x = points.lattice((401,), self.lower, self.upper)
        return Picture(x, (x[:, 0],), ("x",))
