"""Before the clock: everything that can be refused is refused here, in one sentence, before anything compiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..linearization import curvature_is_semidefinite, dims
from ..method import Method, refusal
from ..objective import Composite, LeastSquares, Objective, Scalar, Term
from ..plans import as_plan
from ..records import COLUMNS
from ..registry import find
from ..sampling.base import Sampler, Source, drawn, movable
from ..types import Params, Structure
from .budget import Budget
from .fingerprint import fingerprint
from .loop import Loop
from .memory import check_memory
from .notice import warn
from .observe import Observer
from .parameters import bound_objective, partition
from .precision import cast, floats_to_arrays
from .rounding import warn_rounding
from .seed import check_seed
from .setup import Setup
from .target import as_target


@dataclasses.dataclass(frozen=True)
class Request:
    """What the caller of `minimize` or `solve` asked for."""

    objective: Objective
    params: Params
    method: Any
    seed: int
    budget: Budget | None
    target: Any
    sampler: Sampler | str | None
    metrics: Mapping[str, Callable] | None
    every: int | None
    precision: str
    checkpoint: str | Path | None
    callbacks: Sequence[Callable]
    progress: Callable | None
    trainable: Any = None
    bounds: Any = None
    # what `solve` adds
    source: Source | None = None
    main: str = "loss"  # the column a bare target refers to
    folder: Path | None = None  # where rows are written as they come
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fields: Callable[[Params], dict[str, np.ndarray]] | None = None


def prepare(request: Request) -> Loop:
    """The loop, ready to compile. Raises TypeError or ValueError with a sentence for anything that cannot run."""
    objective, params, dtype = request.objective, request.params, request.precision
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((objective, params))):
        raise TypeError(
            "minimize and solve run on the host, with clocks and files, and cannot be traced by jit, vmap or grad; "
            "call them outside, or use a method's own init and step inside."
        )
    if not isinstance(objective, Objective):
        raise TypeError(
            f"objective: got {type(objective).__name__}; wrap it as LeastSquares({{'name': Term(fn, points)}}), "
            "Composite(...) or Scalar(fn)."
        )
    _check_calls(request)
    seed, every = check_seed(request.seed), _every(request.every)
    budget = Budget() if request.budget is None else request.budget
    if not isinstance(budget, Budget):
        raise TypeError(f"budget: got {budget!r}; write Budget(seconds=20), Budget(steps=500) or both.")
    plan, sampler = as_plan(request.method), as_sampler(request.sampler)
    free, lift = partition(params, request.trainable, request.bounds, dtype)
    bound = cast(bound_objective(objective, lift), dtype)
    rows = _count_rows(bound, free, dtype)
    if dtype == "float64":
        warn_rounding(bound, free, objective, params)
    methods = tuple(floats_to_arrays(m, dtype) for m in plan.stages(bound, free))
    for method in methods:
        _check_method(method, bound, sampler, dtype)
        check_memory(method, _rows_of_a_step(sampler, bound, free, method, seed) or rows or 0, free)
    _check_sampler(sampler, request.source, bound, methods)
    _check_draws(sampler, request.source, bound, methods, seed)
    _check_curvature(bound, free, methods)
    observer = Observer(lift, request.metrics, dtype)
    setup = Setup(
        plan=plan,
        observer=observer,
        target=as_target(request.target, request.main, list(observer.metrics)),
        budget=budget,
        sampler=sampler,
        source=request.source,
        seed=seed,
        dtype=dtype,
        every=every,
        rows_total=rows,
        fingerprint=fingerprint((bound, free, methods, plan, sampler, request.source), seed, dtype, every),
        rows_path=None if request.folder is None else request.folder / "rows.jsonl",
        checkpoint=None if request.checkpoint is None else Path(request.checkpoint),
        callbacks=tuple(request.callbacks),
        progress=request.progress,
    )
    return Loop(bound, free, methods, setup)


def _check_calls(request: Request) -> None:
    """What the driver will call or write later, so that a slip does not end a run that has begun."""
    if not isinstance(request.metrics, Mapping | None):
        raise TypeError(f"metrics: give a dictionary {{name: fn(params)}}; got {request.metrics!r}.")
    for name in request.metrics or {}:
        if not isinstance(name, str) or name in COLUMNS:
            raise ValueError(
                f"metrics: {name!r} must be text, and no column that every row has ({', '.join(COLUMNS)})."
            )
    for name, fn in (*(request.metrics or {}).items(), ("progress", request.progress), ("draw", request.source)):
        if fn is not None and not callable(fn):
            raise TypeError(f"{name}: must be callable; got {fn!r}.")
    if not (isinstance(request.callbacks, Iterable) and all(map(callable, request.callbacks))):
        raise TypeError(f"callbacks: give a list of functions fn(row, params); got {request.callbacks!r}.")
    if not isinstance(request.checkpoint, str | Path | None):
        raise TypeError(f"checkpoint: give the path of a folder; got {request.checkpoint!r}.")
    if request.checkpoint is not None and Path(request.checkpoint).is_file():
        raise ValueError(f"checkpoint={str(request.checkpoint)!r} is a file; give a folder.")


def _count_rows(bound: Objective, free: Params, dtype: str) -> int | None:
    """N, the residual rows of all terms, from shapes alone; None without terms.

    Raises ValueError for a function of the wrong shape, since a matrix per row would be summed along the wrong axis,
    and of lower precision than the run: it has thrown away what the run is about.
    """
    terms: dict[str, Any] = getattr(bound, "parts", {})
    if isinstance(bound, Scalar):
        out = jax.eval_shape(lambda p: bound.fn(p, bound.batch), free)
        if not _is_real(out) or out.size != 1:
            raise ValueError(f"Scalar: fn must return one real number; got {_describe(out)}.")
        _check_precision("Scalar: fn", out, dtype)
    total = 0
    for name, term in terms.items():
        out = jax.eval_shape(lambda p, t=term: _raw_outputs(t, p), free)
        if not _is_real(out) or len(out.shape) not in (1, 2):
            what = "(m,) or (m, c) for all points" if term.coupled else "() or (c,) for one row of points"
            got = _describe(out, () if term.coupled else (0,))
            raise ValueError(f"term {name!r}: its function must return a real array of shape {what}; got {got}.")
        if term.coupled:
            _check_coupled(name, term, out.shape[0])
        if not out.size:
            raise ValueError(f"term {name!r}: its function returns no numbers, shape {out.shape}; leave the term out.")
        _check_precision(f"term {name!r}: its function", out, dtype)
        total += out.size
    return total if terms else None


def _check_precision(who: str, out: Any, dtype: str) -> None:
    if jnp.finfo(out.dtype).bits < jnp.finfo(dtype).bits:
        raise ValueError(
            f"{who} returns {out.dtype} in a {dtype} run, so it converts somewhere; leave out the conversion (an "
            "astype, say), or run with precision='float32'."
        )


def _check_coupled(name: str, term: Term, m: int) -> None:
    """Only its outputs say how many rows a coupled term has."""
    if np.shape(term.weight) not in ((), (m,)):
        raise ValueError(
            f"term {name!r}: its coupled function returns {m} rows, so weight must be a scalar or of shape ({m},); got "
            f"{np.shape(term.weight)}."
        )
    if term.quadrature is not None and np.shape(term.quadrature) != (m,):
        raise ValueError(
            f"term {name!r}: its coupled function returns {m} rows, so quadrature must have shape ({m},); got "
            f"{np.shape(term.quadrature)}."
        )


def _raw_outputs(term: Term, params: Params) -> Any:
    return term.fn(params, term.points) if term.coupled else jax.vmap(lambda x: term.fn(params, x))(term.points)


def _is_real(out: Any) -> bool:
    return hasattr(out, "dtype") and jnp.issubdtype(out.dtype, jnp.floating)


def _describe(out: Any, batch: tuple = ()) -> str:
    if not hasattr(out, "dtype"):
        return f"a {type(out).__name__}"
    return f"shape {out.shape[len(batch) :]}, dtype {out.dtype}"


def _check_method(method: Method, bound: Objective, sampler: Sampler | None, dtype: str) -> None:
    sentence = refusal(method, bound)
    if sentence:
        raise ValueError(sentence)
    if Structure.FIXED in method.needs and sampler is not None and sampler.period(method):
        raise ValueError(
            f"{type(method).__name__} cannot live with points that move; use sampler Fixed instead of "
            f"{type(sampler).__name__}."
        )
    _check_batches(method, sampler)
    if method.second_order and dtype == "float32":
        warn(
            f"{type(method).__name__} in float32 stalls near a relative error of 1e-3 to 1e-4, since it lives on "
            "differences below float32 resolution; use precision='float64'.",
        )


def _rows_of_a_step(sampler: Sampler | None, bound: Any, free: Params, method: Method, seed: int) -> int | None:
    """Residual rows of one batch where batches never grow, from shapes alone; None where a step may see all rows."""
    if sampler is None or sampler.check(bound) or sampler.period(method):
        return None
    batches = sampler.batches(bound, sampler.start(bound), seed)
    return None if batches is None else dims(batches.draw(bound, jax.random.key(0), 0), free).rows


def _check_batches(method: Method, sampler: Sampler | None) -> None:
    if sampler is None or not sampler.batching:
        return
    mine, theirs = type(method).__name__, type(sampler).__name__
    if Structure.FINITE_SUM in method.needs:
        raise ValueError(f"{mine} draws its own batches from all rows; use it without the sampler {theirs}.")
    if Structure.FIXED in method.needs or not method.batchable:
        raise ValueError(
            f"{mine} compares gradients of one step with those of the last, which the batches of {theirs} make "
            "incomparable; use sampler Fixed, or a method for batches such as Adam, SGD or LevenbergMarquardt."
        )


def as_sampler(given: Any) -> Sampler | None:
    """A sampler from a sampler, its class or its name; None as it is. Raises TypeError or LookupError, a sentence."""
    if isinstance(given, str):
        given = find("samplers", given).load()
    if isinstance(given, type) and issubclass(given, Sampler):
        given = given()
    if given is not None and not isinstance(given, Sampler):
        raise TypeError(f"sampler: got {given!r}; give PointGuard(), another of ravine.sampling, or a name: 'guard'.")
    return given


def _check_sampler(sampler: Sampler | None, source: Source | None, bound: Objective, methods: tuple) -> None:
    if sampler is None:
        return
    sentence = sampler.check(bound)
    if sentence:
        raise ValueError(sentence)
    acts = not sampler.batching and any(sampler.period(m) for m in methods)
    if acts and source is not None and not sampler.draws(bound, source):
        raise ValueError(
            f"{type(sampler).__name__} has nothing to move: no term's points can be drawn anew (measured data, coupled "
            "terms and quadrature rules keep theirs); use sampler Fixed."
        )
    if source is None and acts:
        raise ValueError(
            f"{type(sampler).__name__} has no source of fresh points here; pass draw=fn(seed, sizes) -> "
            "{term: Points} to minimize, or use ravine.solve, where the problem draws them."
        )


def _check_draws(sampler: Sampler | None, source: Source | None, bound: Objective, methods: tuple, seed: int) -> None:
    """One draw thrown away, of the terms that the sampler and the last look at fresh points will ask for."""
    if source is None:
        return
    acts = sampler is not None and not sampler.batching and any(sampler.period(m) for m in methods)
    names = sampler.draws(bound, source) if sampler is not None and acts else []
    if isinstance(bound, LeastSquares):
        names = list(dict.fromkeys([*names, *movable(bound, source)]))
    if names:
        terms: dict[str, Any] = getattr(bound, "parts", {})
        drawn(source, seed, {name: terms[name].n for name in names}, bound)


def _check_curvature(bound: Objective, free: Params, methods: tuple) -> None:
    if isinstance(bound, Composite) and any(Structure.COMPOSITE in m.needs for m in methods):
        sentence = curvature_is_semidefinite(bound, free)
        if sentence:
            raise ValueError(sentence)


def _every(every: Any) -> int | None:
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise ValueError(f"every={every!r}: must be a positive whole number of steps.")
    return every
