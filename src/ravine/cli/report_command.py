"""`ravine report`: one HTML file, and the table of statuses, from any run and comparison folders."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from .parse import Usage
from .solve_command import show


def run(request: argparse.Namespace) -> int:
    from ..report import plain_summary, summary, write_report

    paths = [Path(name) for name in request.runs]
    if request.out is not None:
        check_out(Path(request.out), "report.html", ".html")
    try:
        report = write_report(paths, beside(paths, "report.html") if request.out is None else request.out)
    except ValueError as error:
        raise Usage(str(error)) from None
    if request.json:
        print(json.dumps({"report": str(report), "runs": [str(p) for p in paths]}))
    else:
        show(paths, summary, plain_summary)
        print(f"\nreport  {report}")
    return 0


def check_out(out: Path, example: str, ending: str) -> None:
    """Raises Usage if `out` cannot be written as a file, or does not end so: any other file may be a record of runs.
    `example` is a name for one."""
    if out.is_dir():
        raise Usage(f"--out {out}: is a folder; name a file, such as {out / example}.")
    if not out.parent.is_dir():
        raise Usage(f"--out {out}: there is no folder {out.parent}.")
    if out.suffix != ending:
        raise Usage(f"--out {out}: must end in {ending}, by which other programs know the format.")


def beside(paths: list[Path], name: str) -> Path:
    """The file `name` inside the one folder, or inside the folder that holds them all."""
    if len(paths) == 1:
        return paths[0] / name
    parent = Path(os.path.commonpath([p.resolve().parent for p in paths]))
    cwd = Path.cwd()
    return (parent.relative_to(cwd) if parent.is_relative_to(cwd) else parent) / name
