"""`ravine compare`: every method on every problem from every seed, each run in a process of its own; then a report.

Records of the runs are added to results.jsonl as they end. With --continue, runs that the folder holds finished are
taken from it (bench/reuse.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import shutil
import sys
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bench.ending import never_started
from ..bench.task import Task, canonical, refusal
from ..checks import nearest
from ..driver.budget import Budget
from ..driver.cores import cores
from ..records import dumps, make_folder, remove_empty, write_text
from ..registry import find
from . import compile_cache, folders, tuning
from .parse import Usage, settings
from .where import Place, place

if TYPE_CHECKING:  # needs SciPy, which wrong usage is answered without
    from ..bench.conclusion import Conclusion

FORMAT = 1
TABLES = "tables"  # folder of CSV files and summary.txt


def run(request: argparse.Namespace) -> int:
    tasks, folder = plan(request)
    tuning.check(request, tasks)
    compile_cache.enable()
    with place(request) as where:
        check_options(tasks)
        made = make_folder(folder)
        with folders.held(folder):
            return carry_out(tasks, folder, made, request, where)


def carry_out(tasks: list[Task], folder: Path, made: list[Path], request: argparse.Namespace, where: Place) -> int:
    """Tune if asked, make the runs that are missing and hand over; in a folder that no other comparison works in."""
    begun = any(folder.iterdir())
    if begun and not request.go_on:
        raise Usage(f"{folder}: another comparison has begun there in this moment; name another folder with --out.")
    if request.tune is not None:
        if not (folder / "compare.json").is_file():
            write_comparison(folder, [], request.line)  # a tuning that is interrupted can be gone on with
        tuned = tuning.tune(tasks, folder, request, where, partial(alone, request))
        if tuned is None:
            return tuning.interrupted(folder, request.json)
        tasks = tuned
    pending, stale = tasks, set[Path]()
    if begun:
        tasks, pending, stale = take_up(tasks, folder, request)
    write_comparison(folder, tasks, request.line)
    finished, refused = execute(pending, folder, where, request.json, stale)
    if len(refused) == len(tasks) and not begun:
        for entry in folder.iterdir():  # new or empty before: all of it is ours
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        remove_empty(made)
        raise Usage(_all_refused(refused))
    return hand_over(folder, tasks, request.json, finished)


def plan(request: argparse.Namespace) -> tuple[list[Task], Path]:
    """The tasks, method by method within a problem, and the folder of the comparison. Raises Usage; no JAX."""
    if request.retry_failed and not request.go_on:
        raise Usage("--retry-failed: goes with --continue, and says which runs of an earlier comparison to make again.")
    if request.any_version and not request.go_on:
        raise Usage("--any-version: goes with --continue, and takes runs that another version of ravine made.")
    try:
        problems = _names("PROBLEM", request.problems, lambda name: find("problems", name).name)
        methods = _names("--methods", request.methods, canonical)
        given, name = settings(request.set), "compare-" + "-".join(problems)
        name = name if len(name) < 60 else f"compare-{len(problems)}-problems"
        folder = folders.choose_known(request.out) if request.go_on else folders.choose(request.out, name)
        shared = {
            "budget": request.budget,
            "target": request.target,
            "sampler": request.sampler,
            "problem_options": request.dotted["problem"],
            "model_options": request.dotted["model"],
        }
        tasks = []
        for problem in problems:
            for method in methods:
                bare = Task(problem, method, **shared)
                mine = {part: values for part, values in given.items() if part in bare.owners()}
                for seed in range(request.seeds):
                    where = folder / problem / f"{folders.slug(method.replace(':', ''))}-s{seed}"
                    command = alone(request, problem, method, seed, mine)
                    own = {"seed": seed, "settings": mine, "folder": str(where), "command": command}
                    tasks.append(dataclasses.replace(bare, **own))
    except (ValueError, LookupError) as error:
        raise Usage(str(error)) from None
    known = list(dict.fromkeys(owner for task in tasks for owner in task.owners()))
    for part in given:
        if part not in known:
            raise Usage(f"--set {part}: no run of this comparison has a part {part!r}; {nearest(part, known)}")
    return tasks, folder


def _names(option: str, text: str, check) -> list[str]:
    names = [check(part) for part in text.split(",") if part.strip()]
    if not names:
        raise Usage(f"{option} {text!r}: names nothing; separate several by commas.")
    return list(dict.fromkeys(name.strip() for name in names))


def alone(request: argparse.Namespace, problem: str, method: str, seed: int, mine: dict) -> str:
    """The command that does one run of the comparison by itself."""
    words = ["ravine", "solve", problem, "--method", method, "--seed", str(seed), "--budget", request.budget]
    words += ["--target", repr(request.target)] if request.target is not None else []
    words += ["--sampler", request.sampler] if request.sampler is not None else []
    for prefix in ("problem", "model"):
        words += [w for name, value in request.dotted[prefix].items() for w in (f"--{prefix}.{name}", value)]
    for part, values in mine.items():
        words += [w for name, value in values.items() for w in ("--set", f"{part}.{name}={value}")]
    return shlex.join(words)


def check_options(tasks: list[Task]) -> None:
    """Options of the parts, in this process and before any run: a misspelt one should not cost a budget."""
    checked = set()
    for task in tasks:
        if (task.problem_options or task.model_options or task.settings) and (task.problem, task.method) not in checked:
            checked.add((task.problem, task.method))
            try:
                task.arguments()
            except Exception as error:
                if (reason := refusal(error)) is None:
                    raise
                raise Usage(reason) from None


def take_up(tasks: list[Task], folder: Path, request: argparse.Namespace) -> tuple[list[Task], list[Task], set[Path]]:
    """All tasks, those still to do, and the folders of attempts that these make again, of a comparison that was begun.
    Raises Usage if what is there cannot be read."""
    from ..bench.reuse import reuse

    try:
        found = reuse(tasks, folder, request.retry_failed, request.any_version)
    except ValueError as error:
        raise Usage(str(error)) from None
    if not request.json:
        done = len(tasks) - len(found.pending)
        print("\n".join([f"{done} of {len(tasks)} runs are there.", *found.notes]), file=sys.stderr)
    return found.tasks, found.pending, set(found.stale)


def _all_refused(reasons: list[str]) -> str:
    different = list(dict.fromkeys(reasons))
    if len(different) == 1:
        return different[0]
    return f"every run was refused, for {len(different)} reasons; the first: {different[0]}"


def write_comparison(folder: Path, tasks: list[Task], line: str) -> None:
    """compare.json, written before the first run: the table is whole whatever happens later."""
    record = {
        "format": FORMAT,
        "command": line,
        "problems": list(dict.fromkeys(task.problem for task in tasks)),
        "methods": list(dict.fromkeys(task.method for task in tasks)),
        "seeds": sorted({task.seed for task in tasks}),
        "runs": [str(Path(task.folder).relative_to(folder).as_posix()) for task in tasks],
        "provenance": {"cores": len(cores()), "python": sys.version.split()[0]},
    }
    write_text(folder / "compare.json", dumps(record, indent=1))


def execute(tasks: list[Task], folder: Path, where: Place, quiet: bool, stale: set[Path]) -> tuple[bool, list[str]]:
    """The runs, with live progress, each recorded in the table as it ends: whether they were left to finish, and the
    sentences of those that were refused. A folder of `stale` is removed when its run begins, and not before: an
    interruption leaves the earlier attempt, which may have failed, as it is."""
    from ..bench import table
    from ..bench.reuse import TABLE, entry
    from .progress import display

    if not tasks:
        return True, []

    def keep(task: Task) -> None:
        table.append(folder / TABLE, entry(folder, Path(task.folder)))
        recorded.add(task.folder)

    recorded: set[str] = set()
    budget, count, refused = Budget.parse(tasks[0].budget), {"done": 0}, []
    with display(quiet) as shown:
        runs = "1 run" if len(tasks) == 1 else f"{len(tasks)} runs"
        shown.say(f"{runs} of {tasks[0].budget} each, {where.words}; a line follows once one has compiled.")

        def listen(task: Task, event: dict[str, Any]) -> None:
            if event["event"] == "start":
                if (place := Path(task.folder)) in stale:
                    stale.remove(place)
                    shutil.rmtree(place)
                return
            if event["event"] == "row":
                shown.row(task.label, event["row"], budget)
                return
            keep(task)
            count["done"] += 1
            if event["event"] == "refused":
                refused.append(event["reason"])
            shown.ended(task.label)
            shown.say(f"[{count['done']}/{len(tasks)}] {task.label}: {_outcome(task)}")

        finished = where.run_all(in_turns(tasks), listen)
        if not finished:
            shown.say("interrupted; what the runs had reached is kept.")
        for task in tasks:
            if task.folder not in recorded:  # never started
                never_started(task, "The comparison was interrupted while this run was being started.")
                keep(task)
    return finished, refused


def in_turns(tasks: list[Task]) -> list[Task]:
    """The order of the runs: seed by seed, and in each seed the methods begin with another one.

    Whatever makes the machine slower after a while then does so for all methods, and not for the last one.
    """
    problems = list(dict.fromkeys(task.problem for task in tasks))
    turn: list[Task] = []
    by_seed = sorted(tasks, key=lambda task: (problems.index(task.problem), task.seed))
    for (_, seed), group in groupby(by_seed, key=lambda task: (task.problem, task.seed)):
        own = list(group)
        first = seed % len(own)
        turn += own[first:] + own[:first]
    return turn


def _outcome(task: Task) -> str:
    from ..report import load_run

    found = load_run(task.folder)
    return f"{found.status.replace('_', ' ')}. {found.reason}"


def hand_over(folder: Path, tasks: list[Task], as_json: bool, finished: bool) -> int:
    from ..bench.conclusion import as_text
    from ..report import plain_summary, summary, write_report
    from .solve_command import show

    report = write_report([folder], folder / "report.html")
    found, why_not = judge(folder, tasks)
    records = [json.loads((Path(t.folder) / "run.json").read_text(encoding="utf8")) for t in tasks]
    if as_json:
        runs = [{"folder": task.folder, **record} for task, record in zip(tasks, records, strict=True)]
        findings = [finding._asdict() for finding in found.findings] if found else []
        print(dumps({"folder": str(folder), "report": str(report), "runs": runs, "findings": findings}))
    else:
        show([folder], summary, plain_summary)
        print(as_text(found) if found else f"no claim: {why_not}\n")
        tables = f"tables  {folder / TABLES}\n" if found else ""
        print(f"runs    {folder}\n{tables}report  {report}")
    if not finished:
        return 130
    return 1 if any(record["status"] in ("failed", "interrupted") for record in records) else 0


def judge(folder: Path, tasks: list[Task]) -> tuple[Conclusion | None, str]:
    """What the runs say together, written to the folder of tables; or None and why they cannot be compared."""
    from ..bench.conclusion import clear_tables, conclude, write_tables
    from ..bench.reuse import entry

    try:
        found = conclude([entry(folder, Path(task.folder)) for task in tasks])
    except ValueError as error:
        clear_tables(folder / TABLES)
        return None, str(error)
    write_tables(folder / TABLES, found)
    return found, ""
