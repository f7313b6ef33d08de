"""The pool loses no run: death, refusal and interruption each leave a record. The worker is a stand-in without JAX."""

import json
import os
import sys
from pathlib import Path

import pytest

from ravine.bench import pool, process
from ravine.bench.task import Task
from ravine.cli.compare_command import hand_over, write_comparison
from ravine.report import load_run

# What a real worker does, driven by the seed: 0 ends well, 1 dies with words, 2 is killed, 3 refuses,
# 4 runs until it is interrupted, 5 ignores interruption, 6 writes garbage and half a line.
STAND_IN = """
import json, os, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
envelope = json.loads(sys.stdin.readline())
task, say = envelope["task"], lambda **message: print(json.dumps(message), flush=True)
def finish(status):
    folder = pathlib.Path(task["folder"]); folder.mkdir(parents=True, exist_ok=True)
    record = {"format": 1, "problem": task["problem"], "method": task["method"], "seed": task["seed"]}
    record |= {"status": status, "reason": "Stand-in."}
    record |= {"core": envelope["core"], "threads": os.environ.get("OMP_NUM_THREADS")}
    (folder / "run.json").write_text(json.dumps(record)); say(event="done", status=status)
seed = task["seed"]
if seed == 5: signal.signal(signal.SIGINT, signal.SIG_IGN)
try:
    say(event="row", row={"step": 0, "loss": 1.0, "seconds": 0.0})
    if seed in (4, 5): time.sleep(60)
except KeyboardInterrupt:
    finish("interrupted"); sys.exit()
if seed == 0: finish("budget")
elif seed == 1: sys.exit("out of coffee")
elif seed == 2: os.kill(os.getpid(), signal.SIGKILL)
elif seed == 3: say(event="refused", reason="A needs B."); sys.exit(2)
elif seed == 6: print("noise"); sys.stdout.write('{"event": "ro'); sys.stdout.flush(); os._exit(7)
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """task(seed) after the worker has been replaced."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{script}'\n")
    python.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(python))
    return lambda *seeds: [Task("poisson2d", "adam", seed=s, folder=str(tmp_path / "c" / f"s{s}")) for s in seeds]


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


def test_several_workers_are_pinned_to_one_thread_each_and_one_is_left_alone(tasks):
    (task,) = tasks(0)
    path = Path(task.folder) / "run.json"
    for workers, pinned in ((1, False), (2, True)):
        assert pool.run_all([task], workers, Heard())
        record = json.loads(path.read_text())
        assert (record["threads"] == "1") == pinned
        if hasattr(os, "sched_getaffinity"):
            assert (record["core"] in os.sched_getaffinity(0)) == pinned


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


def test_a_killed_run_keeps_its_record_and_can_be_resumed(tmp_path):
    task = Task("poisson2d", "adam", folder=str(tmp_path / "r"))
    (tmp_path / "r" / "checkpoint").mkdir(parents=True)
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
