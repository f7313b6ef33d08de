"""One line of the results table: a run with everything that determined it, what came out, and where.

The key of a record is a hash of what determines the run: problem and its options, options of the model, method,
settings, seed, budget, target, sampler, precision, and version and commit of ravine. It can be had from a task before
the run (`key_of`), so a table knows what is still to be computed. It holds neither the machine nor the versions of
other packages: those are in the record.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..driver.budget import Budget
from ..driver.source import commit as own_commit
from ..driver.source import version as own_version
from ..records import decode_row, dumps
from ..registry import find
from . import tuned
from .curves import AXES, NOTHING, TARGETS, Curve, curve, main_metric, reached
from .json_lines import Found, read_objects
from .names import digest, full_names
from .results import FINISHED, Result
from .task import Task, canonical

FORMAT = 1
PRECISION = "float64"  # of a task that does not name one
_NOT_OF_THE_RUN = ("folder", "command")  # entries of a task that do not change what is computed
_VERSIONS = ("python", "jax", "jaxlib", "numpy", "scipy", "equinox", "optax", "xla_flags")
_OVERSPENT = 1.1


def key_of(task: Task, version: str | None = None, commit: str | None = None) -> str:
    """The key of the record that `task` will leave; by default for the ravine that is running."""
    described = {k: v for k, v in dataclasses.asdict(task).items() if k not in _NOT_OF_THE_RUN}
    return _key(described, version or own_version("ravine"), commit or own_commit())


def _key(task: Mapping[str, Any], version: str | None, commit: str | None) -> str:
    plain = {k: _plain(v) for k, v in task.items() if k != "tuning"}
    plain["method"] = _method(task["method"])
    plain["problem"] = _registered("problems", task["problem"])
    plain["budget"] = Budget.parse(task["budget"]).describe()
    plain["sampler"] = None if task.get("sampler") is None else _registered("samplers", task["sampler"])
    rule = tuned.identity(task.get("tuning"))  # {} where nothing was tuned: such a key is that of a table without rules
    return digest({"precision": PRECISION, **plain, **rule, "ravine": version, "commit": commit})


@functools.cache
def _registered(kind: str, name: str) -> str:
    return find(kind, name).name


_method = functools.cache(canonical)


def _plain(value: Any) -> Any:
    """Options come as text: 1e-3 and 0.001 are one number."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    try:
        return value if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value


def read_run(folder: Path | str) -> dict[str, Any]:
    """run.json. Raises ValueError, one sentence, if it cannot be read."""
    path = Path(folder) / "run.json"
    try:
        meta = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"`{folder}` is not a run: its run.json cannot be read ({type(error).__name__}).") from None
    if not isinstance(meta, dict) or "status" not in meta:
        raise ValueError(f"`{path}` is not a record of a run: it has no status.")
    return meta


def read_rows(folder: Path | str) -> Found:
    """The rows, non-finite numbers as floats, and notes. Raises ValueError if a line is damaged."""
    path = Path(folder) / "rows.jsonl"
    if not path.is_file():
        return Found([], ["rows.jsonl is missing."])
    rows, notes = read_objects(path)
    return Found([decode_row(row) for row in rows], notes)


def cut_short(meta: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Why what a finished run reached is not known, a sentence; None where it is, or where the run has no result."""
    ended = meta["status"] in FINISHED and meta["status"] != "failed"
    if ended and (not rows or rows[-1].get("status") != "closing"):
        return "rows: the run is finished, but the closing row with what it returned is not there."
    return None


def _curve(meta: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Curve:
    if broken := cut_short(meta, rows):
        raise ValueError(broken)
    if meta["status"] == "failed" or not rows:
        return NOTHING
    metric = main_metric(meta, rows)
    if metric is None:
        raise ValueError("rows: there is no metric, so there are no errors to compare; a loss is not an error.")
    return curve(rows, metric, float(meta.get("compile_seconds") or 0.0), meta.get("rows"))


def record_of(folder: Path | str, targets: Sequence[float] = TARGETS) -> dict[str, Any]:
    """The record of the run in `folder`, also of one that failed or is not finished.

    A run whose rows are damaged has the status `unreadable` and the reason. Raises ValueError, one sentence, if its
    run.json cannot be read. Times are recorded to `targets`, and to the error at which the run was to stop.
    """
    meta, broken = read_run(folder), None
    try:
        rows, notes = read_rows(folder)
        run = _curve(meta, rows)
    except ValueError as error:
        rows, notes, run, broken = [], [], NOTHING, str(error)
    determined, metric = _determined(meta), main_metric(meta, rows)
    own = error_target(determined["target"], metric)
    targets = targets if own is None else sorted({*targets, own}, reverse=True)
    found = meta.get("provenance") or {}
    made = found or meta.get("code") or {}  # a run that was ended from outside has said only which code makes it
    if not made:
        notes = [*notes, "The run left no provenance: version and commit are those of the program that read it."]
    version = made.get("ravine") or own_version("ravine")
    commit = made["commit"] if "commit" in made else own_commit()
    return {
        "format": FORMAT,
        "key": _key_of_run(meta, version, commit),
        **determined,
        "status": "unreadable" if broken else meta["status"],
        "reason": broken or meta.get("reason"),
        "suggestion": meta.get("suggestion"),
        **_outcome(meta, rows, run, metric, targets),
        "ravine": version,
        "commit": commit,
        "dtype": found.get("dtype"),
        "device": found.get("device"),
        "machine": _machine(found),
        "versions": {k: found[k] for k in _VERSIONS if k in found},
        "date": found.get("date") or _written(Path(folder) / "run.json"),
        "command": meta.get("command"),
        "notes": [*(meta.get("notes") or []), *notes, *_overspent(meta)],
    }


def _machine(found: Mapping[str, Any]) -> str:
    words = [found.get("platform"), found.get("cpu"), found.get("cores") and f"{found['cores']} cores"]
    words += [found.get("device") and f"{found.get('devices', 1)} x {found['device']}"]
    return ", ".join(word for word in words if word)


def _key_of_run(meta: Mapping[str, Any], version: str | None, commit: str | None) -> str:
    if meta.get("task"):
        try:
            return _key(meta["task"], version, commit)
        except (LookupError, ValueError, TypeError):  # a name or an option that this ravine does not know any more
            return digest({"task": meta["task"], "ravine": version, "commit": commit})
    if meta.get("configuration"):
        return digest({"configuration": meta["configuration"], "ravine": version, "commit": commit})
    return digest(meta)  # parts defined outside ravine: nothing tells whether another run is the same


def _determined(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What determined the run. `instance` and `rival` name problem and method with all that was set on them."""
    task, whole = meta.get("task"), meta.get("configuration")
    whole = whole if isinstance(whole, dict) else {}
    instance, rival = full_names(meta)
    return {
        "instance": instance,
        "rival": rival,
        "problem": meta.get("problem"),
        "problem_options": (task or {}).get("problem_options"),
        "model": meta.get("model"),
        "model_options": (task or {}).get("model_options"),
        "method": meta.get("method"),
        "settings": (task or {}).get("settings"),
        "tuning": (task or {}).get("tuning") or None,
        "sampler": (task or {}).get("sampler"),
        "configuration": meta.get("configuration"),
        "seed": meta.get("seed"),
        # A run that died early has written its task and nothing else, and must stay comparable.
        "budget": Budget.parse(task["budget"]).describe() if task else meta.get("budget"),
        "target": task["target"] if task else meta.get("target"),
        "precision": (task or {}).get("precision") or whole.get("precision") or PRECISION,
    }


def _outcome(
    meta: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    run: Curve,
    metric: str | None,
    targets: Sequence[float],
) -> dict[str, Any]:
    last = rows[-1] if rows else {}
    seconds, compiled = meta.get("seconds", last.get("seconds")), meta.get("compile_seconds")
    floor, stopped = _floor(meta, metric)
    # An error below that of the reference cannot be measured: such a target is a miss for everybody.
    able = {t: t >= _reference_error(meta, metric) for t in targets}
    # An axis that nobody read has no times at all: neither 0 nor a miss would be true.
    axes = [axis for axis in AXES if np.isfinite(run.axis(axis)).all()]
    return {
        "metric": metric,
        "error": run.final,
        "start": run.start,
        "floor": floor,
        "stopped": stopped,
        "reference_error": meta.get("reference_error"),
        "final": meta.get("final"),
        "times": {
            axis: {repr(float(t)): reached(run, t, axis) if able[t] else math.inf for t in targets} for axis in axes
        },
        "seconds": seconds,
        "compile_seconds": compiled,
        "total_seconds": None if seconds is None or compiled is None else seconds + compiled,
        "wall_seconds": meta.get("wall_seconds"),
        "cpu_seconds": meta.get("cpu_seconds", last.get("cpu_seconds")),
        "peak_memory": meta.get("peak_memory"),
        "work": float(run.work[-1]) if run.work.size and math.isfinite(run.work[-1]) else None,
        "steps": meta.get("steps", last.get("step")),
        "parameters": meta.get("parameters"),
        "residual_rows": meta.get("rows"),
    }


def _reference_error(meta: Mapping[str, Any], metric: str | None) -> float:
    """How far the reference itself may be off; 0 for an exact solution."""
    estimate = meta.get("reference_error")
    return float((estimate.get(metric) if isinstance(estimate, Mapping) else estimate) or 0.0)


def _floor(meta: Mapping[str, Any], metric: str | None) -> tuple[float, bool]:
    """The error below which runs count as equal, and whether the run ended at a target on something else."""
    limits, target = meta.get("target") or {}, error_target(meta.get("target"), metric)
    other = bool(limits) and target is None
    return max(_reference_error(meta, metric), target or 0.0), other and meta["status"] == "reached_target"


def error_target(target: Any, metric: str | None) -> float | None:
    """The error at which a run stops, from its `target`: a number, or a mapping with the main metric alone; or None."""
    if isinstance(target, Mapping):
        only = len(target) == 1 and next(iter(target)).removeprefix("metrics.") == metric
        return float(next(iter(target.values()))) if only else None
    return None if target is None else float(target)


def _overspent(meta: Mapping[str, Any]) -> list[str]:
    """A step cannot be interrupted, so a method with long steps spends more than it was given."""
    given, spent = (meta.get("budget") or {}).get("seconds"), meta.get("seconds")
    if not given or not spent or spent <= _OVERSPENT * given:
        return []
    return [f"It took {spent:.3g} s of a budget of {given:.3g} s: its last step was long."]


def _written(path: Path) -> str:
    moment = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    return moment.isoformat(timespec="seconds")


def result_of(record: Mapping[str, Any]) -> Result:
    """What a record contributes to statistics. Raises ValueError if it has no seed: its pairs cannot be known."""
    limit = record.get("target")
    if record.get("seed") is None:
        raise ValueError(f"record {record['key']} ({record['instance']}, {record['rival']}) has no seed.")
    return Result(
        problem=str(record["instance"]),
        method=str(record["rival"]),
        seed=int(record["seed"]),
        status=str(record["status"]),
        final=_number(record["error"]),
        times={axis: {float(t): _number(x) for t, x in of.items()} for axis, of in record["times"].items()},
        seconds=_number(record["seconds"]),
        compile_seconds=_number(record["compile_seconds"]),
        total=_number(record["total_seconds"]),
        work=_number(record["work"]),
        steps=_number(record["steps"]),
        memory=math.nan if (peak := record.get("peak_memory")) is None else peak / 2**20,
        start=_number(record["start"]),
        floor=_number(record["floor"]),
        stopped=bool(record["stopped"]),
        clock=str(record["machine"]),
        budget=dumps(record["budget"]) + ("" if limit is None else f", target {dumps(limit)}"),
        timed=bool({"seconds", "wall"} & set(record["budget"] or ())),
        reason=str(record["reason"] or ""),
    )


def results_of(records: Sequence[Mapping[str, Any]]) -> list[Result]:
    return [result_of(record) for record in records]


def _number(value: Any) -> float:
    """A number of a record, as written or as read back; NaN where there is none."""
    return math.nan if value is None else float(value)
