"""A benchmark folder for benchopt: every dataset one of our problems, every solver one of our methods.

The folder imports ravine and holds no mathematics of its own; what runs on the clock is `export.steps`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from .. import __version__
from ..bench.options import fields
from ..driver.precision import precision
from ..method import refusal
from ..records import make_folder, write_text
from ..registry import Entry
from .choice import choose
from .parquet import OBJECTIVE
from .steps import DTYPE


class Written(NamedTuple):
    folder: Path
    problems: list[str]
    methods: list[str]


def write_benchmark(folder: Path | str, problems: Sequence[str] = (), methods: Sequence[str] = ()) -> Written:
    """Write the folder for these problems and methods, by name; all of them where none are named.

    Raises LookupError for an unknown name and ValueError, one sentence: the folder is a file or not empty, a method is
    a plan or of another library, or it can run on none of the problems.
    """
    folder = Path(folder)
    chosen, solvers = choose(folder, problems, methods)
    examples = _examples(chosen, solvers)
    render = _renderer()
    files = {
        "objective.py": render("objective.py", name=OBJECTIVE, problem=chosen[0].name),
        "run.yml": render("run.yml"),
        "README.md": _readme(render, chosen, solvers),
    }
    for entry in chosen:
        files[f"datasets/{entry.name}.py"] = render("dataset.py", **_about(entry), options=_options(entry.load()))
    for entry in solvers:
        given = {"options": _real(entry.load()), "problem": examples[entry.name]}
        files[f"solvers/{entry.name}.py"] = render("solver.py", **_about(entry), **given)
    for name in ("datasets", "solvers"):
        make_folder(folder / name)
    for name, text in files.items():
        write_text(folder / name, text)
    return Written(folder, [e.name for e in chosen], [e.name for e in solvers])


def _examples(problems: Sequence[Entry], methods: Sequence[Entry]) -> dict[str, str]:
    """For every method the first problem that it can run on: what `benchopt test` tries it with."""
    objectives = {}
    with precision(DTYPE):
        for entry in problems:
            problem = entry.load()()
            objectives[entry.name] = problem.objective(problem.default_model(), problem.sample(0))
    found = {}
    for entry in methods:
        refused = {name: refusal(entry.load()(), objective) for name, objective in objectives.items()}
        able = [name for name, reason in refused.items() if reason is None]
        if not able:
            raise ValueError(f"--methods {entry.name}: can run on none of the problems; {next(iter(refused.values()))}")
        found[entry.name] = able[0]
    return found


def _options(cls: type) -> dict[str, Any]:
    """The options that text could give, with their defaults."""
    parameters = inspect.signature(cls).parameters
    return {name: parameters[name].default for name in fields(cls)}


def _real(cls: type) -> dict[str, float]:
    return {name: value for name, value in _options(cls).items() if isinstance(value, float)}


def _about(entry: Entry) -> dict[str, str]:
    module = entry.module.rpartition(".")[0]  # the public table: ravine.problems, ravine.methods
    return {"name": entry.name, "class_name": entry.class_name, "module": module, "summary": entry.summary}


def _readme(render: Any, problems: Sequence[Entry], methods: Sequence[Entry]) -> str:
    numbers = {name: value for name, value in _options(problems[0].load()).items() if type(value) is int}
    return render(
        "README.md",
        version=__version__,
        problems=[e.name for e in problems],
        methods=[e.name for e in methods],
        dataset=_selector(problems[0].name, numbers),
        solver=_selector(methods[0].name, _real(methods[0].load())),
    )


def _selector(name: str, options: Mapping[str, Any]) -> str:
    """poisson2d[n_pde=900]: a choice as benchopt's command line takes it, for an example."""
    return "".join([name, *(f"[{option}={value}]" for option, value in list(options.items())[:1])])


def _python(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _renderer() -> Any:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__name__.rpartition(".")[0], "templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["python"] = _python
    return lambda template, /, **values: environment.get_template(f"{template}.j2").render(**values)
