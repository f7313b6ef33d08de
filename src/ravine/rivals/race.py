"""A rival's run of a problem: prepared, scored and recorded as a run of our own, stepped by the rival's library."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..driver.budget import Budget
from ..driver.execute import announce
from ..driver.observe import Observer
from ..driver.parameters import bound_objective, partition
from ..driver.precision import cast
from ..driver.prepare import Request
from ..driver.provenance import provenance
from ..driver.run import Run
from ..driver.solve import carry_out, empty
from ..driver.target import as_target
from ..model import Model
from ..objective import Objective
from ..problem import Problem
from ..registry import find
from ..sampling.fixed import Fixed
from .ending import Verdict, judge
from .library import require
from .rival import Rival
from .track import Ended, Rules, Track
from .view import View


def solve_with(
    rival: Rival | str,
    problem: Problem | str,
    model: Model | None = None,
    *,
    seed: int = 0,
    budget: Budget | None = None,
    target: float | Mapping[str, float] | None = None,
    sizes: Mapping[str, int] | None = None,
    every: int | None = None,
    out: str | Path | None = None,
    callbacks: Sequence[Callable[[dict, Any], Any]] = (),
    progress: Callable | None = None,
    description: Mapping[str, Any] | None = None,
) -> Run:
    """`solve` by a rival: the same objective, parameters, fixed points, metrics, clock and records, in float64.

    rival  a Rival or its name ('scipy/trf'); the other arguments are those of `solve`

    Points never move, since no rival has samplers: compare with `sampler='fixed'` for equal points throughout.
    Raises NotInstalled (a LookupError) where the library is absent, LookupError, ValueError or TypeError for wrong
    input, in one sentence. What the library itself raises ends in a run with status failed.
    """
    rival = find("rivals", rival).load()() if isinstance(rival, str) else rival
    problem = find("problems", problem).load()() if isinstance(problem, str) else problem
    require(rival.name)
    return carry_out(
        problem=problem,
        model=problem.default_model() if model is None else model,
        method=rival,
        seed=seed,
        budget=Budget() if budget is None else budget,
        target=target,
        sampler=Fixed(),
        sizes=dict(sizes or {}),
        every=every,
        precision="float64",
        folder=None if out is None else empty(Path(out)),
        callbacks=callbacks,
        progress=progress,
        description={"method": rival.name} | dict(description or {}),
        execute=partial(execute, rival),
    )


def execute(rival: Rival, request: Request) -> Run:
    """Carry out a request by a rival, under the precision scope the caller has opened."""
    objective, params = request.objective, request.params
    if (sentence := rival.refusal(objective.structure)) is not None:
        raise ValueError(sentence)
    budget = request.budget or Budget()
    if budget.evaluations is not None and not rival.counted:
        raise ValueError(f"{rival.name} does not say what it evaluates; give its budget in seconds or steps.")
    free, lift = partition(params, request.trainable, request.bounds, request.precision)
    bound: Objective = cast(bound_objective(objective, lift), request.precision)
    observer = Observer(lift, request.metrics, request.precision)
    rules = Rules(
        budget,
        as_target(request.target, request.main, list(observer.metrics)),
        request.every,
        None if request.folder is None else request.folder / "rows.jsonl",
        request.progress,
        request.callbacks,
    )
    _load(rival)
    if request.folder is not None:
        announce(request.folder, request.summary)
    track = Track(rival.name, bound, View(bound, free), observer, rules, rival.counted)
    end = _run(rival, track)
    track.close()
    run = _hand_over(rival, request, track, judge(track, end))
    if request.folder is not None:
        run.save(request.folder)
    return run


def _load(rival: Rival) -> None:
    """Import the library, outside every clock; what it prints goes to stderr."""
    library = require(rival.name)
    with contextlib.redirect_stdout(sys.stderr):
        for module in (library.module, *library.loads):
            import_module(module)


def _run(rival: Rival, track: Track) -> Ended:
    try:
        return Ended("stopped", message=rival.run(track.view, track))
    except Ended as end:
        return end
    except KeyboardInterrupt:
        return Ended("interrupted")
    except Exception as error:
        if error is track.raised or _is_ours(error):
            raise
        said = " ".join(str(error).split())
        return Ended("raised", error=f"{type(error).__name__} ({said[:300]})" if said else type(error).__name__)
    finally:
        track.clock.stop()


def _is_ours(error: Exception) -> bool:
    """Whether the exception was raised by this package, which is a bug to be shown and not a rival's failure."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__", "").startswith(__name__.partition(".")[0] + ".")


def _hand_over(rival: Rival, request: Request, track: Track, verdict: Verdict) -> Run:
    full = track.observer.lift(track.view.unravel(track.theta))
    library = require(rival.name)
    summary = {
        "name": None,
        "problem": None,
        "seed": request.seed,
        "model": None,
        "counts": track.work | {"sampler": 0},
        "main_metric": next(iter(track.observer.metrics), None),
        "parameters": int(np.size(track.view.start)),
        "rows": track.view.rows,
        "target": track.rules.target.limits or None,
        "budget": track.rules.budget.describe(),
        "returned_step": track.k,
        "q": None,
        "points_moved": 0,
        "notes": [],
        "command": None,
        "rival": {
            "library": library.distribution,
            "version": library.version,
            "call": rival.call,
            "settings": rival.settings(),
            "source": rival.source,
        },
        **request.summary,
    }
    return Run(
        params=jax.tree.map(np.asarray, full),
        status=verdict.status,
        reason=verdict.reason,
        suggestion=verdict.suggestion,
        rows=track.rows,
        steps=track.k,
        seconds=track.clock.seconds,
        cpu_seconds=track.clock.cpu,
        wall_seconds=track.clock.wall,
        compile_seconds=track.compile_seconds,
        provenance=provenance(request.precision, request.seed) | library.versions,
        summary=summary,
        fields=None if request.fields is None else request.fields(full),
    )
