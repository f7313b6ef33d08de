"""Small run folders in the format the report reads, with invented curves: material for its tests, never results."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

# method: (final error, decay per step, counts a step, own scalars)
CURVES = {
    "adam": (2e-3, 0.012, {"residual": 1, "vjp": 1}, ("learning_rate",)),
    "lbfgs": (6e-5, 0.03, {"residual": 2, "vjp": 1}, ("step_size", "trials")),
    "ssbroyden": (3e-7, 0.05, {"residual": 1, "vjp": 1}, ("step_size", "tau")),
    "lm": (1.3e-11, 0.35, {"residual": 2, "jvp": 1, "rows": 1020, "solves": 1}, ("damping", "rho", "trials")),
}
PROVENANCE = {
    "python": "3.11.2", "jax": "0.10.2", "jaxlib": "0.10.2", "numpy": "2.4.6", "scipy": "1.17.0", "equinox": "0.13.8",
    "optax": "0.2.8", "platform": "Linux-6.1-x86_64", "device": "cpu", "dtype": "float64", "threads": 1,
    "commit": "d514f3f",
}  # fmt: skip


def jsonable(value: float | None) -> float | str | None:
    """Non-finite numbers as the strings of the format."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def rows_of(method: str, seed: int, steps: int, energy: bool = False) -> list[dict]:
    """Rows at every step to 100, then every fiftieth: a decay with noise that depends on the seed alone."""
    noise = np.random.default_rng(seed)
    parts = [m.split(":")[0] for m in method.split("+")]
    counts = dict.fromkeys(("residual", "jvp", "vjp", "rows", "hvp", "solves"), 0)
    rows, level, seconds = [], 0.0, 0.0
    for step in range(steps + 1):
        stage = int(len(parts) > 1 and step >= steps // 2)
        floor, rate, cost, scalars = CURVES[parts[stage]]
        if step <= 100 or step % 50 == 0 or step == steps:
            error = floor + math.exp(-level) * math.exp(0.2 * noise.normal())
            loss = error**2 - (2.5 if energy else 0.0)
            row = {
                "step": step,
                "seconds": seconds,
                "cpu_seconds": 1.02 * seconds,
                "stage": stage,
                "method": parts[stage],
            }
            row |= {"loss": loss, "grad_norm": 3 * error * math.exp(0.5 * noise.normal()), "step_norm": 0.1 * error}
            row |= {"status": "ok", **{f"counts.{k}": v for k, v in counts.items()}}
            row |= {"terms.interior": 0.9 * error**2, "terms.boundary": 0.1 * error**2}
            row |= {"metrics.l2": error, "metrics.linf": 2.1 * error if step % 10 == 0 else None}
            for name in scalars:
                span = {"damping": 1e-3 * error, "trials": 1.0 + (step % 7 == 0), "learning_rate": 1e-3}
                row[f"scalars.{name}"] = span.get(name, abs(1 + 0.3 * noise.normal()))
            rows.append(row)
        for name, count in cost.items():
            counts[name] += count
        level += rate * 100 / (100 + 0.1 * step)
        seconds += 0.002 if parts[stage] != "lm" else 0.03
    return rows


def write_run(
    folder: Path,
    *,
    problem: str | None = "poisson2d",
    method: str = "lm",
    seed: int = 0,
    steps: int = 60,
    status: str = "budget",
    reason: str = "The budget of 2 s is spent at step 60; the loss still falls by 3 % a step.",
    suggestion: str = "Give it more time, or start from a wider network.",
    fields: bool = True,
    energy: bool = False,
    spoil: int | None = None,
    **changes,
) -> Path:
    """A run folder. `spoil`: from this row on, loss and error are NaN and the gradient infinite; `changes` replace
    entries of run.json."""
    folder.mkdir(parents=True)
    rows = rows_of(method, seed, steps, energy)
    for row in rows[spoil:] if spoil is not None else []:
        row |= {"loss": math.nan, "metrics.l2": math.nan, "grad_norm": math.inf, "status": "nonfinite"}
    if status not in ("running", "failed"):
        rows[-1]["status"] = "closing"
    last = rows[-1]
    final = {k: jsonable(v) for k, v in last.items() if k in ("loss", "grad_norm") or k.startswith("metrics.")}
    meta = {
        "format": 1, "ravine": "0.1.0", "name": folder.name, "problem": problem, "method": method, "seed": seed,
        "model": "MLP(2-32-1, tanh)", "status": status, "reason": reason, "suggestion": suggestion, "steps": steps,
        "seconds": last["seconds"], "cpu_seconds": last["cpu_seconds"], "compile_seconds": 3.214,
        "wall_seconds": last["seconds"] + 5.1,
        "counts": {k.removeprefix("counts."): v for k, v in last.items() if k.startswith("counts.")},
        "final": final, "main_metric": "l2", "parameters": 129, "rows": 1020, "target": {"l2": 1e-9},
        "budget": {"seconds": 2.0}, "imposes": ["boundary"], "reference_error": None,
        "command": f"ravine solve {problem} --method {method} --seed {seed} --budget 2s",
        "configuration": {"method": {"name": method, "damping": 1e-3}, "model": {"width": 32}},
        "provenance": PROVENANCE | {"date": f"2026-03-0{1 + seed % 9}T10:00:00Z"},
    } | changes  # fmt: skip
    (folder / "run.json").write_text(json.dumps(meta, indent=1, allow_nan=False))
    lines = (json.dumps({k: jsonable(v) if isinstance(v, float) else v for k, v in r.items()}) for r in rows)
    (folder / "rows.jsonl").write_text("".join(line + "\n" for line in lines))
    if fields:
        write_fields(folder / "fields.npz", error=last["metrics.l2"] if spoil is None else 0.5, seed=seed)
    return folder


def write_fields(path: Path, error: float, seed: int, n: int = 33) -> None:
    x, y = np.linspace(0, 1, n), np.linspace(0, 2, n + 4)
    reference = np.outer(np.sin(np.pi * x), np.sin(np.pi * y))
    bump = np.outer(np.sin((3 + seed) * np.pi * x), np.cos(2 * np.pi * y))
    np.savez(
        path, axis0=x, axis1=y, reference=reference, prediction=reference + error * bump,
        labels=np.array(["x", "t"]), names=np.array(["u"]),
    )  # fmt: skip


def write_comparison(
    folder: Path, problems=("poisson2d", "burgers1d"), methods=("adam", "lbfgs", "ssbroyden", "lm"), seeds=3, scale=1.0
) -> Path:
    """A comparison folder in which runs end in several ways, one diverges, one failed at once and one is missing."""
    steps = {"adam": 1500, "lbfgs": 800, "ssbroyden": 900, "lm": 80}
    runs = []
    for problem in problems:
        for method in methods:
            for seed in range(seeds):
                name = f"{problem}-{method.replace(':', '').replace('+', '-')}-{seed}"
                runs.append(name)
                n = max(4, int(scale * steps.get(method, 600)))
                write_run(folder / name, problem=problem, method=method, seed=seed, steps=n, **_ending(method, seed, n))
    runs.append(f"{problems[0]}-{methods[0]}-lost")
    meta = {
        "format": 1,
        "command": f"ravine compare {','.join(problems)} --methods {','.join(methods)} --seeds {seeds}",
    }
    meta |= {"problems": list(problems), "methods": list(methods), "seeds": list(range(seeds)), "runs": runs}
    (folder / "compare.json").write_text(json.dumps(meta | {"provenance": PROVENANCE}))
    return folder


def _ending(method: str, seed: int, n: int) -> dict:
    if method == "lm":
        reason = "The relative L² error is 1.3e-11, below the target of 1e-9, after 2.4 s."
        return {"status": "reached_target", "reason": reason, "suggestion": ""}
    if method == "adam" and seed == 2:
        reason = f"The loss is not finite from step {n // 2} on; the last finite one was 4.1e-2."
        return {
            "status": "diverged",
            "reason": reason,
            "suggestion": "Lower the learning rate: adam(1e-4).",
            "spoil": 40,
        }
    if method == "lbfgs" and seed == 2:
        reason = "The loss is not finite at the start: the first row of `interior` is NaN."
        return {
            "status": "failed",
            "reason": reason,
            "suggestion": "Check the residual at the first point.",
            "spoil": 0,
        }
    if method == "ssbroyden" and seed == 1:
        reason = "20 steps in a row were rejected at loss 9.2e-14: rounding of the loss has been reached."
        return {"status": "stalled", "reason": reason, "suggestion": "Continue with lm, which works on the residual."}
    return {}
