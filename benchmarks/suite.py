"""The suite: every problem x every method at its defaults x 5 seeds, rivals at documented settings x 3, 20 s each.

    python benchmarks/suite.py run [--for 2h] [--cores 0,1]   # what is missing, for at most that long; then as below
    python benchmarks/suite.py report                         # archive, table of results, tables and page from the runs

Run it with the libraries of docs/rivals.md installed; `make suite` installs those that need no PyTorch, and the others
are rows "not installed". Every run has a process of its own on one pinned core, one run at a time on each of the cores
given. Differential equations and methods that see all rows come first, and within that runs are ordered seed by seed,
so that whatever has been run is balanced. They lie in runs/suite; finished ones are packed in benchmarks/suite/ (only
the columns that the report and the statistics read) and unpacked from there, so the suite goes on in another checkout;
the page is made from the archives. A run of an earlier commit counts as done, and its record says which commit made it:
to measure a method again, take its runs out of the archives.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import shlex
import shutil
import signal
import tarfile
import tempfile
import time
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent / "suite"
RUNS = Path("runs") / "suite"
BUDGET, SEEDS, RIVAL_SEEDS = "20s", 5, 3
SAME_AS_ANOTHER = ("optax",)  # `Optax()` is Adam
EQUATIONS = ("poisson2d", "poisson5d", "convection1d", "deepritz2d", "burgers1d", "allencahn1d", "inverseburgers1d")
OWN_CORE = 0.9  # of its seconds a run must have had its core to itself; otherwise it is made again
KEPT = ("step", "seconds", "stage", "method", "loss", "grad_norm", "status")  # and counts.*, metrics.l2 or the like


def tasks(out: Path) -> list:
    """All runs in the order in which they are made: equations first, then seed by seed, problem by problem."""
    from ravine.bench.task import Task, is_rival
    from ravine.cli.folders import slug
    from ravine.registry import entries

    ours = {name: entry.load() for name, entry in entries("methods").items() if name not in SAME_AS_ANOTHER}
    methods = [*ours, *entries("rivals")]
    found = []
    for seed in range(SEEDS):
        for problem in entries("problems"):
            for method in methods:
                if is_rival(method) and seed >= RIVAL_SEEDS:
                    continue
                words = ["ravine", "solve", problem, "--method", method, "--seed", str(seed), "--budget", BUDGET]
                where = out / problem / f"{slug(method)}-s{seed}"
                found.append(Task(problem, method, seed, BUDGET, folder=str(where), command=shlex.join(words)))
    whole = {name for name, cls in ours.items() if not cls().noisy} | set(entries("rivals"))
    return sorted(found, key=lambda task: not (task.problem in EQUATIONS and task.method in whole))


def run(out: Path, seconds: float, workers: int) -> None:
    """Make the missing runs, piece by piece (one problem and seed), until none is missing or the time is spent."""
    from ravine.bench.pool import run_all
    from ravine.cli import compile_cache

    compile_cache.enable()
    found, end = shared_out(out), time.monotonic() + seconds
    for path in found.stale:
        shutil.rmtree(path)
    print(f"{len(found.pending)} of {len(found.tasks)} runs are to be made.", flush=True)
    for (problem, seed), piece in groupby(found.pending, key=lambda task: (task.problem, task.seed)):
        if time.monotonic() > end:
            break
        batch = list(piece)
        print(f"{time.strftime('%H:%M:%S')} {problem} seed {seed}: {len(batch)} runs", flush=True)
        if not run_all(batch, workers, lambda *_: None):
            break
    report(out)


def shared_out(out: Path):
    """The runs that are there, in the archives or in `out`, and those that are not."""
    from ravine.bench.reuse import reuse
    from ravine.cli.compare_command import write_comparison

    out.mkdir(parents=True, exist_ok=True)
    unpack(out)
    every = tasks(out)
    write_comparison(out, [task for task in every if (Path(task.folder) / "run.json").is_file()], "make suite")
    found = reuse(every, out, any_version=True)
    waiting = {task.folder for task in found.pending}
    again = [task for task in found.tasks if task.folder not in waiting and disturbed(Path(task.folder))]
    return found._replace(
        pending=[task for task in found.tasks if task.folder in waiting or task in again],
        stale=[*found.stale, *(Path(task.folder) for task in again)],
    )


def disturbed(folder: Path) -> bool:
    """Whether something else had the core for a part of the run's seconds, which then say little."""
    meta = json.loads((folder / "run.json").read_text(encoding="utf8"))
    cpu, seconds = meta.get("cpu_seconds"), meta.get("seconds")
    return bool(cpu and seconds) and cpu < OWN_CORE * seconds


def report(out: Path) -> None:
    """Pack the finished runs, and write the table of results, the tables of the comparison, and the page."""
    from ravine.bench import table
    from ravine.bench.reuse import entry
    from ravine.cli.compare_command import judge, write_comparison
    from ravine.report import write_report

    found = shared_out(out)
    missing = {task.folder for task in found.pending}
    done = [task for task in found.tasks if task.folder not in missing]
    write_comparison(out, done, "make suite")
    pack(out, done)
    (HERE / "results.jsonl").unlink(missing_ok=True)
    for task in done:
        table.append(HERE / "results.jsonl", entry(out, Path(task.folder)))
    conclusion, why_not = judge(out, done)
    if conclusion is None:
        print(f"no claim: {why_not}")
    else:
        shutil.copytree(out / "tables", HERE / "tables", dirs_exist_ok=True)
    with tempfile.TemporaryDirectory() as clean:  # without the pictures, which only runs of this checkout have
        unpack(Path(clean))
        packed = [dataclasses.replace(t, folder=str(Path(clean) / Path(t.folder).relative_to(out))) for t in done]
        write_comparison(Path(clean), packed, "make suite")
        write_report([clean], HERE / "report.html", title="The suite", command="make suite")
    print(f"{len(done)} of {len(found.tasks)} runs are there; page: {HERE / 'report.html'}")


def archives() -> list[Path]:
    return sorted(HERE.glob("runs-*.tar.xz"), key=lambda path: int(path.name.split("-")[1].split(".")[0]))


def unpack(out: Path) -> None:
    """The runs of the archives that are not in `out`."""
    for archive in archives():
        with tarfile.open(archive) as box:
            new = [member for member in box.getmembers() if not (out / member.name).exists()]
            box.extractall(out, new, filter="data")


def pack(out: Path, done: list) -> None:
    """One more archive, with the runs that none of the others holds."""
    from ravine.bench.json_lines import read_objects
    from ravine.records import dumps

    held = set()
    for archive in archives():
        with tarfile.open(archive) as box:
            held |= {str(Path(name).parent) for name in box.getnames()}
    new = [task for task in done if str(Path(task.folder).relative_to(out)) not in held]
    if not new:
        return
    HERE.mkdir(exist_ok=True)
    with tarfile.open(HERE / f"runs-{len(archives()) + 1}.tar.xz", "w:xz", preset=9) as box:
        for task in new:
            where = Path(task.folder)
            parts = {"run.json": (where / "run.json").read_text(encoding="utf8")}
            if (where / "rows.jsonl").is_file():
                rows = read_objects(where / "rows.jsonl").objects
                parts["rows.jsonl"] = "".join(dumps(slim(row)) + "\n" for row in rows)
            for name, text in parts.items():
                content = text.encode()
                member = tarfile.TarInfo((where.relative_to(out) / name).as_posix())
                member.size = len(content)
                box.addfile(member, io.BytesIO(content))


def slim(row: dict) -> dict:
    """The columns that curves and statistics are made of: the first metric is the main one."""
    metric = next((column for column in row if column.startswith("metrics.")), None)
    return {k: v for k, v in row.items() if k in KEPT or k == metric or k.startswith("counts.")}


def seconds_of(text: str) -> float:
    from ravine.driver.budget import Budget

    return float(Budget.parse(text).seconds)


def cores(text: str) -> set[int]:
    found = {int(word) for word in text.split(",")}
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if not found <= allowed:
        raise argparse.ArgumentTypeError(f"a core of {text} is not among those allowed here: {sorted(allowed)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--out", type=Path, default=RUNS, help=f"folder of the runs (default {RUNS})")
    parser.add_argument("--for", dest="duration", default="1000h", help="begin no piece after this long, such as 2h")
    parser.add_argument("--cores", type=cores, help="such as 0,1; without it, the first core that is allowed")
    request = parser.parse_args()
    if request.command == "report":
        report(request.out)
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit ignoring it
    chosen = request.cores
    if hasattr(os, "sched_setaffinity"):
        chosen = chosen or {min(os.sched_getaffinity(0))}
        os.sched_setaffinity(0, chosen)
    run(request.out, seconds_of(request.duration), len(chosen or {0}))


if __name__ == "__main__":
    main()
