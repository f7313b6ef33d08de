"""Runs on a Dask cluster leave what the pool leaves. The runs are stand-ins (stand_in.py) but for one real one."""

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_pool import Heard, linux, stand_in

from ravine.bench import cluster, cluster_worker, process, table
from ravine.bench.ending import settle
from ravine.bench.limits import Limits
from ravine.bench.record import key_of
from ravine.bench.task import Task
from ravine.cli import main
from ravine.report import load_run

distributed = pytest.importorskip("distributed")

# Dask closes its sockets when they are collected, and says so.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def local(place):
    """A cluster with one worker process, which is started again when it dies; its runs are stand-ins."""
    import dask

    (place / "preload.py").write_text(
        "from types import SimpleNamespace\nfrom ravine.bench import process\n"
        f"process.sys = SimpleNamespace(executable={str(stand_in(place))!r})\n"
    )
    # Dask would set OMP_NUM_THREADS and the like in this process too, and other tests look at them.
    settings = {"distributed.scheduler.allowed-failures": 1, "distributed.nanny.pre-spawn-environ": {}}
    # A local cluster dismisses a worker that is absent so long after it was lost, also if it is absent for another
    # reason by then, such as a second death.
    settings |= {"distributed.deploy.lost-worker-timeout": "1h"}
    made = {"n_workers": 1, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            **made, preload=[str(place / "preload.py")], local_directory=str(place / "scratch"), silence_logs=50
        ) as there,
    ):
        yield there


@pytest.fixture(scope="module")
def client(local):
    with cluster.connected(local.scheduler_address) as client:
        yield client


@pytest.fixture(autouse=True)
def forgotten(place):
    """Every test has first attempts."""
    yield
    for path in [*place.glob("attempt-*"), *place.glob("real")]:
        path.unlink()


def tasks(tmp_path, *seeds):
    return [Task("poisson2d", "adam", seed=s, folder=str(tmp_path / "c" / f"s{s}")) for s in seeds]


def process_of(place, seed):
    return int((place / f"attempt-{seed}").read_text())


def gone(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return "Z" in Path(f"/proc/{number}/stat").read_text().split()[2:3]


class KillsWorker(Heard):
    """Kills the worker when a run of `seed` has sent its row, `times` times.

    Not before its nanny has taken note that it is up: Dask does not restart a worker that dies while it starts.
    """

    def __init__(self, local, seed, times):
        super().__init__()
        self.local, self.seed, self.times, self.killed = local, seed, times, []

    def __call__(self, task, event):
        super().__call__(task, event)
        if task.seed == self.seed and event["event"] == "row" and event["row"]["parent"] not in self.killed:
            self.killed.append(event["row"]["parent"])
            if len(self.killed) <= self.times:
                while any(nanny.process.status.name != "running" for nanny in self.local.workers.values()):
                    time.sleep(0.05)
                os.kill(self.killed[-1], signal.SIGKILL)


def test_every_task_leaves_a_record_and_its_files(client, tmp_path):
    todo, heard = tasks(tmp_path, 0, 1, 2, 3, 6), Heard()
    assert cluster.run_all(todo, client, heard)
    found = [load_run(task.folder) for task in todo]
    assert [run.status for run in found] == ["budget", "failed", "failed", "failed", "failed"]
    assert "out of coffee" in found[1].reason and "exit status 1" in found[1].reason
    assert (Path(todo[1].folder) / "stderr.txt").read_text() == "out of coffee\n"
    assert "SIGKILL" in found[2].reason and found[3].reason == "A needs B." and "exit status 7" in found[4].reason
    assert (Path(todo[0].folder) / "checkpoint" / "state.bin").read_bytes() == bytes(range(256))
    assert found[0].meta["peak_memory"] == 50 * 2**20 and len(found[0].rows) == 1
    last = {seed: kind for seed, kind in heard.events}
    assert last == {0: "done", 1: "failed", 2: "failed", 3: "refused", 6: "failed"}


def test_a_lost_worker_loses_no_result_and_its_run_is_repeated(local, client, tmp_path):
    heard = KillsWorker(local, 8, times=1)
    todo = tasks(tmp_path, 0, 8)
    assert cluster.run_all(todo, client, heard)
    assert [load_run(task.folder).status for task in todo] == ["budget", "budget"]
    ended = [(0, "start"), (0, "row"), (0, "done")]
    assert heard.events == [*ended, (8, "start"), (8, "row"), (8, "start"), (8, "row"), (8, "done")]
    assert len(heard.killed) == 2, "the second attempt was made by another worker"


def test_a_run_that_kills_its_workers_is_a_failed_row(local, client, tmp_path):
    heard = KillsWorker(local, 4, times=9)
    todo = tasks(tmp_path, 4, 0)
    assert cluster.run_all(todo, client, heard)
    lost, well = (load_run(task.folder) for task in todo)
    assert (lost.status, well.status) == ("failed", "budget")
    assert lost.reason.startswith("Its worker died 2 times while making this run, the last at tcp://")
    assert len(heard.killed) == 2


def test_interruption_keeps_what_there_is(client, tmp_path, place):
    todo, heard = tasks(tmp_path, 0, 4, 1), Heard(interrupt_at=4)
    assert not cluster.run_all(todo, client, heard)
    found = [load_run(task.folder) for task in todo]
    assert [run.status for run in found] == ["budget", "interrupted", "interrupted"]
    assert found[1].reason == "Stand-in." and (Path(todo[1].folder) / "checkpoint" / "state.bin").is_file()
    assert "before this run started" in found[2].reason
    assert (4, "done") in heard.events, "the running one was given time to write its result"
    assert gone(process_of(place, 4))


def test_a_run_that_ignores_interruption_is_ended(client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "GRACE", 0.5)
    todo = tasks(tmp_path, 5)
    assert not cluster.run_all(todo, client, Heard(interrupt_at=5))
    assert "SIGKILL" in load_run(todo[0].folder).reason


@linux
def test_limits_hold_on_the_workers(client, tmp_path):
    todo = tasks(tmp_path, 7, 4, 0)
    assert cluster.run_all(todo, client, Heard(), Limits(memory=100 * 2**20, wall=1.5))
    large, late, well = (load_run(task.folder) for task in todo)
    assert [run.status for run in (large, late, well)] == ["failed", "failed", "budget"]
    assert "MiB of memory, and the limit is 100 MiB (--memory)" in large.reason
    assert "and the limit is 1.5 s (--wall). It was interrupted" in late.reason and len(late.rows) == 1


def test_workers_with_other_code_are_one_sentence_and_nothing_is_begun(client, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "own_code", lambda: ("9.9", "abc"))
    address = client.scheduler.address
    assert main(["compare", "poisson2d", "--methods", "adam", "--scheduler", address, "--out", "c"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ravine: --scheduler {address}: no worker there can make the runs. The worker tcp://")
    assert said.endswith("and this comparison 9.9 abc: install the same on all machines.\n") and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.slow
def test_a_real_run_is_the_same_as_one_here(client, tmp_path, place, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (place / "real").write_text("")
    words = ["compare", "poisson2d", "--methods", "adam", "--seeds", "1", "--budget", "20steps"]
    words += ["--model.width", "3", "--model.depth", "1"]
    address = client.scheduler.address
    assert main([*words, "--out", "c", "--scheduler", address, "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    here = Task("poisson2d", "adam", budget="20steps", model_options={"width": "3", "depth": "1"}, folder="d").run()
    there = load_run("c/poisson2d/adam-s0")
    assert [row["step"] for row in there.rows] == [row["step"] for row in here.rows]
    assert [row["loss"] for row in there.rows] == pytest.approx([row["loss"] for row in here.rows], rel=1e-9)
    assert {p.name for p in there.folder.iterdir()} == {p.name for p in Path("d").iterdir()}
    assert run["peak_memory"] > 50 * 2**20, "Python and JAX are larger"

    (record,) = table.read("c/results.jsonl").records
    same = Task("poisson2d", "adam", budget="20steps", model_options={"width": "3", "depth": "1"})
    assert record["key"] == key_of(same), "--continue will know it"


def test_a_scheduler_that_goes_away_ends_the_comparison(tmp_path, monkeypatch, capfd):
    """Also: with no worker there yet the comparison says so and waits."""
    made = {"n_workers": 0, "processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    there = distributed.LocalCluster(**made)
    asked, threads_of = [], cluster.threads

    def threads_then_nobody(client):
        asked.append(threads_of(client) if len(asked) < 3 else there.close())
        return threads_of(client)

    monkeypatch.setattr(cluster, "threads", threads_then_nobody)
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    monkeypatch.setattr(cluster, "LOOK", 0.1)
    with cluster.connected(there.scheduler_address) as client:
        todo = tasks(tmp_path, 0, 1)
        with pytest.warns(UserWarning, match="^no worker is there; the runs wait for one.$"):
            assert not cluster.run_all(todo, client, Heard())
    assert asked[:3] == [{}, {}, {}]
    assert [load_run(task.folder).status for task in todo] == ["interrupted"] * 2
    assert "connection to the scheduler was lost" in load_run(todo[0].folder).reason
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://127.0.0.1:9", "no Dask scheduler answers there (nothing within 0.5 s)"),
        ("nonsense", "no Dask scheduler answers there (missing port number in address 'nonsense')"),
    ],
)
def test_a_wrong_address_is_one_sentence_and_leaves_nothing(address, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    assert main(["compare", "poisson2d", "--methods", "adam", "--scheduler", address]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ravine: --scheduler {address}: {said}; start one with") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_dask_that_is_not_installed_is_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["compare", "poisson2d", "--methods", "adam", "--scheduler", "tcp://127.0.0.1:9"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "ravine: --scheduler needs dask.distributed, which is not installed here: "
        "pip install 'dask[distributed]>=2026.8'\n"
    )


def test_workers_and_scheduler_exclude_each_other(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "poisson2d", "--methods", "adam", "--scheduler", "tcp://127.0.0.1:9"]
    assert main([*words, "--workers", "2"]) == 2
    assert capsys.readouterr().err.startswith("ravine: --workers: is for runs on this machine")


def test_dask_is_imported_only_where_a_scheduler_is_named():
    code = "import sys; from ravine.cli import compare_command, where; from ravine.bench import pool; "
    code += "sys.exit(any(name in sys.modules for name in ('dask', 'distributed')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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


def test_the_example_prints_its_job_script(tmp_path):
    pytest.importorskip("dask_jobqueue")
    example = Path(__file__).parent.parent / "examples" / "slurm.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, cwd=tmp_path, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("#!") and "#SBATCH --cpus-per-task=8" in lines and "#SBATCH -t 04:00:00" in lines
    (worker,) = [line for line in lines if "distributed.cli.dask_worker" in line]
    assert "--nthreads 1 " in worker and "tcp://" in worker
