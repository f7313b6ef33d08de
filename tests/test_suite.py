"""`benchmarks/suite.py`: the order of its runs, its pieces, its archives, and which runs are made again."""

import dataclasses
import importlib.util
import itertools
import json
from pathlib import Path

import pytest
from bench_samples import rows_of, write

from ravine.bench.json_lines import read_objects
from ravine.bench.task import Task, is_rival

SOURCE = Path(__file__).parent.parent / "benchmarks" / "suite.py"


@pytest.fixture
def suite(monkeypatch, tmp_path):
    """The module, with its archives in a folder of the test."""
    spec = importlib.util.spec_from_file_location("suite", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "archives").mkdir()
    monkeypatch.setattr(module, "HERE", tmp_path / "archives")
    return module


def task(out, method, seed=0, problem="poisson2d"):
    return Task(problem, method, seed, "20s", folder=str(out / problem / f"{method.replace('/', '-')}-s{seed}"))


def made(task, **entries):
    """A run of the task as the suite leaves it, by an earlier commit."""
    described = {k: v for k, v in dataclasses.asdict(task).items() if k not in ("folder", "command")}
    rows = [row | {"scalars.rho": 1.0, "metrics.linf": 2.0} for row in rows_of([0.0, 1.0, 2.0], [1.0, 0.1, 0.01])]
    write(Path(task.folder), rows, problem=task.problem, method=task.method, seed=task.seed, task=described, **entries)
    return task


def test_equations_and_methods_that_see_all_rows_come_first_and_rivals_have_fewer_seeds(suite, tmp_path):
    tasks = suite.tasks(tmp_path)
    first = [t for t in tasks if suite.is_first(t)]
    assert tasks[: len(first)] == first and 0 < len(first) < len(tasks)
    for part in (first, tasks[len(first) :]):
        seeds = [t.seed for t in part]
        assert seeds == sorted(seeds) and set(seeds) == set(range(suite.SEEDS))
    assert {t.seed for t in tasks if is_rival(t.method)} == set(range(suite.RIVAL_SEEDS))
    assert len({t.folder for t in tasks}) == len(tasks)
    assert {"svrg", "adam", "optax/lbfgs"} <= {t.method for t in tasks} and "optax" not in {t.method for t in tasks}


def test_pieces_are_whole_problems_and_seeds_joined_until_they_are_long_enough(suite, tmp_path):
    lengths = {("poisson2d", 0): 3, ("burgers1d", 0): 1, ("poisson2d", 1): 9, ("burgers1d", 1): 2}
    names = ("adam", "sgd", "gd", "cg", "bb", "lbfgs", "bfgs", "lm", "gn")
    tasks = [task(tmp_path, name, seed, problem) for (problem, seed), n in lengths.items() for name in names[:n]]
    found = list(suite.pieces(tasks, 4))
    assert [len(piece) for piece in found] == [4, 9, 2]
    assert list(itertools.chain(*found)) == tasks
    assert list(suite.pieces([], 4)) == []


def test_archives_give_back_what_statistics_read_and_hold_each_run_once(suite, tmp_path):
    out, other = tmp_path / "runs", tmp_path / "elsewhere"
    done = [made(task(out, method, seed)) for method in ("adam", "lm") for seed in (0, 1)]
    suite.pack(out, done[:3])
    suite.pack(out, done[:3])
    assert [path.name for path in suite.archives()] == ["runs-1.tar.xz"]
    suite.pack(out, done)
    assert [path.name for path in suite.archives()] == ["runs-1.tar.xz", "runs-2.tar.xz"]
    suite.unpack(other)
    for one in done:
        there = other / Path(one.folder).relative_to(out)
        assert (there / "run.json").read_bytes() == (Path(one.folder) / "run.json").read_bytes()
        rows = read_objects(there / "rows.jsonl").objects
        assert [row["metrics.l2"] for row in rows] == [1.0, 0.1, 0.01]
        assert [row["counts.vjp"] for row in rows] == [0, 1, 2] and rows[-1]["status"] == "closing"
        assert not {"scalars.rho", "metrics.linf"} & rows[0].keys()


def test_unpacking_does_not_replace_a_run_that_is_there(suite, tmp_path):
    out = tmp_path / "runs"
    one = made(task(out, "adam"))
    suite.pack(out, [one])
    made(one, reason="Made anew.")
    suite.unpack(out)
    assert json.loads((Path(one.folder) / "run.json").read_text())["reason"] == "Made anew."


def test_forget_takes_the_runs_of_one_method_from_archives_and_folder_and_no_others(suite, tmp_path, capsys):
    out, other = tmp_path / "runs", tmp_path / "elsewhere"
    done = [made(task(out, method, seed)) for seed in (0, 1) for method in ("adam", "lm")]
    suite.pack(out, done[:2])
    suite.pack(out, done)
    suite.forget(out, {"adam"})
    assert "2 runs of adam" in capsys.readouterr().out
    suite.unpack(other)
    for folder in (out, other):
        assert sorted(path.parent.name for path in folder.glob("*/*/run.json")) == ["lm-s0", "lm-s1"]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"cpu_seconds": 1.0}, True),
        ({"cpu_seconds": 1.99}, False),
        ({}, False),
        ({"cpu_seconds": 0.008, "seconds": 0.013}, False),
    ],
)
def test_a_run_whose_core_something_else_had_is_disturbed(suite, tmp_path, entries, expected):
    assert suite.disturbed(Path(made(task(tmp_path, "adam"), **entries).folder)) is expected


def test_what_an_earlier_commit_finished_or_was_refused_is_done_and_disturbed_or_unfinished_runs_are_not(
    suite, tmp_path, monkeypatch
):
    out = tmp_path / "runs"
    done, refused, disturbed, killed, missing = (task(out, name) for name in ("adam", "scimba/eng", "lm", "gn", "bfgs"))
    made(done)
    made(refused, status="failed", provenance=..., code={"ravine": "0.1.0", "commit": "abc"})
    made(disturbed, cpu_seconds=0.5)
    made(killed, status="running")
    every = [done, refused, disturbed, killed, missing]
    monkeypatch.setattr(suite, "tasks", lambda _: every)
    found = suite.shared_out(out)
    assert found.tasks == every
    assert found.pending == [disturbed, killed, missing]
    assert sorted(found.stale) == sorted(Path(t.folder) for t in (disturbed, killed))
