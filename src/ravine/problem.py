"""Problems: equations for a field, the points where they are tested, and the answer they are scored against.

A problem knows no network. An equation takes a FIELD u, so that the exact solution can be plugged in and must give
zero. Together with a model a problem makes an objective over params = {"model": ..., "coefficients": {...}}:

    ½ Σ_k w_k Σ_i q_ki |fn_k(u_θ, x_i, q)|²,     or with `outer`     Σ_k w_k Σ_i q_ki φ_k(fn_k(u_θ, x_i, q), x_i)

Options of a problem (coefficients of the equation, numbers of points) are static Python values, never arrays.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .calculus import Field, gradient
from .checks import nearest
from .model import Model
from .objective import Composite, LeastSquares, Term
from .points import FIXED_DESIGNS, check_count, generator
from .types import Params


class Equation(NamedTuple):
    """fn(u, x, q) -> () or (c,), zero for the solution: u the field, x one row, q the unknown coefficients.

    `outer`: φ(z, x) convex in z = fn(u, x, q), for energies. `coupled`: x is all rows at once and fn returns (m,).
    """

    fn: Callable[..., Any]
    weight: float = 1.0
    outer: Callable[[Array, Any], Any] | None = None
    coupled: bool = False


class Points(NamedTuple):
    """Rows x (an array (n, d) or a pytree of arrays with n rows) and their quadrature weights, default 1/n each."""

    x: Any
    quadrature: Any = None


class Picture(NamedTuple):
    """What to plot: points (n0, d) along one axis, or (n0·n1, d) of a grid or slice, last axis fastest; the axes and
    their names."""

    points: np.ndarray
    axes: tuple[np.ndarray, ...]
    labels: tuple[str, ...]


class Problem(eqx.Module):
    """Abstract problem on the closed box [lower, upper]. Subclasses are final and work with no arguments.

    Where `solution` is a differentiable function (`analytic`), the generic tests plug it in as the field and the H1
    seminorm is scored; where it interpolates stored data, or the answer is a set of numbers, set `analytic = False`.
    """

    analytic: ClassVar[bool] = True

    # Class variables of most problems; where an option decides them, properties.
    @property
    @abc.abstractmethod
    def dim_in(self) -> int:
        """Coordinates of a point."""

    @property
    @abc.abstractmethod
    def dim_out(self) -> int:
        """Components of the field."""

    @property
    @abc.abstractmethod
    def lower(self) -> tuple[float, ...]:
        """The lower ends of the box."""

    @property
    @abc.abstractmethod
    def upper(self) -> tuple[float, ...]:
        """The upper ends of the box."""

    @property
    @abc.abstractmethod
    def sizes(self) -> dict[str, int]:
        """The default number of points of every equation."""

    @property
    def fixed(self) -> frozenset[str]:
        """Equations whose points do not depend on the key (grids, quadrature, data): drawing again changes nothing.

        By default all of them where the option `design` names a grid, and none else.
        """
        return frozenset(self.sizes) if getattr(self, "design", None) in FIXED_DESIGNS else frozenset()

    @property
    def measured(self) -> frozenset[str]:
        """Equations whose rows are measurements: a sampler never redraws them and no fresh pool exists for them."""
        return frozenset()

    def resolvable(self, name: str, x: Any) -> np.ndarray:
        """Which rows of `x`, points of one equation, a smooth field can satisfy, (n,) of booleans: all, by default.

        Beside a singularity of the data the residual of every smooth field is large. It would drown the statistic q,
        and a sampler that follows the residual would crowd its points where they cannot help.
        """
        return np.ones(len(jax.tree.leaves(x)[0]), bool)

    @abc.abstractmethod
    def equations(self) -> dict[str, Equation]:
        """All equations by name, including those a model may impose."""

    @abc.abstractmethod
    def draw(self, name: str, n: int, rng: np.random.Generator) -> Points:
        """n points for one equation, NumPy float64."""

    @abc.abstractmethod
    def solution(self, x: Any) -> Float[Array, " c"]:
        """The exact solution at one point, or the reference interpolated."""

    @abc.abstractmethod
    def test_points(self) -> Float[np.ndarray, "m d"]:
        """Where the error is measured: fixed, and not the training points."""

    @abc.abstractmethod
    def default_model(self) -> Model:
        """A model that is known to work."""

    @abc.abstractmethod
    def picture(self) -> Picture:
        """The line or grid on which a report shows solution, reference and error."""

    def coefficients(self) -> dict[str, Any]:
        """First guesses of the unknown coefficients of an inverse problem."""
        return {}

    def true_coefficients(self) -> dict[str, Any]:
        """What the coefficients should come out as; each gets a metric `error_<name>`."""
        return {}

    def field(self, model: Model, params: Params) -> Field:
        """The field u that `params` stand for: the model's, unless the unknowns are coefficients alone."""
        return model.field(params["model"])

    def optimum(self) -> Params | None:
        """Parameters at which the whole objective is least, where they are known: fits to data, convex problems.

        Such an answer need not satisfy any single equation. None: the solution is a field and satisfies them all.
        """
        return None

    def accuracy(self) -> dict[str, float]:
        """Largest residual the solution itself leaves in an equation (noise, interpolation), where it is above 1e-9."""
        return {}

    def sample(self, key: Any, sizes: Mapping[str, int] | None = None) -> dict[str, Points]:
        """Points for every equation, float64 NumPy on the host; `key` is a JAX key or a nonnegative integer.

        `sizes` overrides default numbers by name; a ValueError names the nearest equation for an unknown name.
        """
        numbers = dict(self.sizes)
        for name, n in (sizes or {}).items():
            if name not in numbers:
                raise ValueError(f"{_who(self)}: sizes names {name!r}; {nearest(name, numbers)}")
            numbers[name] = n
        numbers = {name: check_count(n, f"{_who(self)}: the number of {name} points") for name, n in numbers.items()}
        return {name: self.draw(name, n, generator(key, name)) for name, n in numbers.items()}

    def exact(self, points: Any) -> Float[np.ndarray, "m c"]:
        """`solution` at many points, always computed in float64."""
        with jax.enable_x64(True):
            return np.asarray(jax.lax.map(self.solution, jnp.asarray(points), batch_size=1024))

    def reference(self) -> Float[np.ndarray, "m c"]:
        """The values that `test_points` are scored against."""
        return self.exact(self.test_points())

    def metrics(self) -> dict[str, Callable[[Field, Mapping[str, Any]], Float[Array, ""]]]:
        """Error measures fn(u, q) -> scalar, jittable, their data leaves; the first, relative L2, is the main one."""
        points, values = self.test_points(), self.reference()
        out: dict[str, Any] = {"l2": RelativeL2(points, values)}
        if self.analytic:
            with jax.enable_x64(True):
                slopes = jax.lax.map(lambda x: gradient(self.solution, x), jnp.asarray(points), batch_size=1024)
                out["h1"] = RelativeH1(points, np.asarray(slopes))
        out["linf"] = RelativeLinf(points, values)
        return out | {f"error_{k}": CoefficientError(k, v) for k, v in self.true_coefficients().items()}

    def init(self, model: Model, key: Any) -> Params:
        """Initial parameters {"model": ..., "coefficients": {...}}, float64 NumPy arrays."""
        unknown = {name: np.asarray(value, float) for name, value in self.coefficients().items()}
        return {"model": model.init(key), "coefficients": unknown}

    def objective(self, model: Model, points: Mapping[str, Any]) -> LeastSquares | Composite:
        """The objective of all equations that `model` does not impose, on `points` (Points or arrays by name).

        Raises ValueError if the model does not fit the problem, imposes an unknown equation, or points are missing.
        """
        equations = self.equations()
        self._check(model, equations, points)
        terms: dict[str, Term] = {}
        outer: dict[str, Callable] = {}
        for name, equation in equations.items():
            if name in model.imposes:
                continue
            rows = points[name] if isinstance(points[name], Points) else Points(points[name])
            fn = Residual(self, model, name)
            terms[name] = Term(fn, rows.x, equation.weight, rows.quadrature, equation.coupled)
            if equation.outer is not None:
                outer[name] = Outer(self, name)
        if not terms:
            raise ValueError(f"{_who(self)}: {_who(model)} imposes every equation, so nothing is left to minimise.")
        return Composite(terms, outer) if outer else LeastSquares(terms)

    def _check(self, model: Model, equations: dict[str, Equation], points: Mapping[str, Any]) -> None:
        for name in sorted(model.imposes - set(equations)):
            raise ValueError(f"{_who(model)} imposes {name!r} on {_who(self)}; {nearest(name, equations)}")
        for name in sorted(set(points) - set(equations)):
            raise ValueError(f"{_who(self)}: points names {name!r}; {nearest(name, equations)}")
        for name in sorted(set(equations) - set(points) - model.imposes):
            raise ValueError(f"{_who(self)}: no points for {name!r}; take them from {_who(self)}().sample(key).")
        row = jax.ShapeDtypeStruct((self.dim_in,), jnp.zeros(()).dtype)
        try:
            shape = jax.eval_shape(lambda p, x: self.field(model, p)(x), self.init(model, 0), row).shape
        except (TypeError, ValueError) as error:
            raise ValueError(f"{_who(model)} does not take points of shape ({self.dim_in},): {error}") from error
        if shape != (self.dim_out,):
            raise ValueError(f"{_who(model)} returns shape {shape}, but {_who(self)} needs ({self.dim_out},).")


class Residual(eqx.Module):
    """(params, x) -> residual of one equation for the model's field: a term's function, stable between runs."""

    problem: Problem
    model: Model
    name: str = eqx.field(static=True)

    def __call__(self, params: Params, x: Any) -> Array:
        equation = self.problem.equations()[self.name]
        return equation.fn(self.problem.field(self.model, params), x, params["coefficients"])


class Outer(eqx.Module):
    """(z, x) -> φ(z, x) of one equation."""

    problem: Problem
    name: str = eqx.field(static=True)

    def __call__(self, z: Array, x: Any) -> Array:
        phi = self.problem.equations()[self.name].outer
        assert phi is not None
        return phi(z, x)


class RelativeL2(eqx.Module):
    """‖u - u*‖ / ‖u*‖ in the Euclidean norm over the points."""

    points: Float[Any, "m d"]
    values: Float[Any, "m c"]

    def __call__(self, u: Field, q: Mapping[str, Any]) -> Float[Array, ""]:
        values = jnp.asarray(self.values)
        error = jax.vmap(u)(jnp.asarray(self.points)) - values
        return jnp.linalg.norm(error) / jnp.linalg.norm(values)


class RelativeH1(eqx.Module):
    """‖∇u - ∇u*‖ / ‖∇u*‖ over the points: the H1 seminorm, time counted as a coordinate."""

    points: Float[Any, "m d"]
    slopes: Float[Any, "m c d"]

    def __call__(self, u: Field, q: Mapping[str, Any]) -> Float[Array, ""]:
        slopes = jnp.asarray(self.slopes)
        # d forward sweeps, or c reverse ones of about twice the work.
        outputs, inputs = slopes.shape[1:]
        slope = jax.jacrev(u) if inputs >= 2 * outputs else partial(gradient, u)
        error = jax.vmap(slope)(jnp.asarray(self.points)) - slopes
        return jnp.linalg.norm(error) / jnp.linalg.norm(slopes)


class RelativeLinf(eqx.Module):
    """max |u - u*| / max |u*| over the points."""

    points: Float[Any, "m d"]
    values: Float[Any, "m c"]

    def __call__(self, u: Field, q: Mapping[str, Any]) -> Float[Array, ""]:
        values = jnp.asarray(self.values)
        error = jax.vmap(u)(jnp.asarray(self.points)) - values
        return jnp.max(jnp.abs(error)) / jnp.max(jnp.abs(values))


class CoefficientError(eqx.Module):
    """|q - q*| / |q*| of one coefficient."""

    name: str = eqx.field(static=True)
    value: float = eqx.field(static=True)

    def __call__(self, u: Field, q: Mapping[str, Any]) -> Float[Array, ""]:
        return jnp.abs(q[self.name] - self.value) / abs(self.value)


def _who(thing: Any) -> str:
    return type(thing).__name__
