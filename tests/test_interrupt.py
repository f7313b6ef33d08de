"""Ctrl-C at any instant: the run ends between two steps, and what it saved goes on like an unbroken run."""

import os
import signal
import sys
import threading

import numpy as np
import pytest
from small import FIT, start, steady

import ravine as rv
from ravine.driver import engine, loop, points

FILES = {module.__file__ for module in (engine, loop, points)}
STEPS = rv.Budget(steps=9)


def draw(seed, sizes):
    return {name: np.random.default_rng(seed).uniform(-1, 1, (n, 1)) for name, n in sizes.items()}


def fit(folder=None, **options):
    """Two stages and points that move at every third step: all that can happen between two steps."""
    plan = rv.Stages((rv.methods.SGD(0.1), 4), rv.methods.LBFGS())
    moving = {"sampler": rv.sampling.ResidualAdaptive(every=3), "draw": draw}
    return rv.minimize(FIT, start(), plan, budget=STEPS, checkpoint=folder, **moving, **options)


@pytest.fixture(scope="module")
def unbroken():
    return fit()


@pytest.fixture(autouse=True)
def listening():
    """A shell's background jobs ignore Ctrl-C, and the test session would inherit that."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, old)


class AtLine:
    """Counts the lines of the driver's loop that are executed, and raises KeyboardInterrupt before one of them."""

    def __init__(self, monkeypatch, at=None):
        self.lines, self.at = [], at
        run = loop.Loop._iterate

        def traced(it):
            sys.settrace(self.enter)
            try:
                return run(it)
            finally:
                sys.settrace(None)

        monkeypatch.setattr(loop.Loop, "_iterate", traced)

    def enter(self, frame, event, argument):
        return self.line if frame.f_code.co_filename in FILES else None

    def line(self, frame, event, argument):
        if event == "line":
            self.lines.append((frame.f_code.co_name, frame.f_lineno))
            if len(self.lines) - 1 == self.at:
                raise KeyboardInterrupt
        return self.line


def instants(monkeypatch):
    """For each line that a run executes, its last execution: stages, points and streaks are in full swing."""
    with monkeypatch.context() as patch:
        seen = AtLine(patch)
        fit()
    last = {line: i for i, line in enumerate(seen.lines)}
    functions = {name for name, _ in last}
    assert {"_plan", "_boundary", "_sample", "_observe", "_landed", "_completed", "start", "refresh"} <= functions
    return sorted(last.values())


@pytest.mark.slow
def test_an_interrupt_before_any_line(unbroken, tmp_path, monkeypatch):
    wrong = []
    for i in instants(monkeypatch):
        folder = tmp_path / str(i)
        with monkeypatch.context() as patch:
            injected = AtLine(patch, at=i)
            first = fit(folder)
        where = injected.lines[i]
        whole = fit(folder)
        if first.status != "interrupted" or steady(first.rows[:-1]) != steady(unbroken.rows)[: len(first.rows) - 1]:
            wrong.append(("first", where))
        if steady(whole.rows) != steady(unbroken.rows) or whole.summary["counts"] != unbroken.summary["counts"]:
            wrong.append(("resumed", where))
    assert not wrong


INSTANTS = {
    "first start": ("start", 3),  # the first two compile
    "change of stage": ("start", 4),
    "refresh": ("refresh", 4),
    "advance": ("advance", 8),
    "readout": ("readout", 8),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("instant", INSTANTS)
def test_an_interrupt_in_a_device_call(instant, after, unbroken, tmp_path, monkeypatch):
    name, nth = INSTANTS[instant]
    plain, calls = getattr(engine.Engine, name), []

    def torn(self, *arguments):
        calls.append(name)
        if len(calls) == nth and not after:
            raise KeyboardInterrupt
        result = plain(self, *arguments)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(engine.Engine, name, torn)
        assert fit(tmp_path).status == "interrupted"
    assert steady(fit(tmp_path).rows) == steady(unbroken.rows)


def press(times):
    def callback(row, params):
        if row["step"] == 5:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    return callback


def test_the_first_press_is_heard_between_two_steps(unbroken, tmp_path):
    heard = []
    first = fit(tmp_path, callbacks=[press(1), lambda row, p: heard.append(row["step"])])
    assert first.status == "interrupted" and first.steps == 6
    assert heard == [0, 1, 2, 3, 4, 5]  # the callback after the one that pressed was not cut off
    assert steady(fit(tmp_path).rows) == steady(unbroken.rows)


def test_the_second_press_is_heard_at_once(unbroken, tmp_path):
    heard = []
    first = fit(tmp_path, callbacks=[press(2), lambda row, p: heard.append(row["step"])])
    assert first.status == "interrupted" and first.steps == 6
    assert heard == [0, 1, 2, 3, 4]
    assert steady(fit(tmp_path).rows) == steady(unbroken.rows)


def test_a_run_inside_a_run(tmp_path):
    inner = []

    def callback(row, params):
        if row["step"] == 2:
            inner.append(fit(callbacks=[press(1)]).status)

    outer = fit(callbacks=[callback])
    assert inner == ["interrupted"] and outer.status == "budget"


def test_who_handles_or_ignores_ctrl_c_keeps_doing_so():
    heard = []
    for handler in (signal.SIG_IGN, lambda number, frame: heard.append(number)):
        signal.signal(signal.SIGINT, handler)
        try:
            assert fit(callbacks=[press(1)]).status == "budget"
            assert signal.getsignal(signal.SIGINT) is handler
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    assert heard == [signal.SIGINT]


def test_other_threads_install_nothing():
    found = []
    look = lambda row, p: found.append(signal.getsignal(signal.SIGINT))
    thread = threading.Thread(target=lambda: found.append(fit(callbacks=[look]).status))
    thread.start()
    thread.join()
    assert found[-1] == "budget" and set(found[:-1]) == {signal.default_int_handler}
