"""What the runs of a page were made with: the facts that all share, and those in which they differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from . import wording
from .load import RunRecord


def provenance(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Facts that all runs share, and a table of those in which they differ: words, and the number they stand for."""
    known = [run for run in runs if run.method]
    facts = [{"ravine": run.meta.get("ravine"), **_facts(run)} for run in known]
    keys = list(dict.fromkeys(k for fact in facts for k in fact))
    shared = [k for k in keys if len({json.dumps(fact.get(k), sort_keys=True) for fact in facts}) == 1]
    return {
        "shared": [(k, _plain(facts[0].get(k))) for k in shared],
        "differing": [k for k in keys if k not in shared],
        "rows": [
            (run, {k: (_plain(fact.get(k)), _number(fact.get(k))) for k in keys})
            for run, fact in zip(known, facts, strict=True)
        ],
    }


def _facts(run: RunRecord) -> dict[str, Any]:
    meta = run.meta
    own = {"model": meta.get("model"), "parameters": meta.get("parameters"), "residual rows": meta.get("rows")}
    own |= {"imposed exactly": meta.get("imposes"), "budget": meta.get("budget"), "target": meta.get("target")}
    own |= {"error of the reference": meta.get("reference_error")}
    return own | (meta.get("provenance") or {})


def _number(value: Any) -> float | None:
    """What a column of numbers is sorted and saved by."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _plain(value: Any) -> str:
    """A recorded value in words: lists with commas, mappings as `key value`, nothing as a dash."""
    if value is None or value in ([], {}, ""):
        return wording.DASH
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None) or wording.DASH
    if isinstance(value, list):
        return ", ".join(_plain(v) for v in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return wording.integer(value)
    return wording.number(value) if isinstance(value, float) else " ".join(str(value).split())
