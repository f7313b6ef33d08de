"""`ravine export`: curves for other tools (parquet), and a benchmark folder for benchopt."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ..bench.task import refusal
from ..checks import nearest
from ..export.choice import choose
from .parse import EXPORTS, Usage
from .report_command import beside, check_out

SUFFIX = ".parquet"


def run(request: argparse.Namespace) -> int:
    if request.kind not in EXPORTS:
        raise Usage(f"export {request.kind}: there is no such kind; {nearest(request.kind, EXPORTS)}")
    try:
        written = _parquet(request) if request.kind == "parquet" else _benchopt(request)
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        raise Usage(reason) from None
    print(json.dumps(written) if request.json else "\n".join(f"{k:<9} {v}" for k, v in written.items()))
    return 0


def _parquet(request: argparse.Namespace) -> dict[str, str | int]:
    from ..export.parquet import write_parquet

    if request.methods is not None:
        raise Usage("--methods: goes with `export benchopt`; a parquet file holds all methods of the runs it is given.")
    paths = [Path(word) for word in request.words]
    out = Path(request.out) if request.out is not None else _beside(paths)
    if request.out is not None:
        check_out(out, f"curves{SUFFIX}", SUFFIX)
    runs, lines = write_parquet(paths, out)
    return {"file": str(out), "runs": runs, "points": lines}


def _beside(paths: Sequence[Path]) -> Path:
    if not paths:
        raise Usage("export parquet: name the folder of a comparison or run, or a results.jsonl.")
    return beside([path.parent if path.is_file() else path for path in paths], f"curves{SUFFIX}")


def _benchopt(request: argparse.Namespace) -> dict[str, str | int]:
    if request.out is not None:
        raise Usage("--out: goes with `export parquet`; write `ravine export benchopt DIR`.")
    if not request.words:
        raise Usage("export benchopt: name a new or empty folder, such as benchmark_pinn.")
    folder, *problems = request.words
    if len(problems) > 1:
        raise Usage(f"export benchopt: write several problems with commas, {','.join(problems)}.")
    chosen = [name for text in problems for name in _names("PROBLEM", text)]
    methods = [] if request.methods is None else _names("--methods", request.methods)
    choose(Path(folder), chosen, methods)  # wrong names are answered before JAX is loaded

    from ..export.benchmark import write_benchmark

    written = write_benchmark(folder, chosen, methods)
    return {"folder": folder, "datasets": len(written.problems), "solvers": len(written.methods)}


def _names(option: str, text: str) -> list[str]:
    if not (names := [part.strip() for part in text.split(",") if part.strip()]):
        raise Usage(f"{option} {text!r}: names nothing; separate several by commas.")
    return names
