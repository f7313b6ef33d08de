"""Equal tuning for all: every method gets the same number of trials over its declared search space.

The second rule of a comparison (external tuning, in the sense of AlgoPerf). For each (problem, method):

1. The first trial is the defaults; the next ones are asked of Optuna's TPE sampler, which is seeded by the names of
   problem and method, so that the trials follow from their results alone.
2. A trial is a run from each of the tuning seeds FIRST_SEED, FIRST_SEED + 1, ..., with the budget, target, sampler and
   options of the compared runs. No compared run has such a seed.
3. Its score is the median over these runs of the final error (of the final value, where the problem has no solution
   to compare with). Errors below the error of the reference are equal. Runs that stop at a target of their own are
   told apart by the share of the budget it took them. A run that failed has an infinite score: a bad trial, no error.
4. The trial with the least score, the earliest of equal ones, gives the settings of the compared runs.

What has been set by hand is not searched. Trials that ask for settings of an earlier one take its score. All trials
are in tuning.jsonl, one a line, and their runs under tuning/; finished ones are taken from there, whatever their
number, if nothing that determines them has changed. So a tuning goes on where it was interrupted, and a larger number
of trials extends a smaller one.

Reference  Dahl et al. (2023), arXiv:2306.07179 (the two rules); Bergstra, Bardenet, Bengio & Kégl (2011), NeurIPS
           (TPE); Akiba, Sano, Yanase, Ohta & Koyama (2019), KDD, arXiv:1907.10902 (Optuna).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import tuned
from .record import key_of
from .search_spaces import Choice, Range, defaults_of, searched, space_of, text
from .task import Task
from .trials import Store, Trial

FIRST_SEED = 1_000_000  # of the tuning runs; compared seeds are below
_STARTUP = 10  # trials before the sampler models, the defaults among them; fixed, so that more trials extend fewer

Listener = Callable[[Task, dict[str, Any]], None]
Runner = Callable[[Sequence[Task], Listener], bool]  # as pool.run_all: False if interrupted


class Rule(NamedTuple):
    """Trials of every method, and runs of each trial."""

    trials: int
    seeds: int


def tune(
    tasks: Sequence[Task],
    folder: Path,
    rule: Rule,
    runner: Runner,
    say: Callable[[str], None] = lambda _: None,
    command: Callable[[str, str, int, dict], str] = lambda *_: "",
    retry_failed: bool = False,
) -> list[Task] | None:
    """The tasks of a comparison in `folder` with the settings that tuning found; None if it was interrupted.

    runner   makes runs;  say: is told of each trial
    command  (problem, method, seed, settings) -> the command that makes one run alone
    retry_failed  finished trials with failed runs are made again

    Raises ValueError, one sentence, for a compared seed among the tuning seeds and for a damaged list of trials.
    """
    if any(task.seed >= FIRST_SEED for task in tasks):
        raise ValueError(f"seeds from {FIRST_SEED} on are those of tuning; compare smaller ones.")
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.problem, task.method), []).append(task)
    store = Store(folder, retry_failed)
    studies = [_Study(own[0], rule, folder, command) for own in groups.values()]
    for _ in range(rule.trials):
        if not _round([study for study in studies if study.goes_on], store, runner, say):
            return None
    chosen = {key: study for key, study in zip(groups, studies, strict=True)}
    return [chosen[task.problem, task.method].applied(task) for task in tasks]


def _round(studies: Sequence[_Study], store: Store, runner: Runner, say: Callable[[str], None]) -> bool:
    """One trial of each study, their runs together. False if interrupted."""
    asked = [(study, study.ask()) for study in studies]
    todo: dict[str, Trial] = {}
    for study, trial in asked:
        trial.found = study.seen(trial) or store.take(trial)
        if trial.found is None:
            store.place(trial)
            todo |= {task.folder: trial for task in trial.tasks}

    def listen(task: Task, event: dict[str, Any]) -> None:
        if event["event"] not in ("start", "row"):
            trial = todo[task.folder]
            trial.ended(task, event)
            if trial.whole:
                store.add(trial)

    if todo and not runner([task for trial in dict.fromkeys(todo.values()) for task in trial.tasks], listen):
        return False
    if any(trial.undone for _, trial in asked):  # a run was stopped, or its machine was not fit: no score
        return False
    for study, trial in asked:
        study.tell(trial)
        say(study.line(trial))
    return True


class _Study:
    """The tuning of one method on one problem."""

    def __init__(self, task: Task, rule: Rule, folder: Path, command: Callable[[str, str, int, dict], str]):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.task, self.rule, self.command = task, rule, command
        by_hand = task.settings.get(task.method, {})
        self.space = searched(task.method, by_hand)
        self.why = space_of(task.method).why
        if not self.space and not self.why:
            self.why = "the options set by hand leave nothing to search"
        known = defaults_of(task.method)
        self.defaults = {name: _start(option, known[name]) for name, option in self.space.items()}
        self.distributions = {name: _distribution(option) for name, option in self.space.items()}
        sampler = optuna.samplers.TPESampler(
            seed=zlib.crc32(f"{task.problem} {task.method}".encode()), n_startup_trials=_STARTUP
        )
        self.study = optuna.create_study(direction="minimize", sampler=sampler)
        self.study.enqueue_trial(self.defaults)
        self.trials: list[Trial] = []
        self.asked: Any = None

    @property
    def goes_on(self) -> bool:
        return bool(self.space) and not self.why

    def ask(self) -> Trial:
        self.asked = self.study.ask(self.distributions)
        drawn = {name: text(value) for name, value in self.asked.params.items()}
        settings = {name: word for name, word in drawn.items() if word != text(self.defaults[name])}
        tasks = [self._with(self.task, settings, FIRST_SEED + i) for i in range(self.rule.seeds)]
        key = hashlib.sha256(" ".join(key_of(task) for task in tasks).encode()).hexdigest()[:24]
        return Trial(len(self.trials), settings, tasks, key)

    def _with(self, task: Task, settings: Mapping[str, str], seed: int) -> Task:
        own = {**task.settings.get(task.method, {}), **settings}
        whole = {**task.settings, task.method: own} if own else task.settings
        command = self.command(task.problem, task.method, seed, whole)
        return dataclasses.replace(task, seed=seed, settings=whole, command=command)

    def seen(self, trial: Trial) -> dict[str, Any] | None:
        """The record of an earlier trial with these settings, at no cost."""
        for earlier in self.trials:
            if earlier.key == trial.key:
                assert earlier.found is not None
                return earlier.found | {"seconds": 0.0, "total_seconds": 0.0}
        return None

    def tell(self, trial: Trial) -> None:
        assert trial.found is not None
        self.study.tell(self.asked, trial.score)
        self.trials.append(trial)
        if "not_installed" in trial.found["statuses"]:
            self.why = "its library is not installed"
        elif trial.number == 0 and trial.found["refused"]:
            self.why = trial.found["refused"].rstrip(".")

    @property
    def best(self) -> Trial | None:
        """None where no trial has a result."""
        able = [trial for trial in self.trials if math.isfinite(trial.score)]
        return min(able, key=lambda trial: trial.score, default=None)

    def line(self, trial: Trial) -> str:
        assert trial.found is not None
        words = ", ".join(f"{k}={tuned.short(v)}" for k, v in trial.settings.items()) or "the defaults"
        error, best = float(trial.found["error"]), self.best
        ended = f"error {error:.2e}" if math.isfinite(error) else "no result"
        ahead = "" if best is None else f"; best: trial {best.number + 1}"
        number = f"trial {trial.number + 1} of {self.rule.trials}"
        return f"tuning {self.task.problem} {self.task.method}, {number} ({words}): {ended}{ahead}."

    def applied(self, task: Task) -> Task:
        """A compared run with the settings of the best trial."""
        best, first = self.best, self.trials[0] if self.trials else None
        chosen = self._with(task, {} if best is None else best.settings, task.seed)
        found = [trial.found for trial in self.trials if trial.found is not None]
        return dataclasses.replace(
            chosen,
            tuning={
                "trials": self.rule.trials,
                "seeds": self.rule.seeds,
                "options": list(self.space),
                "made": len(self.trials),
                "failed": sum(not math.isfinite(trial.score) for trial in self.trials),
                "error_default": None if first is None else first.error,
                "error": None if best is None else best.error,
                "seconds": sum(float(record["seconds"]) for record in found),
                "total_seconds": sum(float(record["total_seconds"]) for record in found),
                "why": self.why,
            },
        )


def _start(option: Range | Choice, value: Any) -> Any:
    if isinstance(option, Choice):
        return text(value)
    return int(value) if option.whole else float(value)


def _distribution(option: Range | Choice) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(option, Choice):
        return CategoricalDistribution(option.words)
    if option.whole:
        return IntDistribution(int(option.low), int(option.high), log=option.log)
    return FloatDistribution(option.low, option.high, log=option.log)
