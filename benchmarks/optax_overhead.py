"""What the driver adds to an Optax transformation: its compiled loop against a bare `jax.lax.scan` of the same steps.

    python benchmarks/optax_overhead.py [--repeats 15] [--seconds 1.0]

One JSON line per network, printed and appended to results/optax_overhead.jsonl: milliseconds of process CPU time per
step, compilation apart. Every loop takes the same number of Adam steps (learning rate 1e-3) on the soft Poisson
problem with its default points, from the same parameters:

    bare     jax.lax.scan of jax.value_and_grad(objective.value), optax update and apply_updates; nothing else
    adapter  one device call of the driver (`Engine.advance`) through `Optax(optax.adam(1e-3))`
    preset   likewise through `Adam()`

The three are sampled in turn, so that a busy machine slows all of them; `adapter_ratio` and `preset_ratio` are medians
over the rounds of the ratio within a round. `agree` is the largest relative difference of the final losses from the
bare one's. For numbers that can be compared, pin it to one core:

    OPENBLAS_NUM_THREADS=1 taskset -c 1 python benchmarks/optax_overhead.py
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

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax

from ravine.driver.engine import Engine, Limits, fresh_streaks
from ravine.driver.precision import cast, floats_to_arrays
from ravine.methods import Adam, Optax
from ravine.models import MLP
from ravine.problems import Poisson2D

jax.config.update("jax_enable_x64", True)

NETWORKS = {"2-32-1": (1, 32), "4 x 64": (4, 64)}  # hidden layers, width
RESULTS = Path(__file__).parent / "results" / "optax_overhead.jsonl"
KEY = jax.random.key(0)


def setting(depth: int, width: int):
    """The objective on the device and the initial parameters, as the driver hands them to a method."""
    problem, model = Poisson2D(), MLP(2, 1, width=width, depth=depth)
    objective = problem.objective(model, problem.sample(0))
    return cast(objective, "float64"), cast(problem.init(model, 0), "float64")


def bare(objective, params, steps: int) -> Callable[[], float]:
    """The loop a user would write: the loss entering the last step."""
    transform = optax.adam(1e-3)
    arrays, static = eqx.partition(objective, eqx.is_array)

    @jax.jit
    def run(arrays, params, state):
        whole = eqx.combine(arrays, static)

        def one(carry, _):
            params, state = carry
            value, grad = jax.value_and_grad(whole.value)(params)
            move, state = transform.update(grad, state, params)
            return (optax.apply_updates(params, move), state), value

        return jax.lax.scan(one, (params, state), length=steps)

    state = transform.init(params)
    return lambda: float(jax.block_until_ready(run(arrays, params, state))[1][-1])


def driven(objective, params, method, steps: int) -> Callable[[], float]:
    """The same steps as one device call of the driver, no stop test met."""
    engine = Engine(objective, floats_to_arrays(method, "float64"))
    state = engine.start(params, KEY)
    never = Limits(*(jnp.asarray(x) for x in (-jnp.inf, -jnp.inf, 0.0)))

    def run() -> float:
        flight = engine.advance(params, state, fresh_streaks(), never, KEY, 0, steps)
        assert int(flight.k) == steps, "a stop test ended the run early"
        return float(flight.last.value)

    return run


def milliseconds(run: Callable[[], float], steps: int) -> float:
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start) / steps


def measure(depth: int, width: int, repeats: int, seconds: float) -> dict:
    objective, params = setting(depth, width)
    trial = bare(objective, params, 20)
    trial()
    steps = max(20, int(1e3 * seconds / min(milliseconds(trial, 20) for _ in range(3))))
    loops = {
        "bare": bare(objective, params, steps),
        "adapter": driven(objective, params, Optax(optax.adam(1e-3)), steps),
        "preset": driven(objective, params, Adam(), steps),
    }
    losses = {name: run() for name, run in loops.items()}  # compiles
    rounds = [{name: milliseconds(run, steps) for name, run in loops.items()} for _ in range(repeats)]
    result = {name: statistics.median(r[name] for r in rounds) for name in loops}
    for name in ("adapter", "preset"):
        result[f"{name}_ratio"] = statistics.median(r[name] / r["bare"] for r in rounds)
    result["agree"] = max(abs(losses[n] / losses["bare"] - 1) for n in ("adapter", "preset"))
    sizes = {"N": sum(t.n for t in objective.parts.values()), "P": sum(np.size(p) for p in jax.tree.leaves(params))}
    return {**sizes, "steps": steps, "repeats": repeats, **result}


def commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="rounds per median")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one sample")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {
        "machine": f"{platform.machine()} {platform.system()}",
        "device": jax.devices()[0].device_kind,
        "cores": cores,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "optax": optax.__version__,
        "commit": commit(),
    }
    for name, (depth, width) in NETWORKS.items():
        result = measure(depth, width, options.repeats, options.seconds)
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in result.items()}
        line = json.dumps({"network": name, **rounded, "unit": "ms of process CPU time per step", **machine})
        print(line, flush=True)
        with RESULTS.open("a", encoding="utf8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
