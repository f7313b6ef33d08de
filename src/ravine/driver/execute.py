"""Restore, compile, run, judge, and hand over a Run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..records import FORMAT, dumps, write_text
from . import checkpoint as ckpt
from .loop import Loop
from .persist import restore
from .prepare import Request, prepare
from .provenance import provenance
from .run import Run
from .setup import End
from .source import code
from .verdict import Verdict, judge


def execute(request: Request) -> Run:
    """Carry out a request under the precision scope the caller has opened."""
    loop = prepare(request)
    finished = _restore(loop)
    if finished is not None:
        verdict = Verdict(finished["status"], f"Already finished. {finished['reason']}", finished["suggestion"])
        return _hand_over(loop, request, verdict, finished["returned"], loop.watch.returned(loop.standing()))
    if request.folder is not None:
        announce(request.folder, request.summary)
    end = _run(loop)
    params, returned, q = loop.standing(), loop.k, None
    if loop.compiled:
        # A target is met by the last iterate; an earlier one may miss it.
        params, returned, q = loop.watch.final(loop.objective, params, loop.k, swap=end.cause != "target")
    loop.close(params)
    verdict = judge(loop, end, q, returned)
    loop.watch.settle(params, q)
    loop.save(verdict._asdict() | {"returned": returned})
    run = _hand_over(loop, request, verdict, returned, params)
    if request.folder is not None:
        run.save(request.folder)
    return run


def announce(folder: Path, summary: Mapping[str, Any]) -> None:
    """A run.json before the first step, so that a run killed at any moment can be read and resumed."""
    told = {"status": "running", "reason": "Still running, or ended from outside before it could say why."}
    write_text(folder / "run.json", dumps({"format": FORMAT, "code": code(), **summary, **told}, indent=1))


def _restore(loop: Loop) -> Mapping[str, Any] | None:
    """Take up the checkpoint, if there is one; the stored verdict where nothing is left to do."""
    folder = loop.setup.checkpoint
    saved = ckpt.latest(folder, loop.setup.fingerprint) if folder is not None and folder.is_dir() else None
    if saved is None:
        return None
    restore(loop, saved)
    finished = saved.meta["finished"]
    if finished is None or _goes_on(loop, finished["status"]):
        loop.reopen()
        return None
    return finished


def _goes_on(loop: Loop, status: str) -> bool:
    """Whether a run that ended has something left to do: more budget, or a target that it has not met."""
    if status == "reached_target":
        return not loop.setup.target.met(loop.rows[-1]) and not loop.spent()
    return status == "interrupted" or (status == "budget" and not loop.spent())


def _run(loop: Loop) -> End:
    try:
        loop.compile()
    except KeyboardInterrupt:
        return End("interrupted")
    return loop.run()


def _hand_over(loop: Loop, request: Request, verdict: Verdict, returned: int, params: Any) -> Run:
    setup = loop.setup
    full = setup.observer.lift(params)
    methods = loop.methods
    summary = {
        "name": None,
        "problem": None,
        "method": "+".join(type(m).__name__ for m in methods),
        "seed": setup.seed,
        "model": None,
        "counts": loop.totals | {"sampler": loop.watch.sweeps, "checks": loop.checks},
        "main_metric": next(iter(setup.observer.metrics), None),
        "parameters": int(sum(np.size(x) for x in jax.tree.leaves(loop.params))),
        "rows": setup.rows_total,
        "target": setup.target.limits or None,
        "budget": setup.budget.describe(),
        "returned_step": returned,
        "q": loop.watch.q,
        "points_moved": loop.watch.moves,
        "notes": loop.watch.notes,
        "command": None,
        "configuration": {"methods": [repr(m) for m in methods], "sampler": repr(setup.sampler), "every": setup.every},
        **request.summary,
    }
    return Run(
        params=full,
        status=verdict.status,
        reason=verdict.reason,
        suggestion=verdict.suggestion,
        rows=loop.rows,
        steps=loop.k,
        seconds=loop.clock.seconds,
        cpu_seconds=loop.clock.cpu,
        wall_seconds=loop.clock.wall,
        compile_seconds=loop.compile_seconds,
        provenance=provenance(setup.dtype, setup.seed),
        summary=summary,
        fields=None if request.fields is None else request.fields(full),
    )
