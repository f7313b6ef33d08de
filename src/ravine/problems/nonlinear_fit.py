"""Nonlinear least squares with certified answers: four of the Statistical Reference Datasets of NIST.

    min ½ Σ_i (f(x_i; b) - y_i)²,   known to 11 digits

Sets         thurber: 37 points, f = (b1 + b2 x + b3 x² + b4 x³) / (1 + b5 x + b6 x² + b7 x³), electron mobility
             mgh09:   11 points, f = b1 (x² + b2 x) / (x² + b3 x + b4), enzyme kinetics (Kowalik & Osborne)
             boxbod:   6 points, f = b1 (1 - exp(-b2 x)), biochemical oxygen demand
             rat43:   15 points, f = b1 / (1 + exp(b2 - b3 x))^(1/b4), growth of onions
Equations    data (n, 1): f(x_i; b) - y_i [units of y], each with quadrature weight 1: the loss is half the residual sum
             of squares.
Character    few unknowns of very different size, residuals that do not vanish, and starts from which many methods end
             elsewhere: NIST calls all four of higher difficulty. mgh09 and boxbod have other minima, at infinity.
Good values  Levenberg-Marquardt or quasi-Newton from start 2.
Scores       l2: root mean square of the relative errors (b_j - b*_j) / b*_j; linf: the largest; error_b1, ...: each.
Reference    the certified parameters, 11 digits: `reference_error` is 5e-11. NIST/ITL StRD, nonlinear regression,
             www.itl.nist.gov/div898/strd, public domain; problems/data/README.md names the origin of each set.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..calculus import Field
from ..checks import require_choice
from ..problem import CoefficientError, Equation, Picture, Points
from .parametric import Parametric, parameter_errors

FILE = Path(__file__).parent / "data" / "strd.json"


def _thurber(q: Mapping[str, Any], x: Any) -> Any:
    above = q["b1"] + x * (q["b2"] + x * (q["b3"] + x * q["b4"]))
    return above / (1 + x * (q["b5"] + x * (q["b6"] + x * q["b7"])))


def _mgh09(q: Mapping[str, Any], x: Any) -> Any:
    return q["b1"] * (x**2 + q["b2"] * x) / (x**2 + q["b3"] * x + q["b4"])


def _boxbod(q: Mapping[str, Any], x: Any) -> Any:
    return q["b1"] * (1 - jnp.exp(-q["b2"] * x))


def _rat43(q: Mapping[str, Any], x: Any) -> Any:
    return q["b1"] * jnp.exp(-jnp.logaddexp(0.0, q["b2"] - q["b3"] * x) / q["b4"])  # no overflow in the power


CURVES: dict[str, Callable] = {"thurber": _thurber, "mgh09": _mgh09, "boxbod": _boxbod, "rat43": _rat43}


class NonlinearFit(Parametric):
    """Fit of a curve to one of four data sets of NIST with certified parameters (see the module docstring).

    `dataset` is thurber, mgh09, boxbod or rat43; `start` 1 or 2, the far or the near of NIST's two starts. Data
    and start are the same for every seed. Raises ValueError for other values.
    """

    dataset: str = eqx.field(static=True, default="thurber")
    start: int = eqx.field(static=True, default=1)

    dim_in: ClassVar[int] = 1
    dim_out: ClassVar[int] = 1

    def __check_init__(self) -> None:
        require_choice(self, "dataset", CURVES)
        require_choice(self, "start", (1, 2))

    @property
    def lower(self) -> tuple[float, ...]:
        return (min(self.table()["x"]),)

    @property
    def upper(self) -> tuple[float, ...]:
        return (max(self.table()["x"]),)

    def table(self) -> Mapping[str, Any]:
        """x, y, start1, start2, certified and residual_sum_of_squares of the chosen set."""
        return _tables()[self.dataset]

    def equations(self) -> dict[str, Equation]:
        return {"data": Equation(self.misfit)}

    def misfit(self, u: Field, row: Mapping[str, Array], q: Any) -> Float[Array, " 1"]:
        return u(row["x"]) - row["u"]

    def value(self, q: Mapping[str, Any], x: Float[Array, " 1"]) -> Float[Array, " 1"]:
        return CURVES[self.dataset](q, x)

    def rows(self, name: str) -> Points:
        x, y = (np.array(self.table()[k])[:, None] for k in ("x", "y"))
        return Points({"x": x, "u": y}, np.ones(len(x)))

    def first(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self._named(f"start{self.start}")

    def true_coefficients(self) -> dict[str, Any]:
        return {name: float(value) for name, value in self._named("certified").items()}

    def _named(self, column: str) -> dict[str, np.ndarray]:
        return {f"b{j}": np.asarray(b) for j, b in enumerate(self.table()[column], start=1)}

    def reference_error(self) -> dict[str, float]:
        """Half a unit in the eleventh digit."""
        return {"l2": 5e-11}

    def metrics(self) -> dict[str, Any]:
        truth = self.true_coefficients()
        sizes = np.array([truth[name] for name in sorted(truth)])
        each = {f"error_{name}": CoefficientError(name, value) for name, value in truth.items()}
        return parameter_errors(truth, np.diag(1 / sizes)) | each

    def test_points(self) -> Float[np.ndarray, "m 1"]:
        return np.linspace(self.lower[0], self.upper[0], 201)[:, None]

    def picture(self) -> Picture:
        x = self.test_points()
        return Picture(x, (x[:, 0],), ("x",))


@functools.cache
def _tables() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf8"))
