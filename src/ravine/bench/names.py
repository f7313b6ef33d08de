"""What problems and methods are called where runs stand side by side: with their options where these tell two apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from . import tuned


def digest(content: Any) -> str:
    """A short name of JSON content, the same whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def full_names(meta: Mapping[str, Any]) -> tuple[str, str]:
    """Problem and method of a run.json with all that was set on them: poisson2d (model.width=8), lm (lm.damping=1)."""
    task, whole = meta.get("task"), meta.get("configuration")
    if task:
        options = {**task["problem_options"], **{f"model.{k}": v for k, v in task["model_options"].items()}}
        sampler = {} if task.get("sampler") is None else {"sampler": task["sampler"]}
        parts = {f"{part}.{k}": v for part, values in task["settings"].items() for k, v in values.items()}
        parts = tuned.by_hand(parts, meta["method"], task.get("tuning"))
        return _with(meta["problem"], options), _with(meta["method"], sampler | parts)
    # A call from Python: equal configurations get equal names.
    whole = whole if isinstance(whole, dict) else {}
    of_problem = digest([whole.get(k, meta.get(k)) for k in ("problem", "model", "sizes")])[:6]
    of_method = digest([whole.get(k, meta.get(k)) for k in ("method", "sampler", "precision")])[:6]
    return f"{meta.get('problem')} [{of_problem}]", f"{meta.get('method')} [{of_method}]"


def _with(name: str, options: Mapping[str, Any]) -> str:
    return _joined(name, [f"{k}={_spelled(v)}" for k, v in sorted(options.items())])


def _spelled(value: Any) -> str:
    """A number is written in one way, so that 1e-3 and 0.001, which are one key, are one name."""
    try:
        return str(value) if isinstance(value, bool) else repr(float(value)).removesuffix(".0")
    except (TypeError, ValueError):
        return str(value)


def _joined(name: str, options: Sequence[str]) -> str:
    return f"{name} ({', '.join(options)})" if options else name


def _options(label: str) -> list[str]:
    return label.partition(" (")[2].removesuffix(")").split(", ") if " (" in label else []


def told_apart(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records with `instance` and `rival`, their full names, as short as tells them apart, and tuned methods not
    named as the others. Of a record are read also `problem`, `method` and `tuning`."""
    made = [dict(record) for record in records]
    mixed = len({tuned.name("", record.get("tuning")) for record in records}) > 1
    for label, plain in (("instance", "problem"), ("rival", "method")):
        found: dict[Any, set[str]] = {}
        for record in records:
            found.setdefault(record[plain], set()).add(record[label])
        shared = {name: set.intersection(*(set(_options(full)) for full in own)) for name, own in found.items()}
        for record in made:
            name = record[plain]
            if name and len(found[name]) == 1:
                record[label] = tuned.name(name, record.get("tuning")) if mixed and label == "rival" else name
            elif name and record[label].startswith(f"{name} ("):
                record[label] = _joined(name, [o for o in _options(record[label]) if o not in shared[name]])
    return made
