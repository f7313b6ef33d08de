"""Error against CPU seconds: one process per configuration, one pinned core, one thread, medians over seeds.

    python benchmarks/accuracy.py run [--only NAME,..] [--seeds 5] [--core 0]     # adds to results/accuracy.jsonl
    python benchmarks/accuracy.py table                                           # prints the medians as Markdown

A configuration is a row of CASES. Every run is a process of its own: compilation is apart, and seconds are steady
process CPU seconds, so that a neighbour on the machine slows nothing but the wall clock. Results already present
for the same case, seed and commit are not run again. A run that died is a row without errors, never left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from ravine.bench.curves import Curve, reached

RESULTS = Path(__file__).parent / "results" / "accuracy.jsonl"
TARGETS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)

P1A = {"problem": "Poisson2D", "options": {"hard": False}, "model": {"width": 32, "depth": 1}}
P1B = {
    "problem": "Poisson2D",
    "options": {"hard": False, "n_pde": 2500, "n_boundary": 400},
    "model": {"width": 20, "depth": 3},
}
CASES: dict[str, dict] = {
    # name: what is solved, by what, for how long, and the times at which the error is read
    "lm-poisson2d": {"problem": "Poisson2D", "method": "lm", "seconds": 30, "at": (5, 10, 20, 30)},
    "lm-burgers1d": {"problem": "Burgers1D", "method": "lm", "seconds": 60, "at": (10, 20, 30, 60)},
    "lm-allencahn1d": {"problem": "AllenCahn1D", "method": "lm", "seconds": 60, "at": (10, 20, 30, 60)},
    "lm-poisson5d": {"problem": "Poisson5D", "method": "lm", "seconds": 30, "at": (10, 20, 30)},
    "lm-convection1d": {"problem": "Convection1D", "method": "lm", "seconds": 30, "at": (10, 20, 30)},
    "lm-p1a": {**P1A, "method": "lm", "seconds": 6, "at": (1.5, 5)},
    "ssbroyden-p1a": {**P1A, "method": "ssbroyden", "seconds": 13, "at": (3, 12)},
    "ssbroyden-p1b": {**P1B, "method": "ssbroyden", "seconds": 20, "at": (10, 20)},
    "lbfgs-p1a": {**P1A, "method": "lbfgs", "seconds": 10, "at": (5, 10)},
    "lm-p1b": {**P1B, "method": "lm", "seconds": 20, "at": (10, 20)},
    # held out: nothing in ravine was tuned on these
    "lm-inverse": {"problem": "InverseBurgers1D", "method": "lm", "seconds": 20, "at": (10, 20)},
    "lm-deepritz": {"problem": "DeepRitz2D", "method": "lm", "seconds": 10, "at": (5, 10)},
    "engd-deepritz": {"problem": "DeepRitz2D", "method": "engd", "seconds": 10, "at": (5, 10)},
    "lm-burgers001": {
        "problem": "Burgers1D",
        "options": {"viscosity": 0.01},
        "method": "lm",
        "seconds": 30,
        "at": (10, 30),
    },
}


def one(name: str, seed: int) -> dict:
    """Run one configuration in this process."""
    import ravine as rv
    from ravine.driver.allocator import keep_freed_memory

    keep_freed_memory()  # as the command line does
    case = CASES[name]
    problem = getattr(rv.problems, case["problem"])(**case.get("options", {}))
    model = rv.models.MLP(problem.dim_in, problem.dim_out, **case["model"]) if "model" in case else None
    # A budget is wall time, which a busy machine stretches: the run is stopped on its CPU seconds instead.
    run = rv.solve(
        problem,
        model,
        case["method"],
        seed=seed,
        budget=rv.Budget(seconds=4 * case["seconds"]),
        callbacks=(lambda row, _: row["cpu_seconds"] > case["seconds"],),
    )
    curve = [(r["cpu_seconds"], r.get("metrics.l2"), r["loss"], r["step"]) for r in run.rows]
    return {
        "case": name,
        "seed": seed,
        "status": run.status,
        "reason": run.reason,
        "steps": run.steps,
        "cpu_seconds": run.cpu_seconds,
        "compile_seconds": run.compile_seconds,
        "final": {k: v for k, v in run.final.items() if k == "loss" or k.startswith("metrics.")},
        "at": {str(t): _before(curve, t, run.status) for t in case["at"]},
        "to": {f"{t:g}": _reached(curve, t) for t in TARGETS},
        "steps_per_second": run.steps / run.cpu_seconds if run.cpu_seconds else None,
        "q": run.summary["q"],
        "points_moved": run.summary["points_moved"],
        "provenance": run.provenance,
    }


def _before(curve, seconds: float, status: str) -> float | None:
    """The error of the last record at or before `seconds`; None where the run was cut off well before."""
    if status in ("budget", "interrupted", "diverged", "failed") and curve[-1][0] < 0.93 * seconds:
        return None
    found = [e for s, e, _, _ in curve if s <= seconds and e is not None]
    return found[-1] if found else None


def _reached(curve, target: float) -> float | None:
    """First CPU second at which the error is below `target` and stays so at the next two evaluations."""
    scored = [
        (seconds, error if math.isfinite(error) else math.inf) for seconds, error, *_ in curve if error is not None
    ]
    seconds, errors = np.array(scored).reshape(-1, 2).T
    found = reached(Curve(errors, seconds, seconds, seconds, math.inf), target)
    return found if math.isfinite(found) else None


def run(names: list[str], seeds: int, core: int) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    commit = _commit()
    have = {(r["case"], r["seed"]) for r in _rows() if r["provenance"]["commit"] == commit}
    for name in names:
        for seed in range(seeds):
            if (name, seed) in have:
                continue
            env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "one", name, str(seed), str(core)]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                row = _died(name, seed, commit, (done.stderr.strip().splitlines() or ["no message"])[-1])
            else:
                row = json.loads(done.stdout.strip().splitlines()[-1])
            with RESULTS.open("a", encoding="utf8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name} seed {seed}: {row['status']} {row['at']} {row['reason']}", flush=True)


def _died(name: str, seed: int, commit: str, reason: str) -> dict:
    nothing = {"at": {}, "to": {f"{t:g}": None for t in TARGETS}, "steps_per_second": None}
    known = {"case": name, "seed": seed, "status": "failed", "reason": reason, "provenance": {"commit": commit}}
    return known | nothing


def _commit() -> str:
    head = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()


def _rows() -> list[dict]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def table() -> None:
    """Newest result of every (case, seed), as medians with their range."""
    newest = {(r["case"], r["seed"]): r for r in _rows()}
    print("| case | seeds | error at CPU seconds: median (range) | median CPU seconds to target | steps/s | statuses |")
    print("|---|---|---|---|---|---|")
    for name in CASES:
        rows = [r for (case, _), r in sorted(newest.items()) if case == name]
        if not rows:
            continue
        at = "; ".join(f"{t} s: {_spread([r['at'].get(str(t)) for r in rows])}" for t in CASES[name]["at"])
        to = "; ".join(
            f"{t:g}: {_median_or_never([r['to'][f'{t:g}'] for r in rows])}" for t in TARGETS if any_reached(rows, t)
        )
        rates = [r["steps_per_second"] for r in rows if r["steps_per_second"]]
        rate = statistics.median(rates) if rates else math.nan
        statuses = ", ".join(sorted({r["status"] for r in rows}))
        print(f"| {name} | {len(rows)} | {at} | {to} | {rate:.1f} | {statuses} |")


def any_reached(rows: list[dict], target: float) -> bool:
    return any(r["to"][f"{target:g}"] is not None for r in rows)


def _spread(values: list[float | None]) -> str:
    known = [math.inf if v is None else v for v in values]
    return f"{statistics.median(known):.1e} ({min(known):.1e} to {max(known):.1e})"


def _median_or_never(values: list[float | None]) -> str:
    known = [math.inf if v is None else v for v in values]
    middle, missed = statistics.median(known), sum(math.isinf(v) for v in known)
    shown = "never" if math.isinf(middle) else f"{middle:.2f}"
    return shown + (f" ({missed} of {len(known)} never)" if missed else "")


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        name, seed, core = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        print(json.dumps(one(name, seed)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--only", default=",".join(CASES), help="comma-separated case names")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--core", type=int, default=0)
    given = parser.parse_args()
    names = given.only.split(",")
    unknown = [n for n in names if n not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; choose from {', '.join(CASES)}")
    table() if given.action == "table" else run(names, given.seeds, given.core)


if __name__ == "__main__":
    main()
