"""Runs on a Dask cluster leave what the pool leaves. The runs are stand-ins (stand_in.py) but for one real one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_pool import Heard, linux, stand_in

from ravine.bench import cluster, table
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
    assert (Path(todo[0].folder) / "checkpoint" / "step-000000000000.npz").read_bytes() == bytes(range(256))
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
    assert found[1].reason == "Stand-in." and (Path(todo[1].folder) / "checkpoint" / "step-000000000000.npz").is_file()
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


def test_the_example_prints_its_job_script(tmp_path):
    pytest.importorskip("dask_jobqueue")
    example = Path(__file__).parent.parent / "examples" / "slurm.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, cwd=tmp_path, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("#!") and "#SBATCH --cpus-per-task=8" in lines and "#SBATCH -t 04:00:00" in lines
    (worker,) = [line for line in lines if "distributed.cli.dask_worker" in line]
    assert "--nthreads 1 " in worker and "tcp://" in worker
