"""Problems whose unknowns are a few numbers: fits to data and convex problems, without a network.

The numbers are the coefficients of the problem, params = {"model": {}, "coefficients": {name: array}}, and the field is
what they make of one row: θ·x for a linear one, a growth curve for a fit. So equations, metrics and pictures are
those of any problem, and the model is `NoModel`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..calculus import Field
from ..model import Model
from ..points import generator
from ..problem import Equation, Picture, Points, Problem
from ..types import Params


class NoModel(Model):
    """No parameters, and a field without components: all unknowns are coefficients of the problem."""

    def init(self, key: Any) -> Params:
        return {}

    def apply(self, params: Params, x: Any) -> Float[Array, " 0"]:
        return jnp.zeros((0,))


class Parametric(Problem):
    """Abstract: find coefficients q, all rows being data that stay as they are.

    Subclasses say what the field of q is (`value`), where a run starts, the answer, and the rows of each equation.
    """

    analytic: ClassVar[bool] = False

    @abc.abstractmethod
    def value(self, q: Mapping[str, Any], x: Float[Array, " d"]) -> Float[Array, " c"]:
        """The field of the coefficients q at one point."""

    @abc.abstractmethod
    def first(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Coefficients at which a run starts."""

    @abc.abstractmethod
    def rows(self, name: str) -> Points:
        """All rows of one equation."""

    @property
    def sizes(self) -> dict[str, int]:
        return {name: _count(self.rows(name)) for name in self.equations()}

    @property
    def measured(self) -> frozenset[str]:
        return frozenset(self.equations())

    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        """All rows, in order. Raises ValueError for another number: a part of the rows has another answer."""
        rows = self.rows(name)
        if n != _count(rows):
            raise ValueError(f"{type(self).__name__}: {name} has {_count(rows)} rows, all of them needed; got {n}.")
        return rows

    def coefficients(self) -> dict[str, Any]:
        return self.first(generator(0, "start"))

    def init(self, model: Model, key: Any) -> Params:
        return {"model": model.init(key), "coefficients": self.first(generator(key, "start"))}

    def field(self, model: Model, params: Params) -> Field:
        return lambda x: self.value(params["coefficients"], x)

    def solution(self, x: Float[Array, " d"]) -> Float[Array, " c"]:
        return self.value(self.true_coefficients(), jnp.asarray(x))

    def optimum(self) -> Params:
        return {"model": {}, "coefficients": self.true_coefficients()}

    def default_model(self) -> Model:
        return NoModel()

    def _check(self, model: Model, equations: dict[str, Equation], points: Mapping[str, Any]) -> None:
        if model.init(0) != {}:
            raise ValueError(
                f"{type(self).__name__}: its unknowns are coefficients, so there is nothing for {type(model).__name__} "
                "to do; leave the model away."
            )
        super()._check(model, equations, points)


class Linear(Parametric):
    """Abstract: u(x) = θ·x, coefficients {"theta": (d,)}. The field at the unit vectors is θ itself, so the errors of
    the field there are those of θ."""

    dim_out: ClassVar[int] = 1

    def value(self, q: Mapping[str, Any], x: Float[Array, " d"]) -> Float[Array, " 1"]:
        return jnp.sum(q["theta"] * x, keepdims=True)

    def test_points(self) -> Float[np.ndarray, "d d"]:
        return np.eye(self.dim_in)

    def picture(self) -> Picture:
        """The components of θ."""
        return Picture(np.eye(self.dim_in), (np.arange(1.0, self.dim_in + 1),), ("component of θ",))

    def metrics(self) -> dict[str, Any]:
        """`l2` = ‖θ - θ*‖ / ‖θ*‖ and `linf`, the same in the largest component."""
        return parameter_errors(self.true_coefficients(), np.eye(self.dim_in))


def parameter_errors(truth: Mapping[str, Any], directions: Float[np.ndarray, "m p"]) -> dict[str, Any]:
    """Relative errors of the coefficients q, listed as one vector by sorted names, in the given directions B.

    l2 = ‖B (q - q*)‖ / ‖B q*‖, linf the same in the largest component.
    """
    values = np.concatenate([np.ravel(truth[name]) for name in sorted(truth)])
    return {"l2": ParameterError(values, directions), "linf": ParameterError(values, directions, largest=True)}


class ParameterError(eqx.Module):
    """‖B (q - q*)‖ / ‖B q*‖ of all coefficients together, Euclidean or in the `largest` component."""

    values: Float[Any, " p"]
    directions: Float[Any, "m p"]
    largest: bool = eqx.field(static=True, default=False)

    def __call__(self, u: Field, q: Mapping[str, Any]) -> Float[Array, ""]:
        found = jnp.concatenate([jnp.ravel(jnp.asarray(q[name])) for name in sorted(q)])
        values, order = jnp.asarray(self.values), jnp.inf if self.largest else 2
        error = jnp.asarray(self.directions) @ (found - values)
        return jnp.linalg.norm(error, order) / jnp.linalg.norm(jnp.asarray(self.directions) @ values, order)


def _count(rows: Points) -> int:
    x = rows.x["x"] if isinstance(rows.x, dict) else rows.x
    return len(x)
