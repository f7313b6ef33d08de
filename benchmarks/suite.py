"""The suite: every problem x every method at its defaults x 5 seeds, rivals at documented settings x 3, 20 s each.

    python benchmarks/suite.py run [--for 2h] [--cores 0,1]   # what is missing, for at most that long; then as below
    python benchmarks/suite.py report                         # archive, table of results, tables and page from the runs

Run it with the libraries of docs/rivals.md installed; `make suite` installs those that need no PyTorch, and the others
are left out. Every run has a process of its own on one pinned core, one run at a time on each of the cores
given. Differential equations and methods that see all rows come first, and within that runs are ordered seed by seed.
Tables and page are of these runs until all the others are there: methods can only be compared where each of them has
run. Runs lie in runs/suite; finished ones are packed in benchmarks/suite/ (only the columns that the report and the
statistics read) and unpacked from there, so the suite goes on in another checkout; the page is made from the archives.
A run of an earlier commit counts as done, and its record says which commit made it. To measure methods again:

    python benchmarks/suite.py forget jaxopt/lm jno/ssbroyden     # takes their runs out of runs/suite and the archives
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import lzma
import os
import shlex
import shutil
import signal
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent / "suite"
RUNS = Path("runs") / "suite"
BUDGET, SEEDS, RIVAL_SEEDS = "20s", 5, 3
SAME_AS_ANOTHER = ("optax",)  # `Optax()` is Adam
EQUATIONS = ("poisson2d", "poisson5d", "convection1d", "deepritz2d", "burgers1d", "allencahn1d", "inverseburgers1d")
ENOUGH = 8  # runs a core in a piece, at least
OWN_CORE = 0.9  # of its seconds a run must have had its core to itself; otherwise it is made again
BLINK = 0.02  # seconds without the core that every run may have had: one of milliseconds would be made again for ever
KEPT = ("step", "seconds", "stage", "method", "loss", "grad_norm", "status")  # and counts.*, metrics.l2 or the like


def tasks(out: Path) -> list:
    """All runs in the order in which they are made: equations first, then seed by seed, problem by problem."""
    from ravine.bench.task import Task, is_rival
    from ravine.cli.folders import slug
    from ravine.registry import entries

    ours = {name: entry.load() for name, entry in entries("methods").items() if name not in SAME_AS_ANOTHER}
    methods = [*ours, *entries("rivals")]
    made = []
    for seed in range(SEEDS):
        for problem in entries("problems"):
            for method in methods:
                if is_rival(method) and seed >= RIVAL_SEEDS:
                    continue
                words = ["ravine", "solve", problem, "--method", method, "--seed", str(seed), "--budget", BUDGET]
                where = out / problem / f"{slug(method)}-s{seed}"
                made.append(Task(problem, method, seed, BUDGET, folder=str(where), command=shlex.join(words)))
    return sorted(made, key=lambda task: not is_first(task))


@functools.cache
def noisy() -> frozenset[str]:
    """The methods that work on batches of rows."""
    from ravine.registry import entries

    return frozenset(name for name, entry in entries("methods").items() if entry.load()().noisy)


def is_first(task) -> bool:
    """Whether the run is of a differential equation and a method that sees all rows."""
    return task.problem in EQUATIONS and task.method not in noisy()


def run(out: Path, seconds: float, workers: int) -> None:
    """Make the missing runs, piece by piece (one problem and seed), until none is missing or the time is spent."""
    from ravine.bench.pool import run_all
    from ravine.cli import compile_cache
    from ravine.cli.compare_command import in_turns

    compile_cache.enable()
    found, end = shared_out(out), time.monotonic() + seconds
    for path in found.stale:
        shutil.rmtree(path)
    print(f"{len(found.pending)} of {len(found.tasks)} runs are to be made.", flush=True)
    for batch in pieces(found.pending, ENOUGH * workers):
        if time.monotonic() > end:
            break
        first, last = batch[0], batch[-1]
        names = " to ".join(dict.fromkeys(f"{task.problem} seed {task.seed}" for task in (first, last)))
        print(f"{time.strftime('%H:%M:%S')} {names}: {len(batch)} runs", flush=True)
        if not run_all(in_turns(batch), workers, lambda *_: None):
            break
    report(out)


def pieces(pending: list, least: int) -> Iterator[list]:
    """The tasks problem by problem and seed by seed, joined to at least so many: no core is to wait for the last run
    of a piece of one."""
    joined: list = []
    for _, piece in groupby(pending, key=lambda task: (task.problem, task.seed)):
        joined += piece
        if len(joined) >= least:
            yield joined
            joined = []
    if joined:
        yield joined


def shared_out(out: Path):
    """The runs that are there, in the archives or in `out`, and those that are not."""
    from ravine.bench.reuse import reuse
    from ravine.cli.compare_command import write_comparison

    out.mkdir(parents=True, exist_ok=True)
    unpack(out)
    every = tasks(out)
    write_comparison(out, [at(path.parent) for path in sorted(out.glob("*/*/run.json"))], "make suite")
    found = reuse(every, out, any_version=True)
    waiting = {task.folder for task in found.pending}
    again = [task for task in found.tasks if task.folder not in waiting and disturbed(Path(task.folder))]
    return found._replace(
        pending=[task for task in found.tasks if task.folder in waiting or task in again],
        stale=[*found.stale, *(Path(task.folder) for task in again)],
    )


def at(folder: Path):
    """The task of the run that lies there, perhaps beside an earlier one of the same task."""
    from ravine.bench.task import Task

    return Task(**json.loads((folder / "run.json").read_text(encoding="utf8"))["task"] | {"folder": str(folder)})


def disturbed(folder: Path) -> bool:
    """Whether something else had the core for a part of the run's seconds, which then say little."""
    meta = json.loads((folder / "run.json").read_text(encoding="utf8"))
    cpu, seconds = meta.get("cpu_seconds"), meta.get("seconds")
    return bool(cpu and seconds) and seconds - cpu > max((1 - OWN_CORE) * seconds, BLINK)


def report(out: Path) -> None:
    """Pack the finished runs, and write the table of results, the tables of the comparison, and the page."""
    from ravine.bench.reuse import entry
    from ravine.cli.compare_command import judge, write_comparison
    from ravine.records import dumps
    from ravine.report import write_report

    found = shared_out(out)
    missing = {task.folder for task in found.pending}
    ended = [task for task in found.tasks if task.folder not in missing]
    pack(out, ended)
    whole = len(ended) == len(found.tasks)
    done = [task for task in ended if whole or is_first(task)]
    write_comparison(out, done, "make suite")
    with lzma.open(HERE / "results.jsonl.xz", "wt", encoding="utf8") as lines:  # 3 kB a run otherwise
        lines.writelines(dumps(entry(out, Path(task.folder))) + "\n" for task in done)
    conclusion, why_not = judge(out, done)
    if conclusion is None:
        print(f"no claim: {why_not}")
    else:
        shutil.rmtree(HERE / "tables", ignore_errors=True)
        shutil.copytree(out / "tables", HERE / "tables")
        front_page(conclusion, len(ended), len(found.tasks))
    with tempfile.TemporaryDirectory() as clean:  # without the pictures, which only runs of this checkout have
        unpack(Path(clean))
        packed = [dataclasses.replace(t, folder=str(Path(clean) / Path(t.folder).relative_to(out))) for t in done]
        write_comparison(Path(clean), packed, "make suite")
        write_report([clean], HERE / "report.html", title="The suite", command="make suite")
    print(f"{len(ended)} of {len(found.tasks)} runs are there, {len(done)} are in the page {HERE / 'report.html'}")


def front_page(conclusion, there: int, of: int) -> None:
    """README.md: how much of the suite is there, and its summary, the method that reached most targets first."""
    from ravine.bench.summary import sheets

    kept, claimed = conclusion.kept, sum(finding.claim for finding in conclusion.findings)
    problems = ", ".join(f"`{name}`" for name in dict.fromkeys(result.problem for result in kept))
    sheet = sheets(kept, conclusion.targets, conclusion.axis)["summary"]
    cells = [[name, *(f"{value:.3g}" for value in row)] for name, *row in sheet.rows]
    lines = [
        "# The suite",
        "Every problem x every method at its defaults x 5 seeds, other libraries at documented settings x 3, 20 s each",
        f"on one pinned core. {there:,} of {of:,} runs are there, and `make suite` makes what is missing;",
        "`python benchmarks/suite.py report` makes tables and page from the archives, in two minutes, without any run.",
        "",
        f"Below: {len(kept):,} runs on {problems} (problems and seeds that every method has, on one machine).",
        f"{claimed:,} of {len(conclusion.findings):,} comparisons of two methods are claims",
        "([tables/summary.txt](tables/summary.txt)).",
        sheet.note,
        "",
        *("| " + " | ".join(row) + " |" for row in [sheet.columns, ["---"] * len(sheet.columns), *cells]),
    ]
    (HERE / "README.md").write_text("\n".join(lines) + "\n", encoding="utf8")


def number(archive: Path) -> int:
    return int(archive.name.split("-")[1].split(".")[0])


def archives() -> list[Path]:
    return sorted(HERE.glob("runs-*.tar.xz"), key=number)


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
    with new_archive(HERE / f"runs-{max(map(number, archives()), default=0) + 1}.tar.xz") as box:
        for task in new:
            where = Path(task.folder)
            put(box, where.relative_to(out) / "run.json", (where / "run.json").read_bytes())
            if (where / "rows.jsonl").is_file():
                rows = read_objects(where / "rows.jsonl").objects
                text = "".join(dumps(slim(row)) + "\n" for row in rows)
                put(box, where.relative_to(out) / "rows.jsonl", text.encode())


@contextlib.contextmanager
def new_archive(path: Path):
    """An archive to be written, under its name only when it is whole."""
    part = path.with_name(path.name + ".part")
    with tarfile.open(part, "w:xz", preset=9) as box:
        yield box
    part.replace(path)


def put(box: tarfile.TarFile, name: Path, content: bytes) -> None:
    member = tarfile.TarInfo(name.as_posix())
    member.size = len(content)
    box.addfile(member, io.BytesIO(content))


def forget(out: Path, methods: set[str]) -> None:
    """Take the runs of some methods out of the archives and of `out`."""
    unpack(out)
    gone = {p.parent for p in out.glob("*/*/run.json") if json.loads(p.read_text(encoding="utf8"))["method"] in methods}
    names = {folder.relative_to(out).as_posix() for folder in gone}
    for archive in archives():
        with tarfile.open(archive) as old:
            kept = [member for member in old.getmembers() if str(Path(member.name).parent) not in names]
            if len(kept) == len(old.getmembers()):
                continue
            with new_archive(archive) as box:
                for member in kept:
                    box.addfile(member, old.extractfile(member))
    for folder in gone:
        shutil.rmtree(folder)
    print(f"{len(gone)} runs of {', '.join(sorted(methods))} are to be made again.")


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
    parser.add_argument("command", choices=("run", "report", "forget"))
    parser.add_argument("methods", nargs="*", help="of `forget`")
    parser.add_argument("--out", type=Path, default=RUNS, help=f"folder of the runs (default {RUNS})")
    parser.add_argument("--for", dest="duration", default="1000h", help="begin no piece after this long, such as 2h")
    parser.add_argument("--cores", type=cores, help="such as 0,1; without it, the first core that is allowed")
    request = parser.parse_args()
    if bool(request.methods) != (request.command == "forget"):
        parser.error("`forget` takes the names of methods, the others take none.")
    if request.command == "forget":
        forget(request.out, set(request.methods))
        return
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
