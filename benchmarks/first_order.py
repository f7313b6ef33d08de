"""First-order methods at equal work, and the choices behind their defaults: loss after a number of evaluations.

    python benchmarks/first_order.py [--evaluations 6000] [--seeds 3] > benchmarks/results/first_order.jsonl

One JSON object per line: the first says versions and commit, each other is one configuration on one problem with the
losses of all seeds. Work is counted, not timed, so the machine does not matter; an evaluation is one of all rows, a
gradient is 3. Problems: `pinn` -u'' = π² sin πx on (0, 1) with soft ends (48 parameters, 62 rows), `quadratic` of 30
variables with condition number 1000, `rosenbrock` in six variables.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import ravine as rv
from ravine import methods as m

CONFIGURATIONS = {
    "adam 1e-2": m.Adam(1e-2),
    "lbfgs": m.LBFGS(),
    "gd": m.GradientDescent(),
    "gd c1=0.3": m.GradientDescent(c1=0.3),
    "gd exact": m.GradientDescent(rule="exact"),
    "cg": m.NonlinearCG(),
    "cg FR": m.NonlinearCG(beta="FR"),
    "cg HZ": m.NonlinearCG(beta="HZ"),
    "cg c2=0.1": m.NonlinearCG(c2=0.1),
    "cg c2=0.001": m.NonlinearCG(c2=1e-3),
    "cg without Powell's test": m.NonlinearCG(orthogonality=1e300),
    "bb": m.BarzilaiBorwein(),
    "bb long": m.BarzilaiBorwein(rule="long"),
    "bb short": m.BarzilaiBorwein(rule="short"),
    "bb monotone": m.BarzilaiBorwein(memory=1),
    "heavyball": m.HeavyBall(),
    "heavyball 0.9": m.HeavyBall(momentum=0.9),
    "heavyball gradient": m.HeavyBall(restart="gradient"),
    "heavyball none": m.HeavyBall(restart="none"),
    "nesterov": m.Nesterov(),
    "nesterov gradient": m.Nesterov(restart="gradient"),
    "nesterov none": m.Nesterov(restart="none"),
    "polyak": m.Polyak(),
    "polyak growth=10": m.Polyak(growth=10.0),
    "polyak unbounded": m.Polyak(growth=1e300),
    "ar1": m.AR1(),
    "fotr": m.FirstOrderTrustRegion(),
    "offo": m.OFFOAdaGrad(),
    "offo 1": m.OFFOAdaGrad(learning_rate=1.0),
    "offo 0.1": m.OFFOAdaGrad(learning_rate=0.1),
}


def network(params, x):
    return params["a"] @ jnp.tanh(params["w"] * x + params["b"])


def equation(params, x):
    second = jax.grad(jax.grad(lambda t: network(params, t)))(x[0])
    return second + jnp.pi**2 * jnp.sin(jnp.pi * x[0])


def end(params, x):
    return network(params, x[0])


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def half_square(x, batch):
    return 0.5 * x @ batch @ x


def build(problem: str, seed: int):
    """The objective and where it starts."""
    rng = np.random.default_rng(seed)
    if problem == "pinn":
        inside, ends = rng.uniform(size=(60, 1)), np.array([[0.0], [1.0]])
        params = {"w": 2 * rng.normal(size=16), "b": rng.normal(size=16), "a": rng.normal(size=16) / 4}
        terms = {"pde": rv.Term(equation, inside), "ends": rv.Term(end, ends, weight=10.0)}
        return rv.LeastSquares(terms), params
    if problem == "quadratic":
        vectors, _ = np.linalg.qr(rng.normal(size=(30, 30)))
        matrix = (vectors * np.logspace(-1.5, 1.5, 30)) @ vectors.T
        return rv.Scalar(half_square, 0.5 * (matrix + matrix.T)), vectors @ np.ones(30)
    return rv.Scalar(rosenbrock), np.tile([-1.2, 1.0], 3) + 0.1 * rng.normal(size=6)


def provenance() -> dict:
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {"python": platform.python_version(), "jax": jax.__version__, "ravine": rv.__version__, "commit": commit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps({**provenance(), "arguments": vars(args)}), flush=True)
    for problem in ("pinn", "quadratic", "rosenbrock"):
        for name, method in CONFIGURATIONS.items():
            budget = rv.Budget(evaluations=args.evaluations, seconds=600)
            runs = [rv.minimize(*build(problem, seed), method, budget=budget) for seed in range(args.seeds)]
            losses = [float(f"{run.final['loss']:.3e}") for run in runs]
            row = {"problem": problem, "method": name, "median": float(np.median(losses)), "losses": losses}
            row |= {"steps": [run.steps for run in runs], "status": [run.status for run in runs]}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
