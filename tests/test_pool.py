"""The pool loses no run: death, refusal, interruption and a broken limit each leave a record.

The process of a run is a stand-in without JAX (stand_in.py).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ravine.bench import ending, limits, pool, process
from ravine.bench.limits import Limits, parse_memory, parse_wall, peak_memory
from ravine.bench.task import Task
from ravine.cli.compare_command import hand_over, write_comparison
from ravine.report import load_run

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """task(seed) after the worker has been replaced."""
    monkeypatch.setattr(process.sys, "executable", str(stand_in(tmp_path)))
    return lambda *seeds: [Task("poisson2d", "adam", seed=s, folder=str(tmp_path / "c" / f"s{s}")) for s in seeds]


def stand_in(place):
    """A Python that runs stand_in.py, whatever it is asked to run; unless there is a file `real` beside it."""
    script = shutil.copy(Path(__file__).parent / "stand_in.py", place)
    python = place / "python"
    real = f"[ -e '{place}/real' ] && exec '{sys.executable}' \"$@\""
    python.write_text(f"#!/bin/sh\n{real}\nexec '{sys.executable}' '{script}'\n")
    python.chmod(0o755)
    return python


class Heard:
    """Events by seed; `interrupt_at` raises as Ctrl-C would, at the first row of that seed."""

    def __init__(self, interrupt_at=None):
        self.events, self.interrupt_at = [], interrupt_at

    def __call__(self, task, event):
        self.events.append((task.seed, event["event"]))
        if task.seed == self.interrupt_at and event["event"] == "row":
            raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_leaves_a_record(tasks, workers):
    todo, heard = tasks(0, 1, 2, 3, 6), Heard()
    assert pool.run_all(todo, workers, heard)
    found = [load_run(task.folder) for task in todo]
    assert [run.status for run in found] == ["budget", "failed", "failed", "failed", "failed"]
    assert "out of coffee" in found[1].reason and "exit status 1" in found[1].reason
    assert (Path(todo[1].folder) / "stderr.txt").read_text() == "out of coffee\n"
    assert "SIGKILL" in found[2].reason and "memory" in found[2].reason
    assert found[3].reason == "A needs B."
    assert "exit status 7" in found[4].reason
    assert all(heard.events.count((seed, "row")) == 1 for seed in (0, 1, 2, 3, 6))
    last = {seed: kind for seed, kind in heard.events}
    assert last == {0: "done", 1: "failed", 2: "failed", 3: "refused", 6: "failed"}


def test_a_machine_that_cannot_begin_a_run_has_no_result_of_it(tasks):
    """As where the environment of the workers is broken: no failure of a method, and made again by --continue."""
    (task,), heard = tasks(10), Heard()
    assert pool.run_all([task], 1, heard)
    run = load_run(task.folder)
    assert run.status == "interrupted" and heard.events == [(10, "start"), (10, "done")]
    assert run.reason.startswith("It could not begin. The process of this run ended with exit status 1")
    assert "no module named ravine" in run.reason and run.suggestion.startswith("Mend that machine")


def test_last_words_are_not_those_that_jax_adds():
    note = (
        "-" * 20
        + "\nFor simplicity, JAX has removed its internal frames from the traceback of the following exception."
    )
    assert (
        ending._last_words(f"Traceback\nNameError: name 'more' is not defined\n{note}")
        == "NameError: name 'more' is not defined"
    )
    assert ending._last_words("-----") == "-----"


def test_an_interruption_while_a_run_is_being_started_loses_none(tasks, monkeypatch):
    todo, begun = tasks(0, 1, 2), []

    def start(task, *rest, original=pool._start):
        if begun:
            raise KeyboardInterrupt
        begun.append(task)
        return original(task, *rest)

    monkeypatch.setattr(pool, "_start", start)
    assert not pool.run_all(todo, 2, Heard())
    found = [load_run(task.folder) for task in todo]
    assert "before this run started" not in found[0].reason
    assert all(run.status == "interrupted" and "before this run started" in run.reason for run in found[1:])


def test_several_workers_are_pinned_to_one_thread_each_and_one_is_left_alone(tasks, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (task,) = tasks(0)
    path = Path(task.folder) / "run.json"
    for workers, pinned in ((1, False), (2, True)):
        assert pool.run_all([task], workers, Heard())
        record = json.loads(path.read_text())
        assert (record["threads"] == "1") == pinned
        if hasattr(os, "sched_getaffinity"):
            assert (record["core"] in os.sched_getaffinity(0)) == pinned


def test_several_workers_share_the_memory_of_a_gpu_unless_the_environment_says_how(tasks, monkeypatch):
    """JAX gives three quarters of it to the first process; seen on an H200, where the third of three died."""
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    (task,) = tasks(0)
    path = Path(task.folder) / "run.json"
    for workers, said in ((1, None), (2, "false")):
        assert pool.run_all([task], workers, Heard())
        assert json.loads(path.read_text())["preallocate"] == said
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    assert pool.run_all([task], 2, Heard())
    assert json.loads(path.read_text())["preallocate"] == "true"


def test_interruption_keeps_what_there_is(tasks, tmp_path, capsys):
    todo = tasks(0, 4, 1)
    (tmp_path / "c").mkdir()
    write_comparison(tmp_path / "c", todo, "ravine compare ...")
    heard = Heard(interrupt_at=4)
    assert not pool.run_all(todo, 1, heard)
    assert [load_run(task.folder).status for task in todo] == ["budget", "interrupted", "interrupted"]
    assert "before this run started" in load_run(todo[2].folder).reason
    assert (4, "done") in heard.events, "the running one was given time to write its result"

    assert hand_over(tmp_path / "c", todo, as_json=False, finished=False) == 130
    table = capsys.readouterr().out
    assert table.count("interrupted") >= 2 and "budget spent" in table
    assert (tmp_path / "c" / "report.html").is_file()


def test_a_run_that_ignores_interruption_is_ended(tasks, monkeypatch):
    monkeypatch.setattr(pool, "GRACE", 0.5)
    todo = tasks(5)
    assert not pool.run_all(todo, 1, Heard(interrupt_at=5))
    assert "SIGKILL" in load_run(todo[0].folder).reason


@linux
def test_a_run_that_takes_too_much_memory_is_a_failed_row_with_the_numbers(tasks):
    todo = tasks(7, 0)
    assert pool.run_all(todo, 1, Heard(), Limits(memory=100 * 2**20))
    held, well = (load_run(task.folder) for task in todo)
    assert (held.status, well.status) == ("failed", "budget")
    said = re.match(r"It held ([\d.]+) MiB of memory, and the limit is 100 MiB \(--memory\)\. It was k", held.reason)
    assert said and float(said[1]) > 100
    assert held.meta["peak_memory"] > 100 * 2**20 and well.meta["peak_memory"] == 50 * 2**20
    assert "--retry-failed" in held.suggestion


@linux
def test_a_peak_that_nobody_saw_counts_too(tasks):
    """The stand-in reports 50 MiB and ends at once, holding less: it must not depend on when one looks."""
    todo = tasks(0)
    assert pool.run_all(todo, 1, Heard(), Limits(memory=49 * 2**20))
    run = load_run(todo[0].folder)
    assert run.status == "failed" and run.reason.startswith("It held 50 MiB of memory, and the limit is 49 MiB")


def test_a_run_that_takes_too_long_is_interrupted_and_its_rows_are_kept(tasks):
    todo = tasks(4, 0)
    assert pool.run_all(todo, 1, Heard(), Limits(wall=2.0))  # time enough to start on a busy machine
    late, well = (load_run(task.folder) for task in todo)
    assert (late.status, well.status) == ("failed", "budget")
    assert re.match(r"It had run for 2\.\d s, .*, and the limit is 2 s \(--wall\)\. It was interr", late.reason)
    assert len(late.rows) == 1 and "ravine resume" in late.suggestion


def test_a_run_that_ignores_the_limit_is_killed(tasks, monkeypatch):
    monkeypatch.setattr(process, "GRACE", 0.3)
    (task,) = tasks(5)
    heard = Heard()
    assert pool.run_all([task], 1, heard, Limits(wall=1.5))
    assert "did not end within 0.3 s, and was killed" in load_run(task.folder).reason
    assert heard.events[-1] == (5, "failed")


@linux
def test_the_peak_is_that_of_the_process_and_not_of_its_parent():
    """What getrusage says is inherited: this process is larger than a bare Python."""
    kept = bytearray(300 * 2**20)
    code = "from ravine.bench.limits import own_peak; print(own_peak())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    own = peak_memory()
    assert own is not None and own > len(kept) and 2**20 < int(said) < 150 * 2**20


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_memory, "4GiB", 4 * 2**30), (parse_memory, "1.5 gb", 1_500_000_000), (parse_memory, "512MiB", 2**29),
        (parse_wall, "10min", 600.0), (parse_wall, "90s", 90.0), (parse_wall, "0.5h", 1800.0),
    ],
)  # fmt: skip
def test_limits_are_read(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_memory, "4", "--memory 4: the unit is missing; use MiB"),
        (parse_memory, "4 parsecs", "--memory 4 parsecs: the unit 'parsecs' is unknown; use MiB"),
        (parse_memory, "-4GiB", "--memory -4GiB: write a positive number and a unit, such as 4GiB or 500MB."),
        (parse_memory, "lots", "--memory lots: write a positive number and a unit"),
        (parse_memory, "1e999GiB", "--memory 1e999GiB: write a positive number and a unit"),
        (parse_wall, "10", "--wall 10: the unit is missing; use s, min, h or d."),
        (parse_wall, "0s", "--wall 0s: write a positive number and a unit, such as 10min or 2h."),
        (parse_wall, "10steps", "--wall 10steps: the unit 'steps' is unknown; use s, min, h or d."),
    ],
)
def test_limits_that_are_none_are_one_sentence(parse, text, said):
    with pytest.raises(ValueError, match="^" + re.escape(said)) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_a_machine_that_cannot_tell_refuses_a_memory_limit(monkeypatch):
    monkeypatch.setattr(limits, "peak_memory", lambda process="self": None)
    assert "--memory: the memory of a run is read from /proc" in (Limits(memory=1).refusal() or "")
    assert Limits(wall=1.0).refusal() is None


def test_a_killed_run_keeps_its_record_and_can_be_resumed(tmp_path):
    task = Task("poisson2d", "adam", folder=str(tmp_path / "r"))
    (tmp_path / "r" / "checkpoint").mkdir(parents=True)
    (tmp_path / "r" / "checkpoint" / "step-000000000000.npz").touch()
    begun = {"format": 1, **task.describe(), "status": "running", "model": "kept"}
    (tmp_path / "r" / "run.json").write_text(json.dumps(begun))
    pool.record(task, "failed", "Gone.")
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert (record["status"], record["reason"], record["model"]) == ("failed", "Gone.", "kept")
    assert "ravine resume" in record["suggestion"]


def test_a_run_still_running_can_be_reported(tmp_path):
    task = Task("poisson2d", "adam", folder=str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, **task.describe(), "status": "running"}))
    assert "Still running" in load_run(tmp_path).reason
