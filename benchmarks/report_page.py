"""How long the report of 1,000 runs takes to write and to show, and how large it is.

    python benchmarks/report_page.py [--seeds 5] [--keep FOLDER]      # prints one JSON line: results/report_page.jsonl

The runs are invented: 10 problems, 20 methods, 5 seeds (18: 3,600 runs, as many as the suite has), 220 rows a run, a
field of 41 x 41 values each. Headless Chromium opens the file three times with an empty profile each; reported is the
median of

    first paint    the browser's first-contentful-paint, from the start of navigation
    ready          the controls answer: the selected problem is unpacked and the figures on the screen are drawn
    ready_cpu      processor seconds of the page's process until then: on a busy machine the better number
    switch         choosing another problem in the selector until its figures on the screen are drawn

in wall seconds; `load` says what else the machine was doing. Writing is measured too, in wall and in processor seconds.
Needs a Chromium on PATH (it is driven by tests/chromium.py).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
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

PROBLEMS, METHODS, ROWS, SIDE = 10, 20, 220, 41
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
            "counts.residual": int(n), "counts.vjp": int(n), "metrics.l2": e,
            "terms.interior": 0.9 * e * e, "terms.boundary": 0.1 * e * e, "metrics.linf": 2 * e,
            "scalars.damping": 1e-3 * c, "scalars.trials": d,
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


def comparison(folder: Path, seeds: int) -> Path:
    """A comparison folder of all runs."""
    runs = []
    for problem in range(PROBLEMS):
        for method in range(METHODS):
            for seed in range(seeds):
                runs.append(f"problem{problem}/method{method}-s{seed}")
                invent(folder / runs[-1], problem, method, seed)
    (folder / "compare.json").write_text(dumps({"format": 1, "command": "ravine compare ...", "runs": runs}))
    return folder


DRAWN = "document.documentElement.dataset.figures === 'drawn'"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
SWITCH = """new Promise((done) => {
  const begun = performance.now();
  const drawn = () => document.documentElement.dataset.figures === "drawn";
  const look = () => (drawn() ? done(performance.now() - begun) : setTimeout(look));
  view.set({ problem: "problem7" });
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(look))); // what came near the screen is known
})"""


def opened(page: Path) -> dict[str, float]:
    """Seconds of one opening in a browser of its own."""
    from chromium import Browser, find

    program = find()
    if program is None:
        raise SystemExit(
            "report_page.py: there is no Chromium on PATH; install one, such as `apt-get install chromium`."
        )
    with tempfile.TemporaryDirectory() as scratch, Browser(program, Path(scratch)) as browser:
        browser.send("Performance.enable")
        browser.open(page.as_uri(), DRAWN)
        spent = {m["name"]: m["value"] for m in browser.send("Performance.getMetrics")["metrics"]}["ProcessTime"]
        paint, ready = browser.run(f"[{PAINT}, performance.getEntriesByName('drawn')[0].startTime]")
        browser.run("document.getElementById('problem-1').scrollIntoView()")
        time.sleep(1)
        browser.wait(DRAWN)
        switch = browser.run(SWITCH)
        if browser.console or browser.outside():
            raise SystemExit(f"report_page.py: the page logged {browser.console} and asked for {browser.outside()}.")
    return {"first_paint": paint / 1e3, "ready": ready / 1e3, "ready_cpu": spent, "switch": switch / 1e3}


def measured(folder: Path) -> dict:
    """Writes the report of the comparison in `folder` and opens it."""
    begun, spent = time.perf_counter(), time.process_time()
    page = write_report([folder], folder / "report.html")
    written = {"write_wall": time.perf_counter() - begun, "write_cpu": time.process_time() - spent}
    text = page.read_bytes()
    size = {"bytes": len(text), "bytes_without_plotly": len(text) - len(get_plotlyjs().encode())}
    times = [opened(page) for _ in range(3)]
    medians = {name: statistics.median(t[name] for t in times) for name in times[0]}
    return size | {"bytes_gzip": len(gzip.compress(text))} | {k: round(v, 3) for k, v in (written | medians).items()}


def browser_version() -> str:
    from chromium import find

    return subprocess.run([find() or "chromium", "--version"], capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder of the invented runs and the page (default: temporary)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each problem and method (default 5)")
    request = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = request.keep or Path(scratch) / "all"
        if not (folder / "compare.json").exists():
            comparison(folder, request.seeds)
        runs = len(json.loads((folder / "compare.json").read_text(encoding="utf8"))["runs"])
        found = measured(folder)
    about = {"runs": runs, "rows": ROWS, **found, "unit": "seconds, bytes"}
    about |= {"machine": f"{platform.machine()} {platform.system()}", "cores": os.cpu_count()}
    about |= {"load": round(os.getloadavg()[0], 1), "browser": browser_version(), "python": platform.python_version()}
    about |= {"plotly": version("plotly"), "numpy": version("numpy"), "commit": commit()}
    print(json.dumps(about), flush=True)


if __name__ == "__main__":
    main()
