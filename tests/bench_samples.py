"""Synthetic methods with prescribed error curves, as run folders in the format of the driver: never results.

Every method has three seeds; `pace` stretches the clock of all of them.

    fast       10^-i at second i, i = 0..6
    slow       10^-i at second 10 i
    failing    like fast to 1e-3, then its process is killed: status failed
    diverging  1, .1, .01, .001 at seconds 0..3, .001 at 4 and 5, infinite at 6, which is what it returns
    lucky      seed 0: 10^-i at second i/2; other seeds: 0.5 for ever
"""

import json
import math

from ravine.bench.results import Result
from ravine.records import dumps, write_rows

POWERS = [float(f"1e-{i}") for i in range(7)]  # 1.0, 0.1, ..., 1e-06
DIVERGING = [1.0, 0.1, 0.01, 0.001, 0.001, 0.001, math.inf]
METHODS = ("fast", "slow", "failing", "diverging", "lucky")
PROVENANCE = {
    "ravine": "0.1.0", "python": "3.12", "jax": "0.10.2", "platform": "Linux x86_64", "cpu": "a processor", "cores": 1,
    "device": "cpu: cpu", "devices": 1, "dtype": "float64", "commit": "abc", "date": "2026-01-01T00:00:00+00:00",
}  # fmt: skip


def prescribed(method, seed):
    """(seconds, errors, status)"""
    seconds = [float(i) for i in range(7)]
    if method == "fast":
        return seconds, POWERS, "budget"
    if method == "slow":
        return [10 * s for s in seconds], POWERS, "budget"
    if method == "failing":
        return seconds[:6], [*POWERS[:4], 0.001, 0.001], "failed"
    if method == "diverging":
        return seconds, DIVERGING, "diverged"
    return ([s / 2 for s in seconds], POWERS, "budget") if seed == 0 else (seconds, [0.5] * 7, "budget")


def rows_of(seconds, errors, closing=True):
    """Rows of the driver: one evaluation each, 3 units of work a step, the last one closing."""
    rows = [
        {"step": i, "seconds": s, "loss": 1.0, "metrics.l2": e, "status": "ok", "counts.residual": i, "counts.vjp": i}
        for i, (s, e) in enumerate(zip(seconds, errors, strict=True))
    ]
    if closing:
        rows[-1]["status"] = "closing"
    return rows


def write(folder, lines, **entries):
    """A run folder with these rows; `entries` replace those of run.json, an ellipsis leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    task = {
        "problem": entries.get("problem", "poisson2d"), "method": entries.get("method", "lm"),
        "seed": entries.get("seed", 0), "budget": "60s",
        "target": None, "sampler": None, "problem_options": {}, "model_options": {}, "settings": {},
    }  # fmt: skip
    meta = {
        "format": 1, "problem": task["problem"], "method": task["method"], "seed": task["seed"], "task": task,
        "status": "budget", "reason": "Synthetic.", "main_metric": "l2", "rows": 100, "steps": len(lines) - 1,
        "seconds": lines[-1]["seconds"], "compile_seconds": 5.0, "wall_seconds": 1000.0,
        "budget": {"seconds": 60.0}, "target": None, "reference_error": None, "provenance": PROVENANCE,
    } | entries  # fmt: skip
    write_rows(folder / "rows.jsonl", lines)
    (folder / "run.json").write_text(dumps({k: v for k, v in meta.items() if v is not ...}))
    return folder


def record(tmp_path, method, seed, problem="poisson2d", pace=1.0, **entries):
    """The record of one synthetic run, through its folder. Tasks take registered names only: it is relabelled."""
    from ravine.bench.record import record_of

    seconds, errors, status = prescribed(method, seed)
    rows = rows_of([pace * s for s in seconds], errors, closing=status != "failed")
    folder = write(tmp_path / f"{problem}-{method}-{seed}", rows, problem=problem, seed=seed, status=status, **entries)
    made = record_of(folder)
    assert json.loads(dumps(made))["format"] == 1
    return made | {"rival": method}


def results(tmp_path, problems=None, seeds=(0, 1, 2), methods=METHODS, **entries):
    """Results of the synthetic methods; `problems` maps a problem to the pace of its clock."""
    from ravine.bench.record import result_of

    return [
        result_of(record(tmp_path, m, s, p, pace, **entries))
        for p, pace in (problems or {"poisson2d": 1.0}).items()
        for m in methods
        for s in seeds
    ]


def result(problem, method, seed, final, times=None, status="budget", **more):
    """A result with times in seconds to given targets."""
    times = {} if times is None else times
    return Result(problem, method, seed, status, final, {a: dict(times) for a in ("seconds", "total", "work")}, **more)
