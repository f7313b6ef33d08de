"""Client and workers of a cluster, part by part and without one: what is lost, unfit or stopped."""

import dataclasses
import json
import os
import queue
import signal
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_cluster import KillsWorker, tasks
from test_pool import stand_in

from ravine.bench import cluster, cluster_worker, process
from ravine.bench.ending import settle
from ravine.bench.limits import Limits
from ravine.report import load_run

distributed = pytest.importorskip("distributed")
# Dask closes its sockets when they are collected, and says so.
pytestmark = pytest.mark.filterwarnings("default")


def test_a_run_that_reaches_a_worker_with_other_code_is_no_result(tmp_path, monkeypatch):
    """A worker may change its code after it was asked."""
    monkeypatch.setattr(distributed, "get_worker", lambda: SimpleNamespace(address="tcp://w"))
    (task,) = tasks(tmp_path, 0)
    answer = cluster_worker.carry_out(cluster_worker.Order(task, Limits(), "topic", ("9.9", "abc"), None))
    assert answer.ending.last["event"] == "unfit" and answer.files == {}
    assert settle(task, answer.ending) == {"event": "done", "status": "interrupted"}
    assert "and this comparison 9.9 abc: install the same on all machines." in load_run(task.folder).reason


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ModuleNotFoundError("No module named 'numpy'", name="numpy"),
            "Its worker could not make this run: M",
        ),
        (
            OSError(28, "No space left"),
            "Its worker could not make this run: OSError ([Errno 28] No space left).",
        ),
    ],
)
def test_what_a_worker_raises_is_a_row(tmp_path, error, said):
    (task,) = tasks(tmp_path, 0)
    comparison = cluster._Comparison(None, None, Limits())
    future = SimpleNamespace(status="error", exception=lambda: error)
    assert comparison._land(task, future)["event"] == "failed"
    assert load_run(task.folder).status == "failed" and load_run(task.folder).reason.startswith(said)


@pytest.mark.parametrize("status", ["lost", "pending", "finished"])
def test_results_that_were_lost_with_their_worker_are_made_again(tmp_path, status, monkeypatch):
    """The worker died after the run had ended and before its files were here; the scheduler lives."""
    (task,) = tasks(tmp_path, 0)
    monkeypatch.setattr(cluster, "FETCH", 0.01)

    def result(timeout):
        raise TimeoutError

    released = []
    future = SimpleNamespace(status=status, result=result, done=lambda: True, release=lambda: released.append(1))
    comparison = cluster._Comparison(SimpleNamespace(status="running"), None, Limits())
    comparison.flying["k"] = cluster._Flight(task, future, "tcp://w")
    comparison.events.put(("k", None))
    comparison._next(1.0)
    waiting = deque()
    comparison._repeat(waiting, {"tcp://w": 1})  # even if a worker of that address is there again
    assert list(waiting) == [task] and released and not comparison.flying and not comparison.adrift
    comparison.client.status = "closed"
    with pytest.raises(cluster._Lost):
        comparison._land(task, future)


def test_only_the_workers_that_are_fit_get_runs(tmp_path):
    """One has other code, one has no ravine: the third makes all runs, and the comparison loses none."""
    (tmp_path / "preload.py").write_text(
        "import sys\n"
        "from types import SimpleNamespace\n"
        "def dask_setup(worker):\n"
        "    from ravine.bench import cluster_worker, process\n"
        f"    process.sys = SimpleNamespace(executable={str(stand_in(tmp_path))!r})\n"
        "    if worker.name == 0:\n"
        "        cluster_worker.own_code = lambda: ('0.0', 'old')\n"
        "    if worker.name == 1:\n"
        "        for name in [name for name in sys.modules if name.partition('.')[0] == 'ravine']:\n"
        "            sys.modules[name] = None\n"
    )
    made = {"n_workers": 3, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with (
        distributed.LocalCluster(
            **made, preload=[str(tmp_path / "preload.py")], local_directory=tmp_path / "s"
        ) as there,
        cluster.connected(there.scheduler_address) as client,
    ):
        client.wait_for_workers(3, timeout=60)
        todo, heard = tasks(tmp_path, 0, 8, 9), KillsWorker(there, 8, times=1)  # its run is repeated, and by no other
        with pytest.warns(UserWarning) as said:
            assert cluster.run_all(todo, client, heard)
    assert [load_run(task.folder).status for task in todo] == ["budget"] * 3 and len(heard.killed) == 2
    sentences = [str(warning.message) for warning in said if "gets no runs" in str(warning.message)]
    assert len(sentences) == 2
    assert any("has ravine 0.0 old and this comparison" in sentence for sentence in sentences)
    assert any("has no ravine, or another version of it" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (TypeError("unfit() takes 2 arguments"), True),
        (ModuleNotFoundError("No module named 'numpy'"), True),
        (OSError("closed"), False),
    ],
)
def test_a_worker_that_cannot_say_whether_it_is_fit_gets_no_runs(tmp_path, answer, known):
    submitted = []
    client = SimpleNamespace(
        nthreads=lambda: {"tcp://w": 1},
        run=lambda *_, **__: {"tcp://w": answer},
        submit=lambda *_, **__: submitted.append(1),
    )
    comparison = cluster._Comparison(client, None, Limits())
    with pytest.warns(UserWarning) as said:
        comparison._fill(deque(tasks(tmp_path, 0)))
    assert any("no worker that is fit is there" in str(warning.message) for warning in said)
    assert not submitted and ("tcp://w" in comparison.asked) == known, "one that was not reached is asked again"
    if known:
        assert "cannot say whether it is fit for runs" in comparison.asked["tcp://w"]


def test_runs_under_way_and_runs_not_begun_are_told_apart(tmp_path, monkeypatch):
    todo = tasks(tmp_path, 0, 1)
    comparison = cluster._Comparison(None, None, Limits())

    def interrupted(waiting):
        future = SimpleNamespace(done=lambda: False)
        comparison.flying["k"] = cluster._Flight(waiting[0], future, "tcp://")  # and is still among the waiting
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "_fill", interrupted)
    monkeypatch.setattr(comparison, "_threads", dict)
    assert not comparison.carry_out(deque(todo))
    begun, waiting = (load_run(task.folder).reason for task in todo)
    assert begun == "The comparison was interrupted, and the worker of this run did not answer."
    assert waiting == "The comparison was interrupted before this run started."


def test_workers_of_one_machine_pin_to_different_cores():
    found = cluster._first_slots(
        {"tcp://10.0.0.1:1": 2, "tcp://10.0.0.2:1": 2, "tcp://10.0.0.1:2": 4, "tcp://10.0.0.1:3": 2}
    )
    assert list(found.values()) == [0, 0, 2, 6]


class Worker:
    """What `carry_out` needs of a Dask worker with two threads; `forgotten`: the scheduler forgets the task."""

    def __init__(self):
        self.rows: queue.Queue = queue.Queue()
        self.known = SimpleNamespace(state="executing")
        self.address = "tcp://127.0.0.1:1"
        self.state = SimpleNamespace(tasks={"k1": self.known, "k2": self.known})
        self.key = threading.local()

    def get_current_task(self):
        return self.key.name

    def log_event(self, topic, message):
        self.rows.put(message)


def test_a_worker_pins_runs_and_ends_one_that_nobody_wants(tmp_path, monkeypatch):
    monkeypatch.setattr(process.sys, "executable", str(stand_in(tmp_path)))
    monkeypatch.setattr(cluster_worker, "LOOK", 0.1)
    worker, endings = Worker(), {}

    def run(key, task):
        worker.key.name = key
        order = cluster_worker.Order(task, Limits(), "topic", cluster_worker.own_code(), 1)
        endings[key] = cluster_worker._run(task, order, worker)

    todo = tasks(tmp_path, 4, 5)
    monkeypatch.setattr(cluster_worker, "GRACE", 0.3)
    threads = [threading.Thread(target=run, args=pair) for pair in zip(("k1", "k2"), todo, strict=True)]
    for thread in threads:
        thread.start()
    assert {worker.rows.get(timeout=30)["key"] for _ in todo} == {"k1", "k2"}
    worker.known.state = "cancelled"
    for thread in threads:
        thread.join(timeout=30)
    assert endings["k1"].last == {"event": "done", "status": "interrupted", "peak_memory": 50 * 2**20}
    assert endings["k2"].code == -signal.SIGKILL, "it ignored the interruption"
    record = json.loads((Path(todo[0].folder) / "run.json").read_text())
    assert record["threads"] == "1" and (record["core"] is not None or not hasattr(os, "sched_getaffinity"))
    assert cluster_worker._held == {}


def test_no_run_is_begun_after_the_comparison_was_stopped(tmp_path):
    (task,) = tasks(tmp_path, 0)
    cluster_worker.stop("stopped one")
    worker = Worker()
    worker.key.name = "k1"
    order = cluster_worker.Order(task, Limits(), "stopped one", cluster_worker.own_code(), None)
    assert cluster_worker._run(task, order, worker).last == {"event": "interrupted"}
    assert dataclasses.asdict(task)["folder"] and not Path(task.folder).exists()
