"""Anisotropic quadratics: a prescribed spectrum in a random basis.

    min ½ (θ - θ*)ᵀ A (θ - θ*),   A = V diag(λ) Vᵀ,   λ_max = 1,  λ_min = 1/κ,   least value 0

Spectra      geometric: λ_i = κ^(-(i-1)/(d-1));  uniform: equispaced;  power: λ_i = i^(-p), p = ln κ / ln d;
             clusters: one half geometric from 1 to 1/c, the other from c/κ to 1/κ, c = min(2, √κ).
Equations    rows (d, 1): the rows a_i of A^(1/2), a_i·θ - a_i·θ*, each with quadrature weight 1.
Character    the model problem of convergence rates: gradient descent with fixed step α shrinks mode i by 1 - αλ_i a
             step. Linear in θ, so one undamped Gauss-Newton step solves it, and how a method of second order does
             here says nothing about it elsewhere.
Good values  conjugate gradients or quasi-Newton methods; first-order methods take O(κ) or O(√κ) steps.
Scores       l2 = ‖θ - θ*‖ / ‖θ*‖, in which the flat modes count as much as the steep ones; linf; and the same as
             l2 within the steepest, middle and flattest third of the modes: steep, middle, flat.
Reference    exact. In double precision the rows fix θ* to about 1e-16 √κ in the flattest mode. Nesterov, Lectures on
             Convex Optimization, 2nd ed., Springer 2018, chapters 1 and 2, for the rates.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from .. import points
from ..calculus import Field
from ..checks import require_choice
from ..problem import Equation, Picture, Points
from .parametric import Linear, ParameterError

SPECTRA = ("geometric", "uniform", "power", "clusters")


class Quadratic(Linear):
    """Quadratic with condition number κ in a random basis (see the module docstring).

    `dimension` is d, `condition` κ, `spectrum` one of geometric, uniform, power, clusters; `seed` fixes basis and θ*
    (standard normal). A run starts from standard normal components that depend on its own seed. Raises ValueError for
    fewer than 3 dimensions, κ outside [1, 1e12] or an unknown spectrum.
    """

    dimension: int = eqx.field(static=True, default=30)
    condition: float = eqx.field(static=True, default=1e4)
    spectrum: str = eqx.field(static=True, default="geometric")
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self) -> None:
        if points.check_count(self.dimension, "Quadratic: dimension") < 3:
            raise ValueError(f"Quadratic: dimension must be at least 3; got {self.dimension}.")
        if not 1 <= self.condition <= 1e12:
            raise ValueError(f"Quadratic: condition must be from 1 to 1e12; got {self.condition!r}.")
        require_choice(self, "spectrum", SPECTRA)

    @property
    def dim_in(self) -> int:
        return self.dimension

    @property
    def lower(self) -> tuple[float, ...]:
        return (-1.0,) * self.dimension

    @property
    def upper(self) -> tuple[float, ...]:
        return (1.0,) * self.dimension

    def equations(self) -> dict[str, Equation]:
        return {"rows": Equation(self.row)}

    def row(self, u: Field, row: Mapping[str, Array], q: Any) -> Float[Array, " 1"]:
        return u(row["x"]) - row["u"]

    def rows(self, name: str) -> Points:
        form = self.form()
        root = (form.vectors * np.sqrt(form.eigenvalues)) @ form.vectors.T
        return Points({"x": root, "u": (root @ form.solution)[:, None]}, np.ones(self.dimension))

    def form(self) -> Form:
        """Eigenvalues (d,), largest first, eigenvectors as columns, and θ*."""
        return _form(self.dimension, self.condition, self.spectrum, self.seed)

    def first(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"theta": rng.standard_normal(self.dimension)}

    def true_coefficients(self) -> dict[str, Any]:
        return {"theta": self.form().solution}

    def reference_error(self) -> dict[str, float]:
        """Rounding of the rows, which fix the flattest mode to 1e-16 √κ only."""
        return {"l2": float(np.finfo(float).eps * math.sqrt(self.condition))}

    def metrics(self) -> dict[str, Any]:
        form = self.form()
        thirds = np.array_split(form.vectors.T, 3)
        modes = zip(("steep", "middle", "flat"), thirds, strict=True)
        return super().metrics() | {name: ParameterError(form.solution, part) for name, part in modes}

    def picture(self) -> Picture:
        """The components of θ along the eigenvectors, by eigenvalue: the field at v_i is v_i·θ."""
        form = self.form()
        return Picture(form.vectors.T[::-1], (form.eigenvalues[::-1],), ("eigenvalue",))


class Form(NamedTuple):
    """A = V diag(λ) Vᵀ and θ*."""

    eigenvalues: Float[np.ndarray, " d"]
    vectors: Float[np.ndarray, "d d"]
    solution: Float[np.ndarray, " d"]

    def modes(self, theta: Any) -> np.ndarray:
        """Components of θ - θ* along the eigenvectors, for θ of shape (..., d)."""
        return (np.asarray(theta) - self.solution) @ self.vectors


@functools.lru_cache(maxsize=8)
def _form(d: int, condition: float, spectrum: str, seed: int) -> Form:
    rng = points.generator(seed, "quadratic")
    vectors, _ = np.linalg.qr(rng.standard_normal((d, d)))
    return Form(_eigenvalues(d, condition, spectrum), vectors, rng.standard_normal(d))


def _eigenvalues(d: int, condition: float, spectrum: str) -> np.ndarray:
    if spectrum == "uniform":
        return np.linspace(1.0, 1 / condition, d)
    if spectrum == "power":
        return np.arange(1.0, d + 1) ** (-math.log(condition) / math.log(d))
    if spectrum == "clusters":
        width = math.sqrt(min(4.0, condition))
        above = d // 2
        return np.concatenate([np.geomspace(1.0, 1 / width, above), np.geomspace(width, 1.0, d - above) / condition])
    return np.geomspace(1.0, 1 / condition, d)
