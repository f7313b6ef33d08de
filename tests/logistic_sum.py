"""A small finite sum for the stochastic methods: a logistic loss with a ridge, 300 rows, and its minimum."""

import jax
import numpy as np

from ravine.objective import Composite, LeastSquares, Term

jnp = jax.numpy
RNG = np.random.default_rng(11)
SIZE, ROWS = 6, 300
FEATURES = RNG.normal(size=(ROWS, SIZE)) * np.linspace(1.0, 0.3, SIZE)
TRUE = 2 * RNG.normal(size=SIZE)
LABELS = np.where(RNG.uniform(size=ROWS) < 1 / (1 + np.exp(-FEATURES @ TRUE)), 1.0, -1.0)

LOGISTIC = Composite(
    {
        "data": Term(lambda p, x: x[SIZE] * (x[:SIZE] @ p), np.column_stack([FEATURES, LABELS])),
        "ridge": Term(lambda p, x: p, np.zeros((1, 1)), weight=0.01),
    },
    {"data": lambda z, x: jnp.logaddexp(0.0, -z[0])},
)
# Consistent: the rows agree on one solution, so every batch has the same minimiser.
CONSISTENT = LeastSquares(
    {"data": Term(lambda p, x: x[:SIZE] @ p - x[SIZE], np.column_stack([FEATURES, FEATURES @ TRUE]))}
)
START = np.zeros(SIZE)


def _minimum():
    """By Newton's method with dense derivatives."""
    theta, value = jnp.zeros(SIZE), jax.jit(lambda p: LOGISTIC.value(p))
    grad, hess = jax.jit(jax.grad(value)), jax.jit(jax.hessian(value))
    for _ in range(12):
        theta = theta - jnp.linalg.solve(hess(theta), grad(theta))
    return np.asarray(theta), float(value(theta))


def gap(params):
    """L(params) − min L of LOGISTIC, relative to that at the start."""
    _, lowest = MINIMUM
    first = float(LOGISTIC.value(jnp.asarray(START)))
    return (float(LOGISTIC.value(jnp.asarray(params))) - lowest) / (first - lowest)


MINIMUM = _minimum()
