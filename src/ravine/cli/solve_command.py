"""`ravine solve`: one run in this process."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..bench.task import Task, refusal
from ..driver.budget import Budget
from . import compile_cache, folders
from .parse import Usage, settings


def run(request: argparse.Namespace) -> int:
    try:
        task = Task(
            problem=request.problem.strip().lower(),
            method=request.method,
            seed=request.seed,
            budget=request.budget,
            target=request.target,
            sampler=request.sampler,
            problem_options=request.dotted["problem"],
            model_options=request.dotted["model"],
            settings=settings(request.set),
            folder=str(folders.choose(request.out, request.name or folders.run_name(request.problem, request.method))),
            command=request.line,
        )
    except (ValueError, LookupError) as error:
        raise Usage(str(error)) from None
    compile_cache.enable()
    result = carry_out(task, quiet=request.json)
    return hand_over(Path(task.folder), result, request.json)


def carry_out(task: Task, quiet: bool, go_on: bool = False) -> Any:
    """The Run of a task, with live progress. Raises Usage for what only its classes could refuse."""
    from .progress import display

    budget = Budget.parse(task.budget)
    try:
        with display(quiet) as shown:
            shown.say(f"{task.label}: compiling, then {task.budget}.")
            step = task.resume if go_on else task.run
            return step(progress=lambda row, _loop: shown.row(task.label, row, budget))
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        raise Usage(reason) from None


def hand_over(folder: Path, result: Any, as_json: bool) -> int:
    """Write the report, print the outcome, and return the exit status."""
    from ..report import plain_summary, summary, write_report

    report = write_report([folder], folder / "report.html")
    if as_json:
        record = json.loads((folder / "run.json").read_text(encoding="utf8"))
        print(json.dumps({"folder": str(folder), "report": str(report), **record}, ensure_ascii=False))
    else:
        show([folder], summary, plain_summary)
        print(f"\nrun     {folder}\nreport  {report}")
    target = json.loads((folder / "run.json").read_text(encoding="utf8")).get("target")
    return exit_status(result.status, bool(target))


def show(paths: list[Path], summary, plain_summary) -> None:
    """The table of statuses, coloured on a terminal."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(summary(paths))
    else:
        print(plain_summary(paths))


def exit_status(status: str, has_target: bool) -> int:
    if status == "interrupted":
        return 130
    if has_target:
        return 0 if status == "reached_target" else 1
    return 0 if status in ("reached_target", "converged", "budget") else 1
