"""Logistic regression with ridge penalty on synthetic data of prescribed conditioning.

    min (1/n) Σ_i log(1 + exp(-y_i θ·x_i)) + (μ/2) ‖θ‖²,   y_i = ±1,   μ = `ridge`

Data         x_i = V diag(κ^(-(j-1)/(2(d-1)))) z_i with z_i standard normal and V a random basis, so that the covariance
             of the x_i has condition number κ; y_i = 1 with probability 1/(1 + exp(-3 w·x_i)), w standard normal.
Equations    data (n, 1): z = θ·x_i, φ(z) = log(1 + exp(-y z)), convex in z;  ridge (d, 1): the components of θ,
             weight μ.
Character    convex and smooth, a finite sum of n terms; the curvature lies between μ and μ + λ_max(XᵀX/n)/4, so μ sets
             the condition number. No single equation is satisfied at the answer; the least value is positive.
Good values  Newton-like methods take about ten steps; ridge 1e-3.
Scores       l2 = ‖θ - θ*‖ / ‖θ*‖; linf, the same in the largest component; loss_gap = (L(θ) - L(θ*)) / L(θ*).
Reference    θ* by Newton's method, its gradient in extended precision where the machine has it: what the last Newton
             step would still change is `reference_error`, 1e-15. Hosmer & Lemeshow, Applied Logistic Regression,
             Wiley 1989; Bottou, Curtis & Nocedal, SIAM Review 60 (2018), for the finite sum.
"""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import points
from ..calculus import Field
from ..problem import Equation, Points
from .parametric import Linear

SHARPNESS = 3.0  # of the labels: larger is closer to separable
NEWTON_STEPS = 100


class Classes(NamedTuple):
    """Features (n, d), labels ±1 (n,), and how many leading components of θ the ridge holds."""

    features: Float[np.ndarray, "n d"]
    labels: Float[np.ndarray, " n"]
    penalised: int


class LogisticRegression(Linear):
    """Abstract: ridge-penalised logistic regression on the data that a subclass names."""

    ridge: eqx.AbstractVar[float]

    @abc.abstractmethod
    def classes(self) -> Classes:
        """The data."""

    def check_ridge(self) -> None:
        if not (math.isfinite(self.ridge) and self.ridge > 0):
            raise ValueError(
                f"{type(self).__name__}: ridge must be positive, or the least value may not be attained; "
                f"got {self.ridge!r}."
            )

    @property
    def dim_in(self) -> int:
        return self.classes().features.shape[1]

    @property
    def lower(self) -> tuple[float, ...]:
        return tuple(-b for b in self.upper)

    @property
    def upper(self) -> tuple[float, ...]:
        bound = max(1.0, float(np.max(np.abs(self.classes().features))))
        return (bound,) * self.dim_in

    def equations(self) -> dict[str, Equation]:
        return {"data": Equation(self.logit, outer=self.log_loss), "ridge": Equation(self.component, self.ridge)}

    def logit(self, u: Field, row: Mapping[str, Array], q: Any) -> Float[Array, " 1"]:
        return u(row["x"])

    def log_loss(self, z: Float[Array, " 1"], row: Mapping[str, Array]) -> Float[Array, ""]:
        """φ(z, (x, y)) = log(1 + exp(-y z))."""
        return jnp.logaddexp(0.0, -row["y"] * z[0])

    def component(self, u: Field, x: Float[Array, " d"], q: Any) -> Float[Array, " 1"]:
        """θ_j = u(e_j)."""
        return u(x)

    def rows(self, name: str) -> Points:
        data = self.classes()
        if name == "data":
            return Points({"x": data.features, "y": data.labels})
        return Points(np.eye(self.dim_in)[: data.penalised], np.ones(data.penalised))

    def first(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Normal components of variance 1/d, so that the first logits are about as large as the features."""
        d = self.dim_in
        return {"theta": rng.standard_normal(d) / math.sqrt(d)}

    def true_coefficients(self) -> dict[str, Any]:
        return {"theta": minimiser(self).theta}

    def reference_error(self) -> dict[str, float]:
        """What one more Newton step would change, relative to θ*, or rounding."""
        return {"l2": minimiser(self).error}

    def metrics(self) -> dict[str, Any]:
        gap = LossGap(self, self.rows("data").x, self.rows("ridge").x, minimiser(self).value)
        return super().metrics() | {"loss_gap": gap}


class Logistic(LogisticRegression):
    """Ridge-penalised logistic regression on synthetic data (see the module docstring).

    `samples` is n, `dimension` d, `condition` κ of the covariance of the features; `seed` fixes the data. A run starts
    from normal components that depend on its own seed. Raises ValueError for values outside n >= 2, d >= 2,
    1 <= κ <= 1e12, ridge > 0.
    """

    samples: int = eqx.field(static=True, default=400)
    dimension: int = eqx.field(static=True, default=20)
    condition: float = eqx.field(static=True, default=100.0)
    ridge: float = eqx.field(static=True, default=1e-3)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self) -> None:
        for name in ("samples", "dimension"):
            if points.check_count(getattr(self, name), f"Logistic: {name}") < 2:
                raise ValueError(f"Logistic: {name} must be at least 2; got 1.")
        if not 1 <= self.condition <= 1e12:
            raise ValueError(f"Logistic: condition must be from 1 to 1e12; got {self.condition!r}.")
        self.check_ridge()

    def classes(self) -> Classes:
        return _synthetic(self.samples, self.dimension, self.condition, self.seed)


class Minimiser(NamedTuple):
    theta: Float[np.ndarray, " d"]
    value: float
    error: float  # relative


@functools.lru_cache(maxsize=8)
def minimiser(problem: LogisticRegression) -> Minimiser:
    """θ* by Newton's method with halved steps, started at zero. Cost: some ten d × d solves and sweeps over the data.

    The gradient is summed in extended precision, so that the last corrections are those of iterative refinement.
    Raises ArithmeticError should the last correction not be small.
    """
    data, d = problem.classes(), problem.dim_in
    held = problem.ridge * (np.arange(d) < data.penalised)
    x, signed = np.asarray(data.features, np.longdouble), data.labels[:, None] * data.features
    wide = np.asarray(signed, np.longdouble)

    def value(theta: np.ndarray) -> float:
        return float(np.mean(np.logaddexp(0, -wide @ theta)) + np.sum(held * theta**2) / 2)

    def correction(theta: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(wide @ theta))
        gradient = held * theta - wide.T @ p / len(p)
        weight = (p * (1 - p)).astype(float)
        hessian = (data.features.T * weight) @ data.features / len(p) + np.diag(held)
        return np.linalg.solve(hessian, gradient.astype(float))

    theta = np.zeros(d, x.dtype)
    for _ in range(NEWTON_STEPS):
        step, shrink = correction(theta), 1.0
        while value(theta - shrink * step) > value(theta) and shrink > 1e-8 and np.linalg.norm(step) > 1e-6:
            shrink /= 2
        theta = theta - shrink * step
        if np.linalg.norm(step) <= 1e-15 * np.linalg.norm(theta.astype(float)):
            break
    rounded = theta.astype(float)
    rest = float(np.linalg.norm(correction(rounded)) / np.linalg.norm(rounded))
    if not rest <= 1e-12:
        raise ArithmeticError(f"{problem!r}: Newton's method stopped {rest:.1e} short of the minimiser.")
    rounded.flags.writeable = False
    return Minimiser(rounded, value(theta), max(rest, float(np.finfo(float).eps)))


@functools.lru_cache(maxsize=8)
def _synthetic(n: int, d: int, condition: float, seed: int) -> Classes:
    rng = points.generator(seed, "logistic")
    vectors, _ = np.linalg.qr(rng.standard_normal((d, d)))
    spread = np.geomspace(1.0, condition**-0.5, d)
    features = (rng.standard_normal((n, d)) * spread) @ vectors.T
    logits = SHARPNESS * features @ rng.standard_normal(d)
    labels = np.where(rng.random(n) < 1 / (1 + np.exp(-logits)), 1.0, -1.0)
    return Classes(features, labels, d)


class LossGap(eqx.Module):
    """|L(θ) - L(θ*)| / L(θ*)."""

    problem: LogisticRegression
    data: Any
    ridge: Float[Any, "p d"]
    least: float = eqx.field(static=True)

    def __call__(self, u: Field, q: Mapping[str, Any]) -> Float[Array, ""]:
        losses = jax.vmap(lambda row: self.problem.log_loss(u(row["x"]), row))(jax.tree.map(jnp.asarray, self.data))
        held = jax.vmap(u)(jnp.asarray(self.ridge))
        value = jnp.mean(losses) + 0.5 * self.problem.ridge * jnp.sum(held**2)
        return jnp.abs(value - self.least) / self.least
