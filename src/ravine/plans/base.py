"""The plan contract: which method runs next, decided from the record alone (never from the clock).

A plan is asked before step 1, at every recorded row, at the step it names as its `cut`, and when a method stops of
its own accord. Answering with the stage already running goes on; None ends the run.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx

from ..method import Method


class History(NamedTuple):
    """What a plan may look at."""

    step: int  # steps taken in the whole run
    stage: int  # index of the stage running, -1 before the first
    stage_start: int  # step at which it began
    rows: list[dict[str, Any]]  # the record so far
    ended: str | None  # why the running method stopped of its own accord (a run status), None while it goes on


class Plan(eqx.Module):
    """Abstract. A plan is accepted wherever a method is."""

    @abc.abstractmethod
    def stages(self, objective, params) -> tuple[Method, ...]:
        """Every method that may run, in the order of their stage numbers: all are compiled before step 1."""

    @abc.abstractmethod
    def choose(self, history: History, methods: tuple[Method, ...]) -> int | None:
        """The stage number to run from here, or None to end the run."""

    def cut(self, history: History) -> int | None:
        """The next step at which the plan must be asked, beyond the recorded rows; None: no such step."""
        return None

    def next(self, history: History, methods: tuple[Method, ...]) -> Method | None:
        """The method to run from here, or None to end the run."""
        index = self.choose(history, methods)
        return None if index is None else methods[index]


class Single(Plan):
    """One method from start to end."""

    method: Method

    def stages(self, objective, params) -> tuple[Method, ...]:
        return (self.method,)

    def choose(self, history: History, methods) -> int | None:
        return None if history.ended else 0
