"""A task: everything a run is made of, as plain text and numbers that another process can be handed.

Checking a task needs no JAX. Options of problem, model, method and sampler arrive as text; they get their types
when the class is loaded (options.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..checks import nearest
from ..driver.budget import Budget
from ..driver.seed import check_seed
from ..registry import entries, find
from ..rivals.library import LIBRARIES, require
from ..spec import StageSpec, is_auto, stages


@dataclasses.dataclass(frozen=True)
class Task:
    """One run. `settings` are the options of methods and samplers by their command-line name; `tuning` says, of a run
    by the rule of equal tuning, which of them were tuned and at what cost (bench/tuned.py)."""

    problem: str
    method: str = "auto"
    seed: int = 0
    budget: str = "60s"
    target: float | None = None
    sampler: str | None = None
    problem_options: dict[str, str] = dataclasses.field(default_factory=dict)
    model_options: dict[str, str] = dataclasses.field(default_factory=dict)
    settings: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    tuning: dict[str, Any] = dataclasses.field(default_factory=dict)
    folder: str = ""
    command: str = ""

    def __post_init__(self):
        """Names, which become those of the command line, numbers and units. Raises LookupError or ValueError with a
        sentence; imports no JAX."""
        object.__setattr__(self, "problem", find("problems", self.problem).name)
        object.__setattr__(self, "method", canonical(self.method))
        Budget.parse(self.budget)
        if self.sampler is not None:
            object.__setattr__(self, "sampler", find("samplers", self.sampler).name)
            if is_rival(self.method) and self.sampler != "fixed":
                raise ValueError(
                    f"sampler {self.sampler!r}: {self.method} trains on fixed points; use 'fixed' for all."
                )
        check_seed(self.seed, "seed ")
        if self.target is not None and not 0 < self.target < float("inf"):
            raise ValueError(f"target {self.target:g}: must be a positive finite number.")
        known = self.owners()
        for name in self.settings:
            if name in known:
                continue
            if name in entries("samplers"):
                raise ValueError(f"--set {name}: a sampler's options need the sampler: write --sampler {name} as well.")
            raise ValueError(f"--set {name}: this run has no part called {name!r}; {nearest(name, known)}")

    def owners(self) -> list[str]:
        """The names that `--set NAME.field=value` may use: the run's methods and its sampler."""
        return [*method_names(self.method), *([find("samplers", self.sampler).name] if self.sampler else [])]

    @property
    def label(self) -> str:
        return f"{self.problem} {self.method} seed {self.seed}"

    def describe(self) -> dict[str, Any]:
        """What run.json says about the task; `task` is what `resume` reads."""
        own = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("folder", "command")}
        return {
            "name": Path(self.folder).name,
            "problem": self.problem,
            "method": self.method,
            "seed": self.seed,
            "command": self.command,
            "task": own,
        }

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `solve`, or of `solve_with` for a rival: built, and checked by their own constructors.
        Imports JAX."""
        from .options import construct, refine

        problem = construct(find("problems", self.problem).load(), self.problem_options, "--problem.")
        model = refine(problem.default_model(), self.model_options) if self.model_options else None
        shared = {
            "problem": problem,
            "model": model,
            "seed": self.seed,
            "budget": Budget.parse(self.budget),
            "target": self.target,
        }
        return shared | (self._rival() if is_rival(self.method) else self._own())

    def _own(self) -> dict[str, Any]:
        """Method and sampler of a run of ours."""
        from ..methods.averaged import Average
        from ..plans import parse
        from .options import construct, typed

        options = {
            name: typed(_class_of(name), values, f"--set {name}.", **({} if name == "auto" else {"average": Average}))
            for name, values in self.settings.items()
            if name in method_names(self.method)
        }
        sampler = None
        if self.sampler is not None:
            entry = find("samplers", self.sampler)
            sampler = construct(entry.load(), self.settings.get(entry.name, {}), f"--set {entry.name}.")
        return {"method": parse(self.method, options), "sampler": sampler}

    def _rival(self) -> dict[str, Any]:
        from .options import construct

        entry = find("rivals", self.method)
        return {"rival": construct(entry.load(), self.settings.get(entry.name, {}), f"--set {entry.name}.")}

    def run(self, progress: Callable | None = None) -> Any:
        """The Run, saved in `folder`. Imports JAX. Raises NotInstalled for a rival whose library is absent."""
        from ..driver.solve import solve
        from ..rivals.race import solve_with

        if is_rival(self.method):
            require(find("rivals", self.method).name)
            return solve_with(**self.arguments(), out=Path(self.folder), progress=progress, description=self.describe())
        return solve(**self.arguments(), out=Path(self.folder), progress=progress, description=self.describe())

    def resume(self, progress: Callable | None = None) -> Any:
        """Go on from the last checkpoint in `folder`. Imports JAX."""
        from ..driver.resume import resume

        return resume(Path(self.folder), budget=Budget.parse(self.budget), progress=progress)


def refusal(error: Exception) -> str | None:
    """The sentence of an error that a check of ours raised; None for any other error, which is a bug to be shown."""
    if not isinstance(error, (ValueError, TypeError, LookupError)) or isinstance(error, (KeyError, IndexError)):
        return None
    trace, module = error.__traceback__, ""
    while trace is not None:
        module, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return str(error) if module.startswith("ravine.") else None


def is_rival(spec: str) -> bool:
    """Whether a spec names the optimizer of another library, as in 'scipy/trf'."""
    return "/" in spec


def method_names(spec: str) -> list[str]:
    """Command-line names of the stages of 'adam:500+lm', or of a rival. Raises LookupError or ValueError with a
    sentence."""
    if is_rival(spec):
        return [_rival_name(spec)]
    if is_auto(spec):
        return ["auto"]
    return [stage.name for stage in _stages(spec)]


def canonical(spec: str) -> str:
    """The spec in command-line names: 'LevenbergMarquardt' and 'lm' are one method. Raises as `method_names` does."""
    if is_rival(spec) or is_auto(spec):
        return method_names(spec)[0]
    return "+".join(name if steps is None else f"{name}:{steps}" for name, steps in _stages(spec))


def _stages(spec: str) -> list[StageSpec]:
    """The stages in command-line names."""
    for name, _, solver in (part.strip().partition(":") for part in spec.split("+")):
        if name.strip().lower() in LIBRARIES and solver and not solver.isdecimal():
            raise ValueError(f"method {spec!r}: a rival is written with a slash, '{name}/{solver}'; ':' counts steps.")
    return [StageSpec(_method(name), steps) for name, steps in stages(spec)]


def _rival_name(spec: str) -> str:
    if "+" in spec or ":" in spec:
        raise ValueError(f"method {spec!r}: a rival runs alone and to the end of the budget, without '+' and ':'.")
    library = spec.partition("/")[0].strip().lower()
    if library not in LIBRARIES:
        raise LookupError(f"method {spec!r}: no rival is from {library!r}; {nearest(library, LIBRARIES)}")
    return find("rivals", spec).name


def _method(name: str) -> str:
    try:
        return find("methods", name).name
    except LookupError:
        choices = ["auto", *entries("methods")]
        raise LookupError(f"there is no method called {name!r}; {nearest(name, choices)}") from None


def _class_of(name: str) -> type:
    if name == "auto":
        from ..plans import Auto

        return Auto
    return find("methods", name).load()
