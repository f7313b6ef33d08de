"""Quadratics with a prescribed spectrum, and a compiled loop that keeps every iterate.

L(θ) = ½ (θ − θ*)ᵀA(θ − θ*) + lowest,   A = Q diag(λ) Qᵀ
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ravine.driver.precision import floats_to_arrays
from ravine.objective import Scalar

KEY = jax.random.key(0)
SPECTRUM = np.logspace(0, 2, 15)  # κ = 100


def _value(theta, batch):
    matrix, solution, lowest = batch
    error = theta - solution
    return 0.5 * error @ matrix @ error + lowest


class Quadratic(NamedTuple):
    objective: Scalar
    matrix: np.ndarray
    vectors: np.ndarray  # eigenvectors, as columns
    solution: np.ndarray

    def modes(self, thetas):
        """Components of the error along the eigenvectors, one row per iterate."""
        return (np.asarray(thetas) - self.solution) @ self.vectors

    def value(self, thetas):
        error = np.asarray(thetas) - self.solution
        return 0.5 * np.einsum("...i,ij,...j->...", error, self.matrix, error)


def quadratic(spectrum, seed=0, lowest=0.0) -> Quadratic:
    rng = np.random.default_rng(seed)
    spectrum = np.asarray(spectrum, float)
    vectors, _ = np.linalg.qr(rng.normal(size=(spectrum.size, spectrum.size)))
    matrix = (vectors * spectrum) @ vectors.T
    matrix = 0.5 * (matrix + matrix.T)
    solution = rng.normal(size=spectrum.size)
    return Quadratic(Scalar(_value, (matrix, solution, np.asarray(lowest))), matrix, vectors, solution)


class Path(NamedTuple):
    """What entered and left each step: row 0 of `params` and `states` is the start, row k follows step k."""

    params: Any
    states: Any
    infos: Any


@eqx.filter_jit
def _scan(method, objective, params, state, steps):
    def body(carry, _):
        step = method.step(objective, *carry, key=KEY)
        return (step.params, step.state), (step.params, step.state, step.info)

    return jax.lax.scan(body, (params, state), None, length=steps)[1]


def follow(method, objective, params, steps, state=None) -> Path:
    """`steps` steps from `params`, real options traced as the driver does."""
    method = floats_to_arrays(method, "float64")
    params = jnp.asarray(params)
    state = method.init(objective, params, key=KEY) if state is None else state
    after, states, infos = _scan(method, objective, params, state, steps)
    stack = lambda first, rest: np.concatenate([np.asarray(first)[None], np.asarray(rest)])
    return Path(jax.tree.map(stack, params, after), jax.tree.map(stack, state, states), jax.tree.map(np.asarray, infos))


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


ROSENBROCK = Scalar(rosenbrock)
ROSENBROCK_START = np.array([-1.2, 1.0, -1.2, 1.0])


class _Lying(eqx.Module):
    """A value whose gradient points the wrong way: no step along −g can decrease it."""

    @staticmethod
    @jax.custom_jvp
    def value(x):
        return jnp.sum(x)


_Lying.value.defjvp(lambda primal, tangent: (_Lying.value(*primal), -jnp.sum(tangent[0])))
LYING = Scalar(lambda x: _Lying.value(x))
FLAT = np.array([1.0, -1.0])  # where it vanishes: relative to zero no change is rounding
