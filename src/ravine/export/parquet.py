"""Curves of runs as one table: a line per point per run, in the columns that benchopt's tools read.

    objective_name, dataset_name, solver_name, idx_rep     which curve; idx_rep is the seed
    stop_val, time                                         steps and steady seconds of the point
    objective_value                                        error on the main metric; NaN for a run that is a miss
    objective_<metric>, objective_loss, ...                what the row of the run says, as it was written
    p_dataset_*, p_solver_*, p_obj_*                       options: problem and model; method and sampler; run
    row_*                                                  the other entries of the row, and row_work
    ravine_*                                               every entry of the run's record (`bench.record`)

A run that failed or is not finished is a miss (`bench.results`), whatever it had reached: its `objective_value` is NaN
throughout, and the other columns keep what was measured. A run without rows is one line, at step 0 with no time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import __version__
from ..bench.curves import work
from ..bench.record import read_rows, read_run
from ..bench.results import FINISHED
from ..bench.task import is_rival
from ..records import dumps
from ..registry import entries
from .sources import Source, collect

INSTALL = "pip install 'pyarrow>=18'"
OBJECTIVE = "Error against the solution"
_CONFIGURATION = "_meta_json"  # where benchopt keeps the settings of its plots; it fails on a file without metadata
_RENAMED = {"step": "stop_val", "seconds": "time", "loss": "objective_loss", "grad_norm": "objective_grad_norm"}


class NoPyarrow(ValueError):
    """pyarrow is absent, as a sentence with the command that installs it."""


def write_parquet(paths: Sequence[Path | str], out: Path | str) -> tuple[int, int]:
    """Write the curves of comparisons, runs and tables of results to the file `out`: (number of runs, of lines).

    Raises ValueError, one sentence: pyarrow is absent, a path is no result of ravine, or two runs are of one problem,
    method and seed.
    """
    sources = collect(paths)
    _check_distinct(sources)
    arrow = _pyarrow()
    lines = [line for source in sources for line in points(source)]
    names = list(dict.fromkeys(name for line in lines for name in line))
    table = arrow.table({name: _column(arrow, [line.get(name) for line in lines]) for name in names})
    table = table.replace_schema_metadata({_CONFIGURATION: "{}", "ravine": __version__})
    import_module("pyarrow.parquet").write_table(table, str(out))
    return len(sources), len(lines)


def _pyarrow() -> Any:
    try:
        return import_module("pyarrow")
    except ImportError:
        raise NoPyarrow(f"export parquet: needs pyarrow, which is not installed: {INSTALL}") from None


def _check_distinct(sources: Sequence[Source]) -> None:
    """benchopt takes lines of one (dataset, solver, repetition) for one curve."""
    seen: dict[tuple, Source] = {}
    for source in sources:
        names = (source.record["instance"], source.record["rival"], source.record["seed"])
        if (other := seen.setdefault(names, source)) is not source:
            raise ValueError(
                f"{source.where} and {other.where} are both {names[1]} on {names[0]} with seed {names[2]}, and would "
                "be read as one curve; export them to files of their own."
            )


def points(source: Source) -> list[dict[str, Any]]:
    """The lines of one run, in order of steps."""
    record = source.record
    whole = _identity(record) | _system(record) | _provenance(record)
    miss = record["status"] == "failed" or record["status"] not in FINISHED
    if source.folder is None:  # only the record is left, which says where the run ended
        end = {"stop_val": record.get("steps") or 0, "time": record.get("seconds"), "row_work": record.get("work")}
        return [whole | {"objective_value": math.nan if miss else record["error"]} | end]
    rows = [] if record["status"] == "unreadable" else read_rows(source.folder).objects
    if not rows:
        return [whole | {"objective_value": math.nan, "stop_val": 0, "time": None}]
    lines = []
    for row, spent in zip(rows, _work(source.folder, rows), strict=True):
        value = math.nan if miss else row.get(f"metrics.{record['metric']}")
        named = {_name(column): entry for column, entry in row.items()}
        lines.append(whole | {"objective_value": value} | named | {"row_work": spent})
    return lines


def _work(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    try:
        return [float(done) for done in work(rows, read_run(folder).get("rows"))]
    except ValueError:  # killed before it had written how many rows a Jacobian has
        return [None] * len(rows)


def _name(column: str) -> str:
    if column.startswith("metrics."):
        return f"objective_{column.removeprefix('metrics.')}"
    return _RENAMED.get(column, f"row_{column}")


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """Which curve, and the options behind it, named as benchopt names them."""
    about = {
        "base_seed": 0,  # benchopt's own, which ravine does not use: the seed of a run is its repetition
        "objective_name": OBJECTIVE,
        "obj_description": "Main metric against the solution of the problem (relative L2), on ravine's steady clock.",
        "dataset_name": record["instance"],
        "solver_name": record["rival"],
        "solver_description": _about_method(record["method"]),
        "idx_rep": record["seed"],
        "sampling_strategy": "Iteration",  # benchopt's word for curves over steps
        "run_date": record["date"] or "",
    }
    problem = record.get("problem_options") or {}
    model = {f"model.{k}": v for k, v in (record.get("model_options") or {}).items()}
    about |= {f"p_dataset_{k}": _plain(v) for k, v in {**problem, **model}.items()}
    for part, options in (record.get("settings") or {}).items():
        prefix = "" if part == record["method"] else f"{part}."
        about |= {f"p_solver_{prefix}{k}": _plain(v) for k, v in options.items()}
    if record.get("sampler") is not None:
        about["p_solver_sampler"] = record["sampler"]
    whole = {name: record.get(name) for name in ("metric", "budget", "target", "precision")}
    return about | {f"p_obj_{name}": _plain(value) for name, value in whole.items()}


def _about_method(method: Any) -> str:
    table = entries("rivals" if is_rival(str(method)) else "methods")
    known = next((e for e in table.values() if method in (e.name, e.class_name)), None)
    return known.summary if known else ""


def _plain(value: Any) -> Any:
    """Options come as text: 1e-3 is a number again. What is nested stays text."""
    if isinstance(value, Mapping | list):
        return dumps(value)
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _system(record: Mapping[str, Any]) -> dict[str, Any]:
    """The machine in the columns that benchopt's page shows; an entry that ravine does not keep is empty."""
    found = record.get("provenance") or {}
    name, _, architecture = str(found.get("platform") or "").partition(" ")
    device = str(found.get("device") or "")
    return {
        "platform": name,
        "platform-architecture": architecture,
        "platform-release": "",
        "system-cpus": found.get("cores"),
        "system-processor": found.get("cpu"),
        "version-cuda": None if device.startswith("cpu") else device or None,
        "version-numpy": found.get("numpy"),
        "version-scipy": found.get("scipy"),
    }


def _provenance(record: Mapping[str, Any]) -> dict[str, Any]:
    """Every entry of the record under its own name, `versions` and the machine one by one; nested ones as JSON."""
    flat = {k: v for k, v in record.items() if k not in ("versions", "provenance", "ravine")}
    flat["version"] = record.get("ravine")
    flat |= {f"version_{k}": v for k, v in (record.get("versions") or {}).items()}
    flat |= {
        k: v
        for k, v in (record.get("provenance") or {}).items()
        if k not in flat and f"version_{k}" not in flat and k != "ravine"
    }
    return {f"ravine_{k}": dumps(v) if isinstance(v, Mapping | list | tuple) else v for k, v in flat.items()}


def _column(arrow: Any, values: Iterable[Any]) -> Any:
    """One Arrow array; None is null. Whole numbers stay whole; what is of several kinds becomes text."""
    values = list(values)
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return arrow.array(values, arrow.bool_() if kinds else arrow.string())
    if kinds == {int}:
        return arrow.array(values, arrow.int64())
    if kinds <= {int, float}:
        return arrow.array([None if v is None else float(v) for v in values], arrow.float64(), from_pandas=False)
    return arrow.array([None if v is None else str(v) for v in values], arrow.string())
