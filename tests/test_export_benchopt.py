"""`ravine export benchopt`: the folder, and what benchopt itself makes of it."""

import ast
import json
import os
import subprocess
import sys

import jax
import pytest

from ravine.cli import main
from ravine.export.benchmark import write_benchmark
from ravine.registry import entries

TRACING = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/backend_compile_duration")
# What a run of benchopt says of its own files and of the machine, and ravine's records do not hold.
BENCHOPT_ONLY = {
    "file_objective", "file_solver", "file_dataset", "env-OMP_NUM_THREADS", "platform-version", "system-ram (GB)",
    "version-numpy-libs", "benchmark-git-tag", "objective_steps", "objective_work", "objective_stopped",
}  # fmt: skip


def test_the_folder_is_short_python_that_names_every_option(tmp_path, capsys):
    assert main(["export", "benchopt", str(tmp_path / "b"), "Poisson2D,burgers1d", "--methods", "lm,adam,LM"]) == 0
    assert capsys.readouterr().out.split() == ["folder", str(tmp_path / "b"), "datasets", "2", "solvers", "2"]
    files = {p.relative_to(tmp_path / "b").as_posix(): p.read_text() for p in (tmp_path / "b").rglob("*.*")}
    assert set(files) == {
        "README.md", "run.yml", "objective.py", "datasets/poisson2d.py", "datasets/burgers1d.py", "solvers/lm.py",
        "solvers/adam.py",
    }  # fmt: skip
    for name, text in files.items():
        assert len(text.splitlines()) <= 60 and max(map(len, text.splitlines())) <= 140, name
        if name.endswith(".py"):
            ast.parse(text)
    assert '"n_pde": [900]' in files["datasets/poisson2d.py"] and '"damping": [0.001]' in files["solvers/lm.py"]
    assert 'name": "poisson2d"' in files["solvers/lm.py"] and "max_trials" not in files["solvers/lm.py"]


def test_without_names_everything_is_in_it(tmp_path, capsys):
    assert main(["export", "benchopt", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["solvers"] == len(entries("methods"))
    assert {p.stem for p in (tmp_path / "datasets").iterdir()} == set(entries("problems"))
    assert {p.stem for p in (tmp_path / "solvers").iterdir()} == set(entries("methods"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a new or empty folder"),
        (["full"], "full is not empty"),
        (["full/file"], "is a file"),
        (["new", "poison2d"], "did you mean 'poisson2d'?"),
        (["new", "poisson2d", "burgers1d"], "with commas, poisson2d,burgers1d."),
        (["new", ","], "names nothing"),
        (["new", "poisson2d", "--methods", "lmm"], "did you mean 'lm'?"),
        (["new", "poisson2d", "--methods", "adam:500+lm"], "is a plan"),
        (["new", "poisson2d", "--methods", "auto"], "is a plan"),
        (["new", "poisson2d", "--methods", "scipy/trf"], "is of another library"),
        (["new", "poisson2d", "--methods", " "], "names nothing"),
        (["new", "poisson2d", "--out", "x.parquet"], "--out: goes with"),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    assert main(["export", "benchopt", *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert [p.name for p in tmp_path.rglob("*")] == ["full", "file"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("benchopt")
    where = tmp_path_factory.mktemp("bench") / "pinn"
    return write_benchmark(where, ["poisson2d", "convection1d"], ["adam", "lm"]).folder


@pytest.fixture(scope="module")
def ran(folder):
    """(results, file, events of JAX on the clock, events off it) of benchopt's own runner."""
    from benchopt.callback import _Callback
    from benchopt.results import read_results
    from benchopt.runner import run_benchmark

    clock, heard = {"on": False}, {True: [], False: []}
    start, call, get_results = _Callback.start, _Callback.__call__, _Callback.get_results

    def started(self):
        start(self)
        clock["on"] = True

    def called(self):
        clock["on"] = False
        goes = call(self)
        clock["on"] = goes
        return goes

    def ended(self):
        clock["on"] = False
        return get_results(self)

    listen = lambda name, *_, **__: heard[clock["on"]].append(name) if name in TRACING else None
    patch = pytest.MonkeyPatch()
    patch.setattr(_Callback, "start", started)
    patch.setattr(_Callback, "__call__", called)
    patch.setattr(_Callback, "get_results", ended)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        file = run_benchmark(
            folder,
            solver_names=["adam[learning_rate=[0.001,1e-30]]", "lm"],
            dataset_names=["poisson2d[n_pde=25]", "convection1d[n_pde=36]"],
            n_repetitions=2,
            max_runs=21,
            timeout=600,
            plot_result=False,
            no_cache=True,
            show_progress=False,
            output_file="ran",
        )
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        patch.undo()
    return read_results(file), file, heard[True], heard[False]


def test_every_solver_ran_and_repetitions_differ(ran):
    frame = ran[0]
    curves = frame.groupby(["dataset_name", "solver_name", "idx_rep"])
    assert curves.ngroups == 2 * 3 * 2 and frame["objective_value"].notna().all()
    first = curves["objective_value"].first().unstack("idx_rep")
    assert (first[0] != first[1]).all()
    # All methods begin a repetition from the same parameters.
    assert (first.groupby("dataset_name").nunique() == 1).all(axis=None)


def test_no_curve_ends_because_steps_changed_nothing(ran):
    for (_, solver, _), curve in ran[0].groupby(["dataset_name", "solver_name", "idx_rep"]):
        stopped = curve["objective_stopped"].iloc[-1]
        if "1e-30" in solver:  # not one step moves: benchopt's default takes that for convergence after four
            assert curve["objective_value"].nunique() == 1 and stopped == "tiny"
            assert curve["objective_steps"].iloc[-1] == 20
        else:
            assert len(curve) == 22 or stopped, solver
            assert curve["objective_loss"].iloc[-1] < curve["objective_loss"].iloc[0]
        assert curve["objective_steps"].iloc[-1] >= 20 or stopped == "gradient"
        assert (curve["stop_val"] - curve["objective_steps"]).iloc[:-1].eq(0).all()
        assert curve["time"].is_monotonic_increasing


def test_nothing_was_compiled_on_the_clock(ran):
    _, _, on_clock, off_clock = ran
    assert set(off_clock) == set(TRACING) and on_clock == []


def test_results_say_where_they_come_from(ran):
    line = ran[0].iloc[0]
    assert line["p_obj_jax"] == jax.__version__ and line["p_obj_device"].startswith("cpu")
    for name in ("ravine", "commit", "jaxlib", "python", "cpu", "dtype"):
        assert line[f"p_obj_{name}"], name


def test_our_curves_have_the_columns_of_a_run_and_merge_with_it(ran, folder, tmp_path):
    from benchopt.cli import benchopt
    from benchopt.results import read_results
    from test_export_parquet import comparison

    from ravine.export.parquet import write_parquet

    ours = folder / "outputs" / "ours.parquet"
    write_parquet([comparison(tmp_path / "c")], ours)
    kept, frame = read_results(ours), ran[0]
    lacking = {name for name in frame.columns if name not in kept.columns and not name.startswith("p_")}
    assert lacking - {"objective_h1", "objective_linf"} <= BENCHOPT_ONLY  # the synthetic runs have one metric
    files = [word for path in (ours, ran[1]) for word in ("-f", str(path))]
    benchopt(["merge", str(folder), *files, "-o", "both"], standalone_mode=False)
    both = read_results(folder / "outputs" / "both.parquet")
    assert len(both) == len(kept) + len(frame)
    assert set(both["solver_name"]) == set(kept["solver_name"]) | set(frame["solver_name"])
    for name in ("ours", "both"):
        benchopt(["plot", str(folder), "-f", str(folder / "outputs" / name), "--no-display"], standalone_mode=False)
        assert "Error against the solution" in (folder / "outputs" / f"pinn_{name}.html").read_text()


@pytest.mark.slow
def test_benchopt_finds_nothing_wrong_with_the_folder(tmp_path):
    """Its own tests, but for those that install the dependencies into a new conda environment."""
    pytest.importorskip("benchopt")
    folder = write_benchmark(tmp_path / "pinn", ["poisson2d"], ["adam", "lm"]).folder
    command = [sys.executable, "-m", "benchopt", "test", str(folder), "--", "-m", "'not requires_install'"]
    source = os.path.dirname(os.path.dirname(os.path.dirname(sys.modules["ravine.cli"].__file__)))
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    # benchopt calls `pytest` by name: it must be that of this environment.
    first = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "PATH": first}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
