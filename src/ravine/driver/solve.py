"""`solve`: a problem and a model; the driver builds objective, points, scores and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..method import Method
from ..model import Model
from ..problem import Points, Problem
from ..records import make_folder, remove_empty
from ..registry import find
from ..sampling.base import Sampler
from ..sampling.fixed import Fixed
from ..sampling.point_guard import PointGuard
from ..types import Params
from .budget import Budget
from .configuration import NotPlain, describe
from .execute import execute
from .precision import check
from .precision import precision as scope
from .prepare import Request, as_sampler
from .run import Run
from .seed import check_seed


class Draws(eqx.Module):
    """Fresh points of a problem, as samplers ask for them."""

    problem: Problem

    @property
    def measured(self) -> frozenset[str]:
        return self.problem.measured

    def resolvable(self, name: str, points: Any) -> Any:
        return self.problem.resolvable(name, points)

    def __call__(self, seed: int, sizes: Mapping[str, int] | None) -> dict[str, Points]:
        return self.problem.sample(seed, sizes)


class Score(eqx.Module):
    """A problem's metric fn(u, q) as a function of the parameters."""

    problem: Problem
    model: Model
    fn: Callable

    def __call__(self, params: Params) -> Any:
        return self.fn(self.problem.field(self.model, params), params["coefficients"])


def solve(
    problem: Problem | str,
    model: Model | None = None,
    method: Any = "auto",
    *,
    seed: int = 0,
    budget: Budget | None = None,
    target: float | Mapping[str, float] | None = None,
    sampler: Sampler | str | None = None,
    sizes: Mapping[str, int] | None = None,
    every: int | None = None,
    precision: str = "float64",
    out: str | Path | None = None,
    checkpoint: str | Path | None = None,
    callbacks: Sequence[Callable[[dict, Params], Any]] = (),
    progress: Callable | None = None,
    description: Mapping[str, Any] | None = None,
) -> Run:
    """Train `model` (the problem's default if None) on `problem` and score it against the solution.

    problem   a Problem or its name ('burgers1d');  method as in `minimize`
    seed      varies the initial parameters and the points
    target    a number on the main metric (relative L2), or {name: number}
    sampler   a Sampler or its name; the point guard by default where residual rows can be drawn anew, else fixed points
    sizes     {equation: number of points}, the problem's own by default
    out       folder for run.json, rows.jsonl, params.npz, fields.npz and checkpoint/; a non-empty one is refused
    description  entries for run.json (name, command, ...)
    every, precision, checkpoint, callbacks, progress  as in `minimize`

    Returns a Run; `run.params` is {"model": ..., "coefficients": {...}}. Raises LookupError for an unknown name,
    ValueError or TypeError for other wrong input, in one sentence.
    """
    problem = find("problems", problem).load()() if isinstance(problem, str) else problem
    if not isinstance(problem, Problem):
        raise TypeError(f"problem={problem!r}: give a ravine Problem or the name of one, such as 'poisson2d'.")
    return carry_out(
        problem=problem,
        model=problem.default_model() if model is None else model,
        method=method() if isinstance(method, type) else method,
        seed=check_seed(seed),
        budget=Budget() if budget is None else budget,
        target=target,
        sampler=as_sampler(sampler),
        sizes=_sizes(sizes),
        every=every,
        precision=precision,
        folder=None if out is None else empty(Path(out)),
        checkpoint=checkpoint,
        callbacks=callbacks,
        progress=progress,
        description=description,
    )


def carry_out(
    *,
    problem: Problem,
    model: Model,
    method: Any,
    folder: Path | None,
    checkpoint: str | Path | None = None,
    callbacks: Sequence[Callable] = (),
    progress: Callable | None = None,
    description: Mapping[str, Any] | None = None,
    resumed: bool = False,
    execute: Callable[[Request], Run] = execute,
    **call: Any,
) -> Run:
    """Build the request and run it; `call` is the rest of what run.json keeps of a call (see `_configuration`).

    `execute` carries out the request; the optimizers of other libraries bring their own.
    """
    if not isinstance(model, Model):
        hint = " (the method is the third argument: write method=...)" if isinstance(model, Method | str) else ""
        raise TypeError(f"model={model!r}: give a ravine Model, such as rv.models.MLP(2, 1){hint}.")
    with scope(check(call["precision"])):
        objective = problem.objective(model, problem.sample(call["seed"], call["sizes"]))
        parts = {"problem": problem, "model": model, "method": method}
        summary = _summary(problem, model, method, objective, call["sizes"])
        summary |= _configuration(parts | call) | dict(description or {})
        if checkpoint is None and folder is not None:
            checkpoint = folder / "checkpoint"
        request = Request(
            objective=objective,
            params=problem.init(model, call["seed"]),
            method=method,
            seed=call["seed"],
            budget=call["budget"],
            target=call["target"],
            sampler=_default_sampler(objective, Draws(problem)) if call["sampler"] is None else call["sampler"],
            metrics={name: Score(problem, model, fn) for name, fn in problem.metrics().items()},
            every=call["every"],
            precision=call["precision"],
            checkpoint=checkpoint,
            callbacks=callbacks,
            progress=progress,
            source=Draws(problem),
            main="l2",
            folder=folder,
            summary=summary,
            fields=lambda params: picture(problem, model, params),
        )
        return _run(request, resumed, execute)


def _sizes(sizes: Any) -> dict[str, int]:
    if not isinstance(sizes, Mapping | None):
        raise TypeError(f"sizes={sizes!r}: give a dictionary {{equation: number of points}}.")
    return dict(sizes or {})


def _configuration(call: dict[str, Any]) -> dict[str, Any]:
    """The call as run.json keeps it for `resume`, or the reason why it cannot."""
    budget = call["budget"]
    plain = call | {"budget": budget.describe() if isinstance(budget, Budget) else None}
    try:
        return {"configuration": {name: describe(value, name) for name, value in plain.items()}}
    except NotPlain as reason:
        return {"configuration": None, "not_resumable": str(reason)}


def _run(request: Request, resumed: bool, execute: Callable[[Request], Run]) -> Run:
    folder, made = request.folder, []
    if folder is not None and not resumed:
        made = make_folder(folder)
    try:
        return execute(request)
    except BaseException:
        if folder is not None and not resumed and not Path(request.checkpoint or "").is_dir():
            (folder / "run.json").unlink(missing_ok=True)  # refused before it began: leave no half run behind
            remove_empty(made)
        raise


def empty(folder: Path) -> Path:
    """The folder, made. Raises ValueError if it is a file, is not empty, or holds a run."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out={str(folder)!r} is a file; give a new or empty folder.")
    if folder.is_dir():
        resumable = (folder / "checkpoint").is_dir() or (folder / "run.json").is_file()
        if any(folder.iterdir()) and not resumable:
            raise ValueError(f"out={str(folder)!r} is not empty; give a new folder.")
        if resumable:
            raise ValueError(f"out={str(folder)!r} already holds a run; resume it, or give a new folder.")
    return folder


def _default_sampler(objective, source: Draws) -> Sampler:
    """The point guard where it can act at all."""
    guard = PointGuard()
    return guard if guard.check(objective) is None and guard.draws(objective, source) else Fixed()


def _summary(problem, model, method, objective, sizes) -> dict[str, Any]:
    name = type(problem).__name__.lower()
    label = method if isinstance(method, str) else type(method).__name__
    estimate = getattr(problem, "reference_error", None)
    return {
        "problem": name,
        "method": label,
        "model": repr(model),
        "imposes": sorted(model.imposes),
        "reference_error": estimate() if callable(estimate) else estimate,
        "problem_configuration": repr(problem),
        "terms": {k: t.n for k, t in objective.parts.items()},
        "sizes": dict(sizes or {}),
    }


def picture(problem: Problem, model: Model, params: Params) -> dict[str, np.ndarray]:
    """Reference and prediction on the problem's line or grid, for the report (first component of the field)."""
    view = problem.picture()
    shape = tuple(len(a) for a in view.axes)
    field = jax.jit(lambda p, x: jax.lax.map(problem.field(model, p), x, batch_size=4096))
    predicted = np.asarray(field(params, jnp.asarray(view.points)))
    exact = problem.exact(view.points)
    return {f"axis{i}": np.asarray(axis) for i, axis in enumerate(view.axes)} | {
        "labels": np.asarray(view.labels),
        "reference": exact[:, 0].reshape(shape),
        "prediction": predicted[:, 0].reshape(shape),
    }
