"""Time of one Levenberg-Marquardt step against the sum of its parts measured alone.

    python benchmarks/lm_step.py [--repeats 15] [--steps 20]

One JSON line per size (N, P): milliseconds of process CPU time, compilation apart. Parts are the pointwise Jacobian,
the symmetric product JᵀJ, one Cholesky factorisation and one value; `sum` counts the value twice. `step` is the mean
over `steps` consecutive steps of one compiled loop, after as many that are not measured. Work repeated by rejected
trials is in `step` and not in `sum`; `trials` tells how many there were per step. For numbers that can be compared,
pin it to one core:

    OPENBLAS_NUM_THREADS=1 taskset -c 1 python benchmarks/lm_step.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import statistics
import subprocess
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import scipy

from ravine.driver.allocator import keep_freed_memory
from ravine.linalg.symmetric import gram
from ravine.linearization import Linearization
from ravine.methods.levenberg_marquardt import LevenbergMarquardt
from ravine.objective import LeastSquares, Term

keep_freed_memory()  # as the command line does, before JAX runs
jax.config.update("jax_enable_x64", True)

SIZES = (((2, 32, 1), 30, 30), ((2, 24, 24, 1), 30, 30), ((2, 20, 20, 20, 1), 60, 100))
KEY = jax.random.key(0)


def network(params, x):
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return (x @ params[-1]["w"] + params[-1]["b"])[0]


def poisson(params, x):
    """Δu + 2π² sin πx sin πy, each second derivative forward over forward."""

    def along(v):
        first = lambda y: jax.jvp(lambda z: network(params, z), (y,), (v,))[1]
        return jax.jvp(first, (x,), (v,))[1]

    source = 2 * jnp.pi**2 * jnp.sin(jnp.pi * x[0]) * jnp.sin(jnp.pi * x[1])
    return along(jnp.array([1.0, 0.0])) + along(jnp.array([0.0, 1.0])) + source


def problem(sizes, side, edge):
    """Soft-boundary Poisson on the unit square: side² + 4 edge rows."""
    grid = (np.arange(side) + 0.5) / side
    inside = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    t, zero, one = (np.arange(edge) + 0.5) / edge, np.zeros(edge), np.ones(edge)
    border = np.concatenate([np.stack(q, -1) for q in ((t, zero), (t, one), (zero, t), (one, t))])
    rng = np.random.default_rng(0)
    params = [
        {"w": jnp.asarray(rng.uniform(-1, 1, (a, b)) * math.sqrt(6 / (a + b))), "b": jnp.zeros(b)}
        for a, b in itertools.pairwise(sizes)
    ]
    return jnp.asarray(inside), jnp.asarray(border), params


def objective(inside, border):
    return LeastSquares({"pde": Term(poisson, inside), "bc": Term(network, border, weight=4.0)})


def timed(function, *arguments, repeats: int) -> float:
    """Median milliseconds of process CPU time, after one call that compiles."""
    jax.block_until_ready(function(*arguments))
    samples = []
    for _ in range(repeats):
        start, calls = time.process_time(), 0
        while calls == 0 or time.process_time() - start < 0.02:
            jax.block_until_ready(function(*arguments))
            calls += 1
        samples.append((time.process_time() - start) / calls)
    return 1e3 * statistics.median(samples)


def measure(sizes, side, edge, repeats: int, steps: int) -> dict:
    inside, border, params = problem(sizes, side, edge)
    points = (inside, border)
    jacobian = jax.jit(lambda p, q: Linearization(objective(*q), p).jacobian())
    rows = jacobian(params, points)
    n, size = rows.shape
    matrix = gram(rows) + jnp.eye(size)
    parts = {
        "jacobian": timed(jacobian, params, points, repeats=repeats),
        "syrk": timed(jax.jit(gram), rows, repeats=repeats),
        "xla_product": timed(jax.jit(lambda j: j.T @ j), rows, repeats=repeats),
        "cholesky": timed(
            jax.jit(lambda a: jax.lax.linalg.cholesky(a, symmetrize_input=False)), matrix, repeats=repeats
        ),
        "value": timed(jax.jit(lambda p, q: objective(*q).value(p)), params, points, repeats=repeats),
    }
    method = LevenbergMarquardt()

    @jax.jit
    def run(p, state, q):
        whole = objective(*q)

        def body(_, carry):
            step = method.step(whole, *carry[:2], key=KEY)
            return step.params, step.state, carry[2] + step.info.scalars["trials"] / steps

        return jax.lax.fori_loop(0, steps, body, (p, state, 0.0))

    warm, state, _ = run(params, method.init(objective(*points), params, key=KEY), points)
    trials = float(run(warm, state, points)[2])
    step = timed(run, warm, state, points, repeats=max(3, repeats // 3)) / steps
    total = parts["jacobian"] + parts["syrk"] + parts["cholesky"] + 2 * parts["value"]
    return {"N": n, "P": size, "step": step, "sum": total, "ratio": step / total, "trials": trials, **parts}


def commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="samples per median")
    parser.add_argument("--steps", type=int, default=20, help="consecutive steps per sample of `step`")
    options = parser.parse_args()
    machine = {
        "machine": f"{platform.machine()} {platform.system()}",
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "scipy": scipy.__version__,
        "commit": commit(),
    }
    for sizes, side, edge in SIZES:
        result = measure(sizes, side, edge, options.repeats, options.steps)
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}
        print(json.dumps({**rounded, "unit": "ms of process CPU time", **machine}), flush=True)


if __name__ == "__main__":
    main()
