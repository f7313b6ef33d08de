"""The command line: answers without JAX, and wrong usage in one sentence."""

import json
from pathlib import Path

import pytest
from command_line import TINY, child

from ravine import registry
from ravine.bench import pool
from ravine.bench.task import Task
from ravine.cli import main
from ravine.cli.folders import free, run_name
from ravine.cli.progress import line, time_left
from ravine.cli.solve_command import exit_status
from ravine.driver.budget import Budget

pytestmark = pytest.mark.usefixtures("elsewhere")

# -- without JAX -----------------------------------------------------------------------------------------------------


def test_help_takes_half_a_second_at_most():
    """Process time, interpreter included: the machine that runs the tests may be busy."""
    done = child("import sys, time", "from ravine.cli import main", "main(['--help'])", "print(time.process_time())")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 0.5
    assert "exit status" in done.stdout and "cache" in done.stdout


def test_jax_is_not_imported_for_help_listings_and_wrong_names():
    done = child(
        "import sys",
        "from ravine.cli import main",
        "for name in ('list', 'solve', 'compare', 'resume', 'report', 'export'): assert main([name, '--help']) == 0",
        "assert main(['--help']) == main(['--version']) == main(['list']) == main(['list', '--json']) == 0",
        "assert main(['solve', 'poison2d']) == 2",
        "assert main(['solve', 'poisson2d', '--method', 'ssbroydn']) == 2",
        "assert main(['compare', 'poisson2d', '--methods', 'adam,lbgfs']) == 2",
        "assert main(['solve', 'poisson2d', '--budget', '60parsecs']) == 2",
        "assert main(['resume', 'nowhere']) == 2",
        "assert main(['export', 'parket']) == 2",
        "assert main(['export', 'parquet', 'nowhere']) == 2",
        "assert main(['export', 'benchopt', 'nowhere', 'poisson2d', '--methods', 'lmm']) == 2",
        "heavy = {'jax', 'equinox', 'scipy'} & set(sys.modules)",
        "assert not heavy, heavy",
    )
    assert done.returncode == 0, done.stderr


def test_list_json_is_the_registry(capsys):
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == set(registry.KINDS)
    for kind, table in found.items():
        assert [row["name"] for row in table] == list(registry.entries(kind))
    assert {"adam", "lbfgs", "ssbroyden", "lm"} <= {row["name"] for row in found["methods"]}
    said = [row["summary"] for table in found.values() for row in table]
    assert all(said) and not any("module docstring" in text for text in said)


def test_list_one_kind(capsys):
    assert main(["list", "samplers"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in registry.entries("samplers"))
    assert "ssbroyden" not in out


WRONG = [
    ("slove poisson2d", "'solve'"),
    ("--hlp", "'--help'"),
    ("list method", "'methods'"),
    ("solve", "PROBLEM"),
    ("solve poison2d", "'poisson2d'"),
    ("solve poisson2d burgers1d", "burgers1d"),
    ("solve poisson2d --method ssbroydn", "'ssbroyden'"),
    ("solve poisson2d --method adam:many+lm", "'many' is not a number of steps"),
    ("solve poisson2d --method adam:0+lm", "'0' is not a number of steps"),
    ("solve poisson2d --method adam++lm", "has no name"),
    ("solve poisson2d --methd lm", "'--method'"),
    ("solve poisson2d --metho lm", "'--method'"),
    ("solve poisson2d --budget 60x", "unit 'x' is unknown"),
    ("solve poisson2d --budget soon", "60s"),
    ("solve poisson2d --budget -5s", "budget '-5s': write a positive number"),
    ("solve poisson2d --budget 10steps,0s", "budget '0s': write a positive number"),
    ("solve poisson2d --budget 2.5steps", "whole number"),
    ("solve poisson2d --budget", "--budget"),
    ("solve poisson2d --budget 5s,6s", "5s and 6s are both seconds"),
    ("solve poisson2d --budget 1m,10steps,30s", "1m and 30s are both seconds"),
    ("solve poisson2d --budget 3", "budget '3': the unit is missing: 3s, 3m or 3steps?"),
    ("solve poisson2d --budget 5s --budget=6s", "--budget is given twice, as 5s and as 6s; give one of them."),
    ("compare poisson2d --methods adam --methods lm", "--methods is given twice, as adam and as lm; give one of them."),
    ("solve poisson2d --method lm --set lm.damping=1 --set lm.damping=2", "--set lm.damping is given twice, as 1 and"),
    ("solve poisson2d --model.width 8 --model.width=16", "--model.width is given twice, as 8 and as 16"),
    ("solve poisson2d --target -1e-6", "--target -1e-6"),
    ("solve poisson2d --target nan", "--target nan"),
    ("solve poisson2d --target low", "--target low"),
    ("solve poisson2d --seed -1", "--seed -1"),
    ("solve poisson2d --seed 1.5", "--seed 1.5"),
    ("solve poisson2d --seed 99999999999999999999", "at most 4294967295"),
    ("solve poisson2d --sampler frsh", "'fresh'"),
    ("solve poisson2d --set damping=1", "PART.NAME=VALUE"),
    ("solve poisson2d --method lm --set ml.damping=1", "choose one of lm"),
    ("solve poisson2d --model.width", "needs a value"),
    ("solve poisson2d --out full", "full-2"),
    ("solve poisson2d --out full/file", "is a file"),
    ("solve poisson2d --out=", "--out '': names nothing; write a path, such as runs/mine"),
    ("solve poisson2d --out .", "such as poisson2d-auto."),
    ("compare poisson2d --methods adam --out .", "such as compare-poisson2d."),
    ("report full --out=", "--out '': names nothing; write a path, such as report.html"),
    ("compare poisson2d", "--methods"),
    ("compare poisson2d,poison2d --methods adam", "'poisson2d'"),
    ("compare poisson2d --methods adam,lbgfs", "'lbfgs'"),
    ("compare poisson2d --methods ,", "--methods"),
    ("compare poisson2d --methods adam --seeds 0", "--seeds 0"),
    ("compare poisson2d --methods adam --workers 0", "--workers 0"),
    ("compare poisson2d --methods adam --set lm.damping=1", "choose one of adam"),
    ("compare poisson2d --methods adam --out full", "full-2"),
    ("compare poisson2d --methods adam --continue", "name the folder of the comparison with --out"),
    ("compare poisson2d --methods adam --continue --out full", "full: holds no comparison to continue"),
    ("compare poisson2d --methods adam --continue --out full/file", "is a file; name the folder of the comparison"),
    ("compare poisson2d --methods adam --retry-failed --out new", "--retry-failed: goes with --continue"),
    ("compare poisson2d --methods adam --contine --out new", "'--continue'"),
    ("solve poisson2d --continue", "has no option --continue"),
    ("resume nowhere", "nowhere"),
    ("resume full/file", "`full/file` is a file"),
    ("report nowhere", "`nowhere` does not exist"),
    ("report nowhere elsewhere", "`nowhere` does not exist"),
    ("report full/file", "`full/file` is a file"),
    ("report full --out nowhere/report.html", "nowhere"),
    ("report full --out full/run.json", "must end in .html"),
    ("solve poisson2d --method auto:5", "'auto' chooses for a whole run and cannot be a stage"),
    ("solve poisson2d --set guard.swap=0.1", "write --sampler guard as well"),
    # what only the classes know: the second pass
    ("solve poisson2d --problem.nn_pde 3", "'n_pde'"),
    ("solve poisson2d --problem.n_pde many", "a whole number"),
    ("solve poisson2d --problem.hard perhaps", "true or false"),
    ("solve poisson2d --model.widht 3", "'width'"),
    ("solve poisson2d --model.width -3", "at least 1"),
    ("solve poisson2d --model.lower 0,a", "numbers separated by commas"),
    ("solve poisson2d --method adam --set adam.learningrate=1", "'learning_rate'"),
    ("solve poisson2d --method adam --set adam.learning_rate=-1", "positive"),
    ("compare poisson2d --methods adam --model.widht 3", "'width'"),
    # what only a run can refuse
    ("solve deepritz2d --method adam --sampler rad --out a/b", "ResidualAdaptive needs residual rows"),
]


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_usage_gets_one_sentence(words, expected, elsewhere, capsys):
    (elsewhere / "full").mkdir()
    (elsewhere / "full" / "file").write_text("mine")
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    said = [text for text in err.splitlines() if "compiling" not in text]
    assert len(said) == 1 and said[0].startswith("ravine: ")
    assert expected in said[0]
    left = {path.name for path in elsewhere.iterdir()} - {"cache"}
    assert left == {"full"}, "wrong usage leaves nothing behind"


def test_a_run_that_python_started_goes_on_in_python(elsewhere, capsys):
    (elsewhere / "mine").mkdir()
    (elsewhere / "mine" / "run.json").write_text(json.dumps({"format": 1, "method": "Adam", "status": "interrupted"}))
    assert main(["resume", "mine"]) == 2
    assert "mine: was started from Python; go on there: ravine.resume('mine'), or" in capsys.readouterr().err


def test_an_empty_folder_of_the_user_is_kept_when_the_run_is_refused(elsewhere):
    (elsewhere / "mine").mkdir()
    assert main(["solve", "deepritz2d", "--method", "adam", "--sampler", "rad", "--out", "mine"]) == 2
    assert list((elsewhere / "mine").iterdir()) == []


@pytest.mark.slow
def test_a_comparison_whose_runs_are_all_refused_is_wrong_usage(elsewhere, capsys, monkeypatch):
    started, start = [], pool._start
    monkeypatch.setattr(pool, "_start", lambda task, *rest: (started.append(task.seed), start(task, *rest))[1])
    words = ["compare", "deepritz2d", "--methods", "scipy/trf", "--seeds", "2", "--budget", "5steps"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith("ravine: scipy/trf needs residual rows")
    assert started == [0], "the other seed is refused without a process"
    assert {path.name for path in elsewhere.iterdir()} <= {"cache"}

    assert main([*words[:3], "scipy/trf,sgd", *words[4:], "--out", "c"]) == 1
    statuses = [
        json.loads((Path("c/deepritz2d") / f"{n}/run.json").read_text())["status"] for n in ("scipy-trf-s1", "sgd-s1")
    ]
    assert statuses == ["failed", "budget"] and started == [0, 0, 0, 1]


def test_resume_names_the_unfinished_runs_of_a_comparison(elsewhere, capsys):
    names = [f"poisson2d/adam-s{seed}" for seed in range(8)]
    for seed, name in enumerate(names):
        (Path("c") / name / "checkpoint").mkdir(parents=True)
        record = {"format": 1, "method": "adam", "status": "budget" if seed == 0 else "interrupted"}
        (Path("c") / name / "run.json").write_text(json.dumps(record))
        if seed != 1:
            (Path("c") / name / "checkpoint" / "step-000000000000.npz").write_bytes(b"")
    Path("c/compare.json").write_text(json.dumps({"format": 1, "runs": names}))
    assert main(["resume", "c"]) == 2
    sentence = capsys.readouterr().err
    listed = ", ".join(f"c/poisson2d/adam-s{seed}" for seed in range(2, 7))
    assert sentence == f"ravine: c: is a comparison; resume its unfinished runs one by one: {listed} and 1 more.\n"

    Path("c/compare.json").write_text(json.dumps({"format": 1, "runs": names[:2]}))
    assert main(["resume", "c"]) == 2
    assert "none of its runs is unfinished with a checkpoint" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_a_damaged_checkpoint_is_said_in_one_line(elsewhere, capsys):
    assert main(["solve", "poisson2d", "--method", "adam", "--budget", "20steps", "--out", "r", *TINY]) == 0
    record = json.loads(Path("r/run.json").read_text(encoding="utf8"))
    record["status"], record["task"]["budget"] = "interrupted", "30steps"
    Path("r/run.json").write_text(json.dumps(record), encoding="utf8")
    newest = sorted(Path("r/checkpoint").glob("*.npz"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    capsys.readouterr()
    assert main(["resume", "r"]) == 0
    err = capsys.readouterr().err
    (said,) = [text for text in err.splitlines() if "checkpoint" in text and "going on" not in text]
    assert said.startswith(f"ravine: checkpoint {newest.name} cannot be read") and said.endswith("(step 0) is used.")
    assert "UserWarning" not in err and ".py" not in err


def test_exit_statuses():
    assert [exit_status(s, False) for s in ("reached_target", "converged", "budget")] == [0, 0, 0]
    assert [exit_status(s, False) for s in ("stalled", "diverged", "failed", "interrupted")] == [1, 1, 1, 130]
    assert [exit_status(s, True) for s in ("reached_target", "converged", "budget", "interrupted")] == [0, 1, 1, 130]


def test_folders_are_numbered(elsewhere):
    assert run_name("burgers1d", "adam:500+lm") == "burgers1d-adam500+lm"
    (elsewhere / "a").mkdir()
    (elsewhere / "a-2").mkdir()
    assert free(elsewhere / "a").name == "a-3"
    assert free(elsewhere / "b").name == "b"


def test_progress_line():
    row = {"step": 1200, "seconds": 15.0, "loss": 1.24e-9, "metrics.l2": "NaN", "metrics.h1": 1.0}
    assert line("poisson2d lm seed 0", row, Budget(seconds=20)) == (
        "poisson2d lm seed 0   step 1,200   loss 1.2e-9   l2 NaN   5 s left"
    )
    assert time_left(row, Budget(steps=2400)) == "15 s left"
    assert time_left({"step": 0, "seconds": 0.0}, Budget(steps=10)) is None


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "1", True])
def test_seeds_of_tasks_have_the_range_of_the_driver(seed):
    with pytest.raises(ValueError, match=r"seed .*: must be a nonnegative whole number, at most 4294967295\."):
        Task("poisson2d", "adam", seed=seed)


def test_tasks_survive_the_trip_to_another_process():
    task = Task("poisson2d", "adam:5+lm", seed=3, target=1e-6, settings={"lm": {"damping": "1e-3"}}, folder="x")
    assert Task(**json.loads(json.dumps(task.describe()["task"])), folder="x") == task
