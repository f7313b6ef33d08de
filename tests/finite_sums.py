"""Small strongly convex finite sums with known constants, and the steps of a method on them without the driver."""

import equinox as eqx
import jax
import numpy as np

from ravine.finite_sum import batch_sizes, draw
from ravine.objective import Composite, LeastSquares, Term

jnp = jax.numpy


def row(p, x):
    return x["a"] @ p["w"] - x["y"]


def regression(n=60, d=4, seed=0, noise=0.5):
    """(objective, θ*, l, μ): L = ½ mean (aᵀθ − y)², l the largest |a|², μ the smallest eigenvalue of mean aaᵀ."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    y = a @ rng.normal(size=d) + noise * rng.normal(size=n)
    best = np.linalg.lstsq(a, y, rcond=None)[0]
    return LeastSquares({"fit": Term(row, {"a": a, "y": y})}), best, 1.0, np.linalg.eigvalsh(a.T @ a / n)[0]


# What the tests of finite sums share: the sum, its minimiser, its constants, and where runs on it begin.
OBJECTIVE, BEST, SMOOTH, CONVEX = regression()
N = 60
ZERO = {"w": np.zeros(4)}


def gap(params, info):
    """L − L* of OBJECTIVE; to be watched in `trajectories`."""
    return OBJECTIVE.value(params) - OBJECTIVE.value({"w": jnp.asarray(BEST)})


def gradient_on(objective, rows, w):
    """Of a sum that `regression` made, on some rows, in NumPy."""
    points = objective.parts["fit"].points
    a, y = (np.asarray(points[k])[np.asarray(rows)] for k in ("a", "y"))
    return a.T @ (a @ w - y) / len(rows)


def margin(p, x):
    return x["y"] * (x["a"] @ p["w"])


def decay(p, x):
    return p["w"] * x[0]


def logistic(n=80, d=5, seed=1, l2=0.05):
    """Mean of log(1 + exp(−y aᵀθ)) plus l2/2 |θ|², the penalty a term of one row."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d))
    y = np.where(a @ rng.normal(size=d) + rng.normal(size=n) > 0, 1.0, -1.0)
    terms = {"loss": Term(margin, {"a": a, "y": y}), "penalty": Term(decay, np.ones((1, 1)), weight=l2)}
    return Composite(terms, outer={"loss": lambda z, x: jnp.logaddexp(0.0, -z[0])}), (a, y)


def trajectories(method, objective, start, steps, seeds, watch):
    """`watch(params, info)` of every step, (seeds, steps, ...): seeds runs at once."""

    @eqx.filter_jit
    def run(method, objective, start, key):
        def body(carry, k):
            step = method.step(objective, *carry, key=k)
            return (step.params, step.state), watch(carry[0], step.info)

        state = method.init(objective, start, key=key)
        return jax.lax.scan(body, (start, state), jax.random.split(key, steps))[1]

    keys = jax.random.split(jax.random.key(11), seeds)
    return jax.vmap(lambda k: run(method, objective, start, k))(keys)


def path_of(method, objective, start, steps):
    """(w entering each step, infos, rows of the term "fit" that `draw` gives each step's key), one run of a sum that
    `regression` made."""
    where, infos = trajectories(method, objective, start, steps, 1, lambda params, info: (params["w"], info))
    keys = jax.random.split(jax.random.split(jax.random.key(11), 1)[0], steps)
    shares = batch_sizes(objective.sizes, method.batch)
    drawn = jax.jit(jax.vmap(lambda k: draw(k, objective.sizes, shares)["fit"]))(keys)
    return np.asarray(where[0]), jax.tree.map(lambda x: np.asarray(x[0]), infos), list(np.asarray(drawn))
