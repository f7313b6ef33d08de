"""The tiny problems of the driver's tests: a 1-8-1 network on 24 points, and a two-parameter exponential fit.

Functions and points are module constants, so that every test of a session runs the same compiled programs.
"""

import jax
import numpy as np

from ravine.objective import LeastSquares, Scalar, Term
from ravine.registry import entries

jnp = jax.numpy

POINTS = np.linspace(-1.0, 1.0, 24)[:, None]
TIMES = np.linspace(0.0, 2.0, 20)
CLOCKS = ("seconds", "cpu_seconds")


def network(params, x):
    return params["b"] @ jnp.tanh(params["w"] * x[0] + params["c"])


def residual(params, x):
    return network(params, x) - jnp.sin(3.0 * x[0])


def edge(params, x):
    return network(params, x) - jnp.sin(3.0 * x[0])


def network_value(params):
    return 0.5 * jnp.mean(jax.vmap(lambda x: residual(params, x))(jnp.asarray(POINTS)) ** 2)


def l2(params):
    u = jax.vmap(lambda x: network(params, x))(jnp.asarray(POINTS))
    return jnp.linalg.norm(u - jnp.sin(3 * jnp.asarray(POINTS[:, 0])))


FIT = LeastSquares({"fit": Term(residual, POINTS)})
SCALAR = Scalar(network_value)


def start(seed: int = 0, width: int = 8) -> dict:
    rng = np.random.default_rng(seed)
    return {"w": 3 * rng.normal(size=width), "c": rng.normal(size=width), "b": 0.5 * rng.normal(size=width)}


def decay(params, row):
    """Residual of y = a exp(-k t) at one (t, y)."""
    t, y = row
    return params["a"] * jnp.exp(-params["k"] * t) - y


DECAY = LeastSquares({"data": Term(decay, (TIMES, 2.0 * np.exp(-1.3 * TIMES)))})
DECAY_START = {"a": np.asarray(1.0), "k": np.asarray(0.5)}


def steady(rows: list) -> list:
    """Rows without the clock columns."""
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


def methods() -> list[str]:
    return list(entries("methods"))
