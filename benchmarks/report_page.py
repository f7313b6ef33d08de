"""How long the report of 1,000 runs takes to write and to show, and how large it is.

    python benchmarks/report_page.py [--keep FOLDER]      # prints one JSON line; appended to results/report_page.jsonl

The runs are invented: 10 problems, 20 methods, 5 seeds, 220 rows a run, a field of 41 x 41 values each. Headless Chromium
opens the file three times with an empty profile each; reported is the median of

    first paint    the browser's first-contentful-paint, from the start of navigation
    ready          the controls answer: the selected problem is unpacked and the figures on the screen are drawn
    switch         choosing another problem in the selector until its figures on the screen are drawn

in wall seconds on whatever else the machine does; run it on an idle one. Needs a Chromium on PATH.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from plotly.offline import get_plotlyjs

from ravine.driver.source import commit
from ravine.records import dumps, write_rows
from ravine.report import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

PROBLEMS, METHODS, SEEDS, ROWS, SIDE = 10, 20, 5, 220, 41
PROVENANCE = {"ravine": "0.1.0", "python": "3.12", "jax": "0.10.2", "platform": "Linux x86_64", "cpu": "a processor"}
PROVENANCE |= {"cores": 1, "device": "cpu", "devices": 1, "dtype": "float64", "commit": "invented"}


def invented_rows(rng: np.random.Generator, method: int, steps: np.ndarray) -> list[dict]:
    """A noisy decay whose rate and cost depend on the method."""
    error = 1e-9 + 10.0 ** (-0.25 * method * np.log10(1 + steps)) * np.exp(0.2 * rng.normal(size=steps.size))
    noise = np.exp(0.4 * rng.normal(size=(4, steps.size)))
    seconds = steps * (1 + method) * 1e-3
    closing = ["ok"] * (steps.size - 1) + ["closing"]
    return [
        {
            "step": int(n), "seconds": s, "cpu_seconds": 1.02 * s, "stage": 0, "method": f"method{method}",
            "loss": e * e, "grad_norm": 3 * e * a, "step_norm": 0.1 * e * b, "status": word,
            "counts.residual": int(n), "counts.vjp": int(n), "terms.interior": 0.9 * e * e, "terms.boundary": 0.1 * e * e,
            "metrics.l2": e, "metrics.linf": 2 * e, "scalars.damping": 1e-3 * c, "scalars.trials": d,
        }
        for n, s, e, a, b, c, d, word in zip(steps, seconds, error, *noise, closing, strict=True)
    ]  # fmt: skip


def invent(folder: Path, problem: int, method: int, seed: int) -> None:
    """One run folder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([problem, method, seed])
    steps = np.unique(np.concatenate([np.arange(101), np.geomspace(102, 1200, ROWS - 101).astype(int)]))
    rows = invented_rows(rng, method, steps)
    write_rows(folder / "rows.jsonl", rows)
    last, names = rows[-1], {"problem": f"problem{problem}", "method": f"method{method}", "seed": seed}
    final = {k: v for k, v in last.items() if k in ("loss", "grad_norm") or k.startswith(("terms.", "metrics."))}
    meta = {
        "format": 1, **names, "model": "MLP(2-32-1, tanh)", "status": "budget",
        "reason": f"The budget of 60 s is spent at step {last['step']:,}; the loss still falls by 3 % a step.",
        "suggestion": "Give it more time, or start from a wider network.", "main_metric": "l2", "rows": 1020,
        "parameters": 129, "steps": last["step"], "seconds": last["seconds"], "cpu_seconds": last["cpu_seconds"],
        "compile_seconds": 3.2 + 0.1 * seed, "wall_seconds": last["seconds"] + 5, "budget": {"seconds": 60.0},
        "target": None, "reference_error": None, "imposes": [], "final": final, "provenance": PROVENANCE,
        "configuration": {"method": {"name": names["method"], "damping": 1e-3}, "model": {"width": 32}, "seed": seed},
    }  # fmt: skip
    (folder / "run.json").write_text(dumps(meta))
    x = np.linspace(0, 1, SIDE)
    reference = np.outer(np.sin(np.pi * x), np.sin(2 * np.pi * x))
    prediction = reference + last["metrics.l2"] * np.outer(np.sin((3 + seed) * np.pi * x), np.cos(np.pi * x))
    grids = {"axis0": x, "axis1": x, "reference": reference, "prediction": prediction}
    np.savez(folder / "fields.npz", labels=np.array(["x", "y"]), names=np.array(["u"]), **grids)


def comparison(folder: Path) -> Path:
    """A comparison folder of all runs."""
    runs = []
    for problem in range(PROBLEMS):
        for method in range(METHODS):
            for seed in range(SEEDS):
                runs.append(f"problem{problem}/method{method}-s{seed}")
                invent(folder / runs[-1], problem, method, seed)
    (folder / "compare.json").write_text(dumps({"format": 1, "command": "ravine compare ...", "runs": runs}))
    return folder
