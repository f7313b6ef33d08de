"""What a step of SOAP costs against one of Adam: Burgers' equation, network 4 x 256, its default points.

    python benchmarks/soap_step.py [--steps 20] [--repeats 5] [--dtypes float64,float32]

One JSON line per precision, printed and appended to results/soap_step.jsonl: milliseconds of process CPU time per step
in one device call of the driver's loop, compilation apart, from the same parameters:

    adam     Adam(); its value and gradient are nearly all of its step
    soap     SOAP(), whose bases are refreshed every 10 steps; `steps` is a multiple of that
    between  SOAP with bases that are never refreshed: what a step costs between two refreshes
    shampoo  Shampoo(), whose roots are made anew at every step

The four are sampled in turn, so that a busy machine slows all of them; `NAME_ratio` is the median over the rounds of
the ratio to Adam within a round. The goal is soap_ratio ≤ 2. For numbers that can be compared, pin it to one core:

    OPENBLAS_NUM_THREADS=1 taskset -c 1 python benchmarks/soap_step.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

# Read when JAX starts: without it a step is spread over threads whose waiting counts as CPU time.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

import ravine
from ravine.driver.engine import Engine, Limits, fresh_streaks
from ravine.driver.precision import cast, floats_to_arrays
from ravine.methods import SOAP, Adam, Shampoo
from ravine.models import MLP
from ravine.problems import Burgers1D

DEPTH, WIDTH = 4, 256
GOAL = 2.0
NEVER = 2**30
RESULTS = Path(__file__).parent / "results" / "soap_step.jsonl"
METHODS = {"adam": Adam(), "soap": SOAP(), "between": SOAP(frequency=NEVER), "shampoo": Shampoo()}


def driven(objective, params, method, dtype: str, steps: int) -> Callable[[], None]:
    """`steps` steps as one device call of the driver, no stop test met."""
    key = jax.random.key(0)
    engine = Engine(objective, floats_to_arrays(method, dtype))
    state = engine.start(params, key)
    never = Limits(*(jnp.asarray(x, dtype) for x in (-jnp.inf, -jnp.inf, 0.0)))

    def run() -> None:
        flight = engine.advance(params, state, fresh_streaks(), never, key, 0, steps)
        assert int(flight.k) == steps, "a stop test ended the run early"
        assert np.isfinite(float(flight.last.value)), "the run diverged"

    return run


def milliseconds(run: Callable[[], None], steps: int) -> float:
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start) / steps


def measure(dtype: str, steps: int, repeats: int) -> dict:
    with ravine.precision(dtype):
        problem, model = Burgers1D(), MLP(2, 1, width=WIDTH, depth=DEPTH)
        objective = cast(problem.objective(model, problem.sample(0)), dtype)
        params = cast(problem.init(model, 0), dtype)
        runs = {name: driven(objective, params, method, dtype, steps) for name, method in METHODS.items()}
        for run in runs.values():
            run()  # compiles
        rounds = [{name: milliseconds(run, steps) for name, run in runs.items()} for _ in range(repeats)]
    result = {name: statistics.median(r[name] for r in rounds) for name in runs}
    result |= {
        f"{name}_ratio": statistics.median(r[name] / r["adam"] for r in rounds) for name in runs if name != "adam"
    }
    sizes = {"N": sum(t.n for t in objective.parts.values()), "P": sum(np.size(p) for p in jax.tree.leaves(params))}
    return {**sizes, "steps": steps, "repeats": repeats, **result, "goal_met": result["soap_ratio"] <= GOAL}


def commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="steps in one sample, a multiple of 10")
    parser.add_argument("--repeats", type=int, default=5, help="rounds per median")
    parser.add_argument("--dtypes", default="float64,float32", help="precisions, separated by commas")
    options = parser.parse_args()
    if options.steps < 10 or options.steps % 10:
        parser.error(f"--steps {options.steps}: must be a multiple of 10, the number of steps between two refreshes.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {
        "machine": f"{platform.machine()} {platform.system()}",
        "device": jax.devices()[0].device_kind,
        "cores": cores,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "commit": commit(),
    }
    for dtype in options.dtypes.split(","):
        result = measure(dtype, options.steps, options.repeats)
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in result.items()}
        problem = {"problem": "burgers1d", "network": f"{DEPTH} x {WIDTH}", "dtype": dtype}
        line = json.dumps({**problem, **rounded, "unit": "ms of process CPU time per step", **machine})
        print(line, flush=True)
        with RESULTS.open("a", encoding="utf8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
