"""`ravine export parquet`: every number as in the run folders, no run dropped, and benchopt's tools read the file."""

import json
import math
import shutil
import sys

import bench_samples as samples
import pytest

from ravine.bench import table
from ravine.bench.record import record_of
from ravine.bench.reuse import TABLE, entry
from ravine.cli import main
from ravine.export.parquet import OBJECTIVE, points, write_parquet
from ravine.export.sources import collect
from ravine.records import dumps

INF, NAN = math.inf, math.nan
ERRORS = [1.0, 0.1, NAN, 1 / 3]
SETTINGS = {"lm": {"damping": "1e-2"}}


def rows(errors=ERRORS, **more):
    made = samples.rows_of([0.1 * i for i in range(len(errors))], errors)
    return [row | {"grad_norm": INF, "terms.pde": 2 / 7, "counts.rows": 100 * i} | more for i, row in enumerate(made)]


def comparison(folder):
    """Two methods, two seeds: one run ended, one failed after some rows, one before any, one folder is gone."""
    task = {
        "problem": "poisson2d", "method": "lm", "seed": 0, "budget": "60s", "target": None, "sampler": "fixed",
        "problem_options": {"n_pde": "64"}, "model_options": {"width": "8"}, "settings": SETTINGS,
    }  # fmt: skip
    samples.write(folder / "poisson2d/lm-s0", rows(), task=task)
    samples.write(folder / "poisson2d/lm-s1", rows()[:2], task=task | {"seed": 1}, seed=1, status="failed", rows=...)
    early = samples.write(folder / "poisson2d/adam-s0", rows(), method="adam", status="failed", provenance=...)
    (early / "rows.jsonl").unlink()
    runs = [f"poisson2d/{name}" for name in ("lm-s0", "lm-s1", "adam-s0", "adam-s1")]
    (folder / "compare.json").write_text(dumps({"format": 1, "runs": runs}))
    return folder


def same(a, b):
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def read(path):
    return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()


def test_lines_hold_what_the_rows_hold(tmp_path):
    lines = points(collect([comparison(tmp_path)])[0])
    assert [line["stop_val"] for line in lines] == [0, 1, 2, 3]
    for line, row in zip(lines, rows(), strict=True):
        assert line["time"] == row["seconds"] and line["objective_loss"] == row["loss"]
        assert same(line["objective_value"], row["metrics.l2"]) and same(line["objective_l2"], row["metrics.l2"])
        assert line["objective_grad_norm"] == INF and line["row_terms.pde"] == 2 / 7
        assert line["row_work"] == 3 * row["step"] + 3 * row["counts.rows"] / 100
    first = lines[0]
    assert (first["dataset_name"], first["idx_rep"]) == ("poisson2d (model.width=8, n_pde=64)", 0)
    assert first["solver_name"] == "lm (lm.damping=0.01, sampler=fixed)" and first["objective_name"] == OBJECTIVE
    assert (first["p_dataset_n_pde"], first["p_dataset_model.width"], first["p_solver_damping"]) == (64.0, 8.0, 0.01)
    assert (first["p_solver_sampler"], json.loads(first["p_obj_budget"])) == ("fixed", {"seconds": 60.0})
    assert "Levenberg-Marquardt" in first["solver_description"]


def test_the_record_is_there_in_full(tmp_path):
    source = collect([comparison(tmp_path)])[0]
    line, record = points(source)[0], record_of(source.folder)
    for name, value in record.items():
        if name == "versions":
            assert all(line[f"ravine_version_{k}"] == v for k, v in value.items())
        else:
            kept = line["ravine_version" if name == "ravine" else f"ravine_{name}"]
            assert same(kept, dumps(value) if isinstance(value, dict | list) else value), name
    for name in ("commit", "machine", "cpu", "status", "reason", "seed", "compile_seconds", "work", "key", "platform"):
        assert line[f"ravine_{name}"] is not None, name


def test_a_run_that_failed_is_there_and_has_no_result(tmp_path):
    ended, late, early, gone = (points(source) for source in collect([comparison(tmp_path)]))
    assert {line["ravine_status"] for line in late} == {"failed"}
    assert all(math.isnan(line["objective_value"]) for line in late)
    assert [line["objective_l2"] for line in late] == [1.0, 0.1] and late[0]["row_work"] is None
    for lines, status in ((early, "failed"), (gone, "missing")):
        (line,) = lines
        assert (line["stop_val"], line["time"], line["ravine_status"]) == (0, None, status)
        assert math.isnan(line["objective_value"]) and line["solver_name"] == "adam"
    assert gone[0]["idx_rep"] == 1 and "not there" in gone[0]["ravine_reason"]
    assert not math.isnan(ended[0]["objective_value"])


def test_a_run_file_that_is_damaged_is_a_run(tmp_path):
    folder = comparison(tmp_path)
    (folder / "poisson2d/lm-s0/run.json").write_text("{")
    (folder / "poisson2d/lm-s1/rows.jsonl").write_text("[]\n")
    damaged, torn, *_ = (points(source) for source in collect([folder]))
    assert [line["ravine_status"] for line in damaged + torn] == ["unreadable", "unreadable"]
    assert "run.json cannot be read" in damaged[0]["ravine_reason"] and torn[0]["ravine_seed"] == 1


def test_a_table_without_its_folders_gives_the_end_of_every_run(tmp_path):
    folder = comparison(tmp_path / "a")
    for name in ("lm-s0", "lm-s1"):
        table.append(tmp_path / TABLE, entry(folder, folder / "poisson2d" / name) | {"folder": "elsewhere"})
    shutil.rmtree(folder)
    ended, failed = (points(source) for source in collect([tmp_path / TABLE]))
    assert [(line["stop_val"], line["time"], line["objective_value"]) for line in ended] == [(3, 0.1 * 3, 1 / 3)]
    assert math.isnan(failed[0]["objective_value"]) and failed[0]["ravine_status"] == "failed"


def test_numbers_survive_the_file(tmp_path, capsys):
    folder = comparison(tmp_path)
    out = tmp_path / "curves.parquet"  # the default, beside the runs
    pytest.importorskip("pyarrow")
    assert main(["export", "parquet", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(out), "runs": 4, "points": 8}
    wanted = [line for source in collect([folder]) for line in points(source)]
    for line, kept in zip(wanted, read(out), strict=True):
        assert set(line) <= set(kept)
        for name, value in kept.items():
            assert same(value, line.get(name)), (name, value, line.get(name))


def test_benchopt_reads_plots_and_merges_it(tmp_path):
    results = pytest.importorskip("benchopt.results")
    from benchopt.benchmark import Benchmark
    from benchopt.plotting.generate_html import plot_benchmark_html
    from benchopt.results.result_processing import describe_results, merge_results

    folder, home = comparison(tmp_path / "compare"), tmp_path / "bench"
    write_parquet([folder], tmp_path / "a.parquet")
    frame = results.read_results(tmp_path / "a.parquet")
    assert frame["objective_value"].tolist()[:2] == [1.0, 0.1] and frame["run_date"].iloc[0].startswith("2026-01-01")
    told = describe_results(frame)
    assert (told["n_configs"], told["n_repetitions"], told["n_rows"]) == (2, 2, 8)
    assert len(merge_results([tmp_path / "a.parquet", tmp_path / "a.parquet"])) == 8

    (home / "outputs").mkdir(parents=True)
    for part in ("datasets", "solvers"):
        (home / part).mkdir()
    (home / "objective.py").write_text(EMPTY_OBJECTIVE)
    shutil.copy(tmp_path / "a.parquet", home / "outputs" / "a.parquet")
    plot_benchmark_html(home / "outputs" / "a.parquet", Benchmark(home), display=False)
    (page,) = (home / "outputs").glob("*_a.html")
    assert "lm (lm.damping=0.01, sampler=fixed)" in page.read_text() and "a processor" in page.read_text()


EMPTY_OBJECTIVE = """
from benchopt import BaseObjective
class Objective(BaseObjective):
    name = "anything"
    def set_data(self): pass
    def get_objective(self): return {}
    def evaluate_result(self): return 0.0
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["parket"], "did you mean 'parquet'?"),
        (["parquet"], "name the folder of a comparison or run"),
        (["parquet", "nowhere"], "there is no such folder or file"),
        (["parquet", "empty"], "holds neither compare.json nor run.json"),
        (["parquet", "broken"], "is not the list of a comparison"),
        (["parquet", "note.txt"], "is not JSON"),
        (["parquet", "good", "--out", "x.csv"], "must end in .parquet"),
        (["parquet", "good", "--out", "absent/x.parquet"], "there is no folder absent"),
        (["parquet", "good", "copy"], "would be read as one curve"),
        (["parquet", "good", "--methods", "lm"], "--methods: goes with"),
        (["parquet", "good", "--methid", "lm"], "did you mean '--methods'?"),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken/compare.json").write_text("{}")
    (tmp_path / "note.txt").write_text("hello")
    comparison(tmp_path / "good")
    comparison(tmp_path / "copy")
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_without_pyarrow_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["export", "parquet", str(comparison(tmp_path))]) == 2
    assert "pip install 'pyarrow>=" in capsys.readouterr().err and not list(tmp_path.glob("*.parquet"))
