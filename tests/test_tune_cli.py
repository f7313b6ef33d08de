"""`ravine compare --tune` at the command line: wrong usage, interruption, and one small tuning from end to end."""

import json
from pathlib import Path

import pytest

from ravine.bench import pool
from ravine.cli import main, tuning
from ravine.report.load import collect

COMPARE = ["compare", "poisson2d", "--seeds", "1", "--out", "c"]
ADAM = [*COMPARE, "--methods", "adam"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--tune", "0"], "--tune 0: must be a whole number, at least 1."),
        (["--tune", "2.5"], "--tune 2.5: must be a whole number, at least 1."),
        (["--tune", "2", "--tune-seeds", "0"], "--tune-seeds 0: must be a whole number, at least 1."),
        (["--tune-seeds", "2"], "--tune-seeds: goes with --tune N"),
        (["--tune", "2", "--methods", "adam:500+lm"], "'adam:500+lm' is a plan"),
        (["--tune", "2", "--methods", "lm,auto"], "'auto' is a plan"),
        (["--tune", "2", "--methods", "adam:500"], "'adam:500' is a plan"),
    ],
)
def test_wrong_usage_is_one_sentence_and_leaves_nothing(words, sentence, capsys):
    assert main([*(COMPARE if "--methods" in words else ADAM), *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1 and not Path("c").exists()


def test_without_optuna_the_sentence_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    assert main([*ADAM, "--tune", "2"]) == 2
    assert "pip install 'optuna>=4'" in capsys.readouterr().err and not Path("c").exists()


def test_interrupted_while_tuning(monkeypatch, capsys):
    pytest.importorskip("optuna", reason="Optuna is not installed")
    monkeypatch.setattr(pool, "run_all", lambda *_: False)
    assert main([*ADAM, "--tune", "2"]) == 130
    assert "go on with --continue --out c" in capsys.readouterr().err
    assert json.loads(Path("c/compare.json").read_text())["runs"] == [] and not Path("c/poisson2d").exists()
    assert main(["report", "c"]) == 2 and "lists no runs" in capsys.readouterr().err
    assert main([*ADAM, "--tune", "2", "--continue"]) == 130, "there is something to go on with"


@pytest.mark.slow
def test_a_small_tuning_from_end_to_end(capsys):
    pytest.importorskip("optuna", reason="Optuna is not installed")
    words = ["compare", "poisson2d", "--seeds", "1", "--budget", "20steps", "--sampler", "fixed"]
    words += ["--model.width", "3", "--problem.n_pde", "16"]
    assert main([*words, "--out", "c", "--methods", "sgd,averaged", "--tune", "2", "--tune-seeds", "1"]) == 0
    out, err = capsys.readouterr()
    assert "Rule: tuned, 2 trials each of 1 seed" in out and "nothing to tune" in out
    assert "tuning poisson2d sgd, trial 2 of 2 (learning_rate=" in err
    trials = [json.loads(line) for line in Path("c/tuning.jsonl").read_text().splitlines()]
    assert [t["method"] for t in trials] == ["sgd", "sgd"] and all(t["seconds"] > 0 for t in trials)

    run = json.loads(Path("c/poisson2d/sgd-s0/run.json").read_text())
    best = min(trials, key=lambda t: float(t["score"]))
    assert run["task"]["settings"].get("sgd", {}) == best["settings"]
    assert all(f"sgd.{name}={value}" in run["command"] for name, value in best["settings"].items())
    assert run["task"]["tuning"]["seconds"] == pytest.approx(sum(t["seconds"] for t in trials))
    lines = Path("c/results.jsonl").read_text().splitlines()
    told = [json.loads(line)["tuning"] for line in lines]
    assert [t["made"] for t in told] == [2, 0] and all(t["trials"] == 2 for t in told)
    table = Path("c/tables/tuning.csv").read_text()
    assert table.startswith("problem,method,trials,failed,") and "averaged" in table
    page = Path("c/report.html").read_text()
    assert "Rule: tuned, 2 trials each of 1 seed" in page and "sgd on poisson2d: 2 trials" in page

    assert main([*words, "--out", "d", "--methods", "averaged"]) == 0
    assert "Rule: defaults only" in capsys.readouterr().out
    together = {run.method for run in collect(["c", "d"]).runs}
    assert together == {"sgd (tuned=2 trials of 1 seed)", "averaged (tuned=2 trials of 1 seed)", "averaged"}
