"""Finite sums of many rows: passes over the data until the gradient norm is 1e-8, and where variance reduction loses.

    python benchmarks/finite_sums.py [--rows 100000] [--passes 100] > benchmarks/results/finite_sums.jsonl

One JSON object per line: one with versions, commit and arguments for each call (the committed results are of several,
with `--sets`, `--methods` and `--rows 1000`), then one for each method on each data set, run
until the target, `--passes` or `--seconds`. A pass is the work of one gradient over all rows (3 evaluations, counted,
not timed): the machine does not matter; seconds are steady ones and only orient. Gradient norms are exact, computed off
the clock at recorded steps, so the passes of batch methods are known to about an eighth. Data sets, n rows, 50 columns:

    regression     ½ mean (aᵀθ − y)², entries of a uniform, columns scaled from 1 to 1/30: condition number about 900
    logistic       mean log(1 + exp(−y aᵀθ)) + ½·1e-4 |θ|², normal entries, the same scales, labels with noise
    ill            regression with columns scaled from 1 to 1/300: condition number about 1e5, more than n for one row

`step` is in units of 1/l, l the largest smoothness of one row (regression: |a|², logistic: |a|²/4).
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
from ravine.objective import Composite, LeastSquares, Term
from ravine.records import evaluations

TARGET = 1e-8
WIDTH = 50


def linear(params, row):
    return row["a"] @ params["w"] - row["y"]


def margin(params, row):
    return row["y"] * (row["a"] @ params["w"])


def penalty(params, x):
    return params["w"] @ x


def softplus(z, _):
    return jnp.logaddexp(0.0, -z[0])


def data(name: str, n: int):
    """(objective, smoothness of the worst row)."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=WIDTH)
    scales = np.geomspace(1, 1 / 300 if name == "ill" else 1 / 30, WIDTH)
    if name == "logistic":
        a = rng.normal(size=(n, WIDTH)) / np.sqrt(WIDTH) * scales
        y = np.where(a @ truth + rng.normal(size=n) > 0, 1.0, -1.0)
        terms = {"loss": Term(margin, {"a": a, "y": y}), "penalty": Term(penalty, np.eye(WIDTH), 1e-4, np.ones(WIDTH))}
        return Composite(terms, outer={"loss": softplus}), np.max(np.sum(a * a, axis=1)) / 4
    a = rng.uniform(-1, 1, size=(n, WIDTH)) * np.sqrt(3 / WIDTH) * scales
    y = a @ truth + 0.5 * rng.normal(size=n)
    return LeastSquares({"fit": Term(linear, {"a": a, "y": y})}), np.max(np.sum(a * a, axis=1))


def configurations(smooth: float, n: int):
    """(label, method, sampler). Steps of variance reduction: 3/l for 16 rows, and a full gradient every half a pass."""
    rate, batch, inner = 3.0 / smooth, 16, n // 32
    yield "svrg b=16 step=3", m.SVRG(learning_rate=rate, batch=batch, inner=inner), None
    yield "sarah b=16 step=3", m.SARAH(learning_rate=rate, batch=batch, inner=inner), None
    yield "saga b=16 step=3", m.SAGA(learning_rate=rate, batch=batch), None
    yield "sgd b=16 step=0.3", m.SGD(0.3 / smooth, momentum=None), rv.sampling.MiniBatch(size=batch)
    yield "lbfgs", m.LBFGS(), None
    yield "bb", m.BarzilaiBorwein(), None
    yield "gauss-newton", m.GaussNewton(), None


def measure(objective, method, sampler, passes: float, seconds: float) -> dict:
    n = sum(objective.sizes.values())
    run = rv.minimize(
        objective,
        {"w": np.zeros(WIDTH)},
        method,
        sampler=sampler,
        target={"grad_norm": TARGET},
        budget=rv.Budget(evaluations=3 * passes, seconds=seconds),
        every=max(1, n // (8 * getattr(method, "batch", 16))),
    )
    work = [evaluations({k.removeprefix("counts."): v for k, v in r.items() if k.startswith("counts.")}, n) / 3
            for r in run.rows]  # fmt: skip
    norms = [r["grad_norm"] for r in run.rows]
    reached = {
        f"{level:.0e}": next((round(w, 2) for w, g in zip(work, norms, strict=True) if g <= level), None)
        for level in (1e-2, 1e-4, 1e-6, 1e-8)
    }
    return {
        "status": run.status,
        "passes_to": reached,
        "passes": round(work[-1], 2),
        "grad_norm": float(f"{norms[-1]:.3g}"),
        "steps": run.steps,
        "seconds": round(run.seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--passes", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--sets", nargs="+", default=["regression", "logistic", "ill"])
    parser.add_argument("--methods", nargs="+", help="first words of the labels")
    arguments = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    versions = {"python": platform.python_version(), "jax": jax.__version__, "ravine": rv.__version__}
    print(json.dumps(versions | {"commit": commit, "arguments": vars(arguments)}), flush=True)
    for name in arguments.sets:
        objective, smooth = data(name, arguments.rows)
        for label, method, sampler in configurations(smooth, arguments.rows):
            if arguments.methods and label.split()[0] not in arguments.methods:
                continue
            found = measure(objective, method, sampler, arguments.passes, arguments.seconds)
            print(json.dumps({"data": name, "method": label, **found}), flush=True)


if __name__ == "__main__":
    main()
