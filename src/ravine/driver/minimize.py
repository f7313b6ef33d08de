"""`minimize`: any objective, any pytree of parameters, any method, one contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..objective import Objective
from ..sampling.base import Sampler, Source
from ..types import Params
from .budget import Budget
from .execute import execute
from .precision import check
from .precision import precision as scope
from .prepare import Request
from .run import Run


def minimize(
    objective: Objective,
    params: Params,
    method: Any = "auto",
    *,
    seed: int = 0,
    budget: Budget | None = None,
    target: float | Mapping[str, float] | None = None,
    trainable: Any = None,
    bounds: Any = None,
    sampler: Sampler | str | None = None,
    draw: Source | None = None,
    metrics: Mapping[str, Callable[[Params], Any]] | None = None,
    every: int | None = None,
    precision: str = "float64",
    checkpoint: str | Path | None = None,
    callbacks: Sequence[Callable[[dict, Params], Any]] = (),
    progress: Callable | None = None,
) -> Run:
    """Minimise `objective` over the floating-point array leaves of `params`.

    method      a method, a plan (Stages, Auto), an optax transformation, or a name ('lm', 'adam:500+lm', 'auto')
    budget      Budget(steps=, seconds=, wall=, evaluations=); 60 steady seconds by default
    target      a number (on the loss) or {name: number} over 'loss', 'grad_norm' and the metrics
    trainable   prefix tree of bools over params; everything else is bound into the objective
    bounds      prefix tree of (lo, hi), None for a free leaf or end; acts by a smooth reparametrisation
    sampler     moves points between steps, see ravine.sampling; an instance or a name ('guard')
    draw        draw(seed, sizes) -> {term: points}: fresh points for the sampler and for the statistic q;
                sizes[term] rows each, every row like one of the term's own
    metrics     {name: fn(params) -> number}, scored off the clock at recorded rows
    every       also record multiples of this step
    precision   'float64' (default) or 'float32', scoped to this call
    checkpoint  folder; the same call with the same folder goes on exactly where it stopped
    callbacks   fn(row, params) at recorded rows, off the clock; a true answer ends the run
    progress    fn(row, loop) at recorded rows, off the clock

    Returns a Run, whatever happens numerically. Raises TypeError or ValueError (one sentence) for wrong input: a
    method that needs a structure the objective lacks, names that do not exist, a checkpoint of another run.
    """
    with scope(check(precision)):
        return execute(
            Request(
                objective=objective,
                params=params,
                method=method,
                seed=seed,
                budget=budget,
                target=target,
                trainable=trainable,
                bounds=bounds,
                sampler=sampler,
                source=draw,
                metrics=metrics,
                every=every,
                precision=precision,
                checkpoint=checkpoint,
                callbacks=callbacks,
                progress=progress,
            )
        )
