"""The table of statuses for a terminal, and as plain text for logs and files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from . import wording
from .load import RunRecord, collect

COLOURS = {"good": "green", "warn": "yellow", "bad": "red", "plain": "default"}
WIDE = 150  # columns from which the reason has room inside the table
PLAIN_WIDTH = 110


class Summary:
    """A rich renderable. On a wide terminal reasons stand in the table, on a narrow one below it."""

    def __init__(self, runs: Sequence[RunRecord], signs: bool = True):
        self.runs = list(runs)
        self.signs = signs

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= WIDE
        yield self._table(wide)
        if not wide:
            yield from self._reasons()

    def _table(self, wide: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
        table.add_column("status", no_wrap=True)
        if wide:
            table.add_column("reason", ratio=1, min_width=30)
        for name in ("problem", "method"):
            table.add_column(name, overflow="fold")
        known = any(run.value("peak_memory") is not None for run in self.runs)
        for name in ("seed", "error", "loss", "steps", "seconds", "compile", *(["MiB"] if known else [])):
            table.add_column(name, justify="right", no_wrap=True)
        for run in self.runs:
            reason = [Text(_sentences(run))] if wide else []
            table.add_row(self._status(run), *reason, *(Text(cell) for cell in _cells(run)[: None if known else -1]))
        return table

    def _status(self, run: RunRecord) -> Text:
        words, kind, sign = wording.status_words(run.status)
        return Text(f"{sign} {words}" if self.signs else words, style=COLOURS[kind])

    def _reasons(self) -> Iterable[Text | Padding]:
        yield Text("")
        for run in self.runs:
            yield self._status(run) + Text(f"  {run.problem}, {run.label}" if run.method else f"  {run.label}")
            if text := _sentences(run):
                yield Padding(Text(text), (0, 0, 0, 2))


def _sentences(run: RunRecord) -> str:
    return " ".join(part for part in (run.reason, run.suggestion) if part)


def _cells(run: RunRecord) -> list[str]:
    return [
        run.problem if run.method else wording.DASH,
        run.method or wording.DASH,
        run.seed or wording.DASH,
        wording.number(run.error) if run.main_metric else wording.DASH,
        wording.number(run.final("loss")),
        wording.integer(run.progress("steps")),
        wording.seconds(run.progress("seconds")),
        wording.seconds(run.value("compile_seconds")),
        wording.integer(None if (peak := run.value("peak_memory")) is None else peak / 2**20),
    ]


def summary(folders: Sequence[Path | str]) -> Summary:
    """The table of run folders and comparison folders: status, reason, problem, method, seed, error, loss, steps,
    steady seconds, compile seconds, MiB at the peak where known. Raises ValueError, one sentence, as `load_run`.
    """
    return Summary(collect(folders).runs)


def plain_summary(folders: Sequence[Path | str]) -> str:
    """The same as text without colour or control codes, at most 110 columns wide. Raises as `summary`."""
    console = Console(file=io.StringIO(), width=PLAIN_WIDTH, no_color=True, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(Summary(collect(folders).runs, signs=False))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
