"""`ravine compare --tune`: what is wrong usage of it, and the tuning with live progress (bench/tune.py)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..bench.task import Task, refusal
from ..driver.budget import Budget
from ..spec import is_plan
from .parse import Usage
from .where import Place

SEEDS = 3  # runs of a trial where --tune-seeds does not say


def check(request: argparse.Namespace, tasks: Sequence[Task]) -> None:
    """Raises Usage where the comparison cannot be tuned. No JAX, and Optuna is looked for and not imported."""
    if request.tune is None:
        if request.tune_seeds is not None:
            raise Usage("--tune-seeds: goes with --tune N, and says how many runs a trial is made of.")
        return
    for method in dict.fromkeys(task.method for task in tasks):
        if is_plan(method):
            raise Usage(
                f"--tune {request.tune}: {method!r} is a plan, and only single methods and rivals have a search space; "
                "compare plans by their defaults."
            )
    if find_spec("optuna") is None:
        raise Usage("--tune: needs Optuna, which is not installed here; install it: pip install 'optuna>=4'")


def tune(
    tasks: list[Task],
    folder: Path,
    request: argparse.Namespace,
    where: Place,
    command: Callable[[str, str, int, dict], str],
) -> list[Task] | None:
    """The tasks with the settings found; None if interrupted. Raises Usage for a damaged list of trials."""
    from ..bench import tune as bench
    from .progress import display

    rule, budget = bench.Rule(request.tune, request.tune_seeds or SEEDS), Budget.parse(tasks[0].budget)
    with display(request.json) as shown:
        each = f"{rule.trials} trial{'s' * (rule.trials > 1)} of {rule.seeds} run{'s' * (rule.seeds > 1)}"
        shown.say(f"Tuning: {each} for every method on every problem, {where.words}.")

        def runner(todo: Sequence[Task], listener: bench.Listener) -> bool:
            def listen(task: Task, event: dict[str, Any]) -> None:
                if event["event"] == "row":
                    shown.row(f"tuning {task.label}", event["row"], budget)
                elif event["event"] != "start":
                    shown.ended(f"tuning {task.label}")
                listener(task, event)

            return where.run_all(todo, listen)

        try:
            return bench.tune(tasks, folder, rule, runner, shown.say, command, request.retry_failed)
        except ValueError as error:
            if (reason := refusal(error)) is None:
                raise
            raise Usage(reason) from None


def interrupted(folder: Path, as_json: bool) -> int:
    """The exit status of a comparison that was interrupted before its first compared run."""
    print(
        f"ravine: interrupted while tuning; its finished trials are kept: go on with --continue --out {folder}.",
        file=sys.stderr,
    )
    if as_json:
        print(json.dumps({"folder": str(folder), "runs": []}))
    return 130
