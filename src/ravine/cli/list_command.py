"""`ravine list`: what exists, from the export tables, without JAX."""

from __future__ import annotations

import argparse
import json

from ..checks import nearest
from ..registry import KINDS, entries
from ..rivals.library import is_installed
from .parse import Usage


def run(request: argparse.Namespace) -> int:
    kind = request.kind
    if kind is not None and kind not in KINDS:
        raise Usage(f"list {kind}: there is no such kind; {nearest(kind, KINDS)}")
    tables = {k: entries(k) for k in (KINDS if kind is None else (kind,))}
    if request.json:
        rows = {k: [entry._asdict() for entry in table.values()] for k, table in tables.items()}
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    for i, (k, table) in enumerate(tables.items()):
        print("\n" * bool(i) + k)
        width = max((len(name) for name in table), default=0)
        for entry in table.values():
            absent = "" if k != "rivals" or is_installed(entry.name) else "  (not installed)"
            print(f"  {entry.name:<{width}}  {entry.summary}{absent}")
    if kind in (None, "methods"):
        print("\nauto chooses a method from the objective; stages are written adam:500+lm.")
        print("A learning rate may be a schedule, --set adam.learning_rate=cosine:1e-2,1e-5,20000, and any method be")
        print("averaged, --set adam.average=ema:0.999; `ravine solve --help` names the kinds.")
    return 0
