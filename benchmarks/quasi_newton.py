"""Quasi-Newton methods against SciPy's and Optax's on the same jitted objective: steps per second and time to a loss.

    taskset -c 0 python benchmarks/quasi_newton.py [--problems a,b] [--methods lbfgs,optax,...] [--seeds 3]
                                                   [--seconds 6] [--memory 20]

One JSON object per line: the first says machine, versions and commit, each other is one run. Seconds are process CPU
seconds without compilation; run it on one pinned core. The problems are the Poisson equation with soft boundary terms
on a tanh network: a has 129 parameters and 1020 rows, b has 921 parameters and 2900 rows. `loss` is the objective, half
of mean r² + 4 mean b².
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy
from jax.flatten_util import ravel_pytree
from scipy import optimize

import ravine as rv
from ravine.methods import BFGS, LBFGS, SSBFGS, Optax, SSBroyden

jax.config.update("jax_enable_x64", True)

TARGETS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
SIZES = {"a": ((2, 32, 1), 30, 30), "b": ((2, 20, 20, 20, 1), 50, 100)}
KEY = jax.random.key(0)


def network(params, x):
    for weight, bias in params[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = params[-1]
    return (x @ weight + bias)[0]


def poisson(params, x):
    def second(direction):
        first = lambda y: jax.jvp(lambda z: network(params, z), (y,), (direction,))[1]
        return jax.jvp(first, (x,), (direction,))[1]

    laplacian = second(jnp.array([1.0, 0.0])) + second(jnp.array([0.0, 1.0]))
    return laplacian + 2 * jnp.pi**2 * jnp.sin(jnp.pi * x[0]) * jnp.sin(jnp.pi * x[1])


def build(name: str, seed: int):
    """The objective and Glorot-uniform parameters."""
    sizes, n, m = SIZES[name]
    inner, side = (np.arange(n) + 0.5) / n, (np.arange(m) + 0.5) / m
    points = np.stack(np.meshgrid(inner, inner), -1).reshape(-1, 2)
    edges = [[side, 0 * side], [side, 0 * side + 1], [0 * side, side], [0 * side + 1, side]]
    boundary = np.concatenate([np.stack(edge, 1) for edge in edges])
    terms = {
        "pde": rv.Term(poisson, jnp.asarray(points)),
        "boundary": rv.Term(network, jnp.asarray(boundary), weight=jnp.asarray(4.0)),
    }
    rng, params = np.random.default_rng(seed), []
    for fan_in, fan_out in itertools.pairwise(sizes):
        limit = np.sqrt(6 / (fan_in + fan_out))
        params.append((jnp.asarray(rng.uniform(-limit, limit, (fan_in, fan_out))), jnp.zeros(fan_out)))
    return rv.LeastSquares(terms), params


@eqx.filter_jit
def advance(method, objective, params, state, steps):
    """`steps` steps in one device call, with the evaluations they made and the last entering value."""

    def body(carry):
        k, params, state, evaluations, _ = carry
        step = method.step(objective, params, state, key=KEY)
        return k + 1, step.params, step.state, evaluations + step.info.counts.vjp, step.info.value

    zero = jnp.zeros((), jnp.int32)
    start = (zero, params, state, zero, jnp.asarray(jnp.inf))
    return jax.lax.while_loop(lambda carry: carry[0] < steps, body, start)[1:]


def ours(method, objective, params, seconds: float, per_call: int) -> list[tuple[float, int, int, float]]:
    """Rows (CPU seconds, steps, evaluations, loss) of one of ravine's methods."""
    dynamic, static = eqx.partition(method, lambda x: isinstance(x, float))
    method = eqx.combine(jax.tree.map(jnp.asarray, dynamic), static)
    state = eqx.filter_jit(lambda m, o, p: m.init(o, p, key=KEY))(method, objective, params)
    jax.block_until_ready(advance(method, objective, params, state, jnp.asarray(1, jnp.int32)))
    rows, used, steps, evaluations = [], 0.0, 0, 1
    while used < seconds:
        start = time.process_time()
        out = advance(method, objective, params, state, jnp.asarray(per_call, jnp.int32))
        params, state, trials, value = jax.block_until_ready(out)
        used += time.process_time() - start
        steps, evaluations = steps + per_call, evaluations + int(trials)
        rows.append((used, steps, evaluations, float(value)))
    return rows


def scipys(name: str, objective, params, seconds: float, memory: int) -> list[tuple[float, int, int, float]]:
    """The same rows of a SciPy method."""
    theta, unravel = ravel_pytree(params)

    @eqx.filter_jit
    def compiled(objective, theta):
        value, grad = objective.value_and_grad(unravel(theta))
        return value, ravel_pytree(grad)[0]

    calls = [0]

    def fun(theta):
        calls[0] += 1
        value, grad = compiled(objective, theta)
        return float(value), np.asarray(grad)

    fun(np.asarray(theta))
    rows, start = [], time.process_time()
    calls[0] = 0

    def callback(intermediate_result):
        rows.append((time.process_time() - start, len(rows) + 1, calls[0], float(intermediate_result.fun)))
        if rows[-1][0] > seconds:
            raise StopIteration

    options = {"maxiter": 10**7}
    if name == "L-BFGS-B":
        options |= {"maxcor": memory, "maxfun": 10**8, "ftol": 0.0, "gtol": 0.0}
    else:
        options |= {"gtol": 0.0}
    optimize.minimize(fun, np.asarray(theta), jac=True, method=name, callback=callback, options=options)
    return rows


def rows_of(name: str, objective, params, args) -> list[tuple[float, int, int, float]]:
    methods = {
        "lbfgs": LBFGS(memory=args.memory),
        "optax-lbfgs": Optax(optax.lbfgs(memory_size=args.memory)),
        "bfgs": BFGS(),
        "ssbfgs": SSBFGS(),
        "ssbroyden": SSBroyden(),
    }
    if name in methods:
        per_call = 25 if len(params) == 2 else 5
        return ours(methods[name], objective, params, args.seconds, per_call)
    return scipys(
        {"scipy-lbfgsb": "L-BFGS-B", "scipy-bfgs": "BFGS"}[name], objective, params, args.seconds, args.memory
    )


def first(rows, target: float, column: int):
    return next((round(row[column], 3) for row in rows if row[3] <= target), None)


def provenance() -> dict:
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    versions = {m.__name__: m.__version__ for m in (jax, optax, eqx, np, scipy)}
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {"machine": platform.machine(), "device": jax.devices()[0].device_kind, "cores": os.cpu_count(),
            "python": platform.python_version(), "versions": versions, "commit": commit}  # fmt: skip


NAMES = ("lbfgs", "optax-lbfgs", "scipy-lbfgsb", "ssbroyden", "ssbfgs", "bfgs", "scipy-bfgs")


def choices(text: str, allowed) -> list[str]:
    for name in (names := text.split(",")):
        if name not in allowed:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=lambda text: choices(text, SIZES), default=list(SIZES))
    parser.add_argument("--methods", type=lambda text: choices(text, NAMES), default=list(NAMES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--memory", type=int, default=20)
    args = parser.parse_args()
    print(json.dumps({**provenance(), "arguments": vars(args)}), flush=True)
    for problem in args.problems:
        for seed in range(args.seeds):
            for name in args.methods:
                objective, params = build(problem, seed)
                rows = rows_of(name, objective, params, args)
                used, steps, evaluations, loss = rows[-1]
                row = {
                    "problem": problem, "seed": seed, "method": name, "steps": steps, "seconds": round(used, 3),
                    "steps_per_second": round(steps / used, 1), "milliseconds_per_step": round(1e3 * used / steps, 4),
                    "evaluations_per_step": round(evaluations / steps, 3), "loss": loss,
                    "seconds_to": {f"{t:g}": first(rows, t, 0) for t in TARGETS},
                    "evaluations_to": {f"{t:g}": first(rows, t, 2) for t in TARGETS},
                }  # fmt: skip
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
