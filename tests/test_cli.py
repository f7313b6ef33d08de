"""The command line: answers without JAX, wrong usage in one sentence, and real runs of a tiny model."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ravine import registry
from ravine.bench import pool
from ravine.bench.task import Task
from ravine.cli import main
from ravine.cli.folders import free, run_name
from ravine.cli.progress import line, time_left
from ravine.cli.solve_command import exit_status
from ravine.driver.budget import Budget

TINY = ["--model.width", "3", "--model.depth", "1", "--problem.n_pde", "16"]
CLOCKS = {"seconds", "cpu_seconds", "wall_seconds"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs land in a scratch folder; the compile cache is the test session's own, if it has one."""
    monkeypatch.chdir(tmp_path)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    return tmp_path


def child(*code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, timeout=120)


def rows_of(folder: Path) -> list[dict]:
    lines = (folder / "rows.jsonl").read_text(encoding="utf8").splitlines()
    return [{k: v for k, v in json.loads(text).items() if k not in CLOCKS} for text in lines]


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
    words = ["compare", "deepritz2d", "--methods", "scipy/trf", "--seeds", "3", "--budget", "5steps"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith("ravine: scipy/trf needs residual rows")
    assert started == [0], "the other seeds are refused without a process"
    assert {path.name for path in elsewhere.iterdir()} <= {"cache"}

    assert main([*words[:3], "scipy/trf,sgd", *words[4:], "--out", "c"]) == 1
    statuses = [
        json.loads((Path("c/deepritz2d") / f"{n}/run.json").read_text())["status"] for n in ("scipy-trf-s2", "sgd-s2")
    ]
    assert statuses == ["failed", "budget"] and started == [0, 0, 0, 1, 2]


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


# -- real runs -------------------------------------------------------------------------------------------------------


def test_solve_writes_a_run_and_a_report(elsewhere, capsys):
    assert main(["solve", "poisson2d", "--method", "adam", "--budget", "20steps", *TINY]) == 0
    out, err = capsys.readouterr()
    folder = Path("runs/poisson2d-adam")
    record = json.loads((folder / "run.json").read_text(encoding="utf8"))
    assert (record["status"], record["steps"], record["method"]) == ("budget", 20, "adam")
    assert record["command"].startswith("ravine solve poisson2d --method adam")
    assert out.splitlines()[0].split()[0] == "status", "the status comes first"
    assert record["reason"].split(":")[0] in " ".join(out.split())
    assert (folder / "report.html").is_file() and str(folder / "report.html") in out
    assert "step 0" in err and "l2" in err

    assert main(["resume", str(folder)]) == 0
    assert "finished already: budget" in capsys.readouterr().out

    assert main(["report", str(folder), "--out", "page.html", "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["report"]).read_text(encoding="utf8").startswith("<!")


def test_solve_json_and_an_unmet_target(capsys):
    words = [
        "--method",
        "adam:3+sgd",
        "--budget",
        "6steps",
        "--target",
        "1e-9",
        "--json",
        "--seed",
        "4",
        "--name",
        "b c",
    ]
    assert main(["solve", "poisson2d", *words, *TINY]) == 1
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert err == ""
    assert record["folder"] == "runs/b-c" and record["seed"] == 4
    assert "unmet" in record["reason"]


def test_options_reach_their_parts(capsys):
    words = [
        "solve",
        "poisson2d",
        "--budget",
        "4steps",
        "--problem.design",
        "uniform",
        "--method",
        "adam",
        *TINY,
        "--json",
    ]
    assert main(words) == 0
    plain = json.loads(capsys.readouterr().out)
    words += ["--set", "adam.learning_rate=0.02", "--sampler", "fresh", "--set", "fresh.every=2"]
    assert main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert plain["points_moved"] == 0 < record["points_moved"], "fresh points after 2 steps; by default after 100"
    assert "width=3" in record["model"] and "uniform" in record["problem_configuration"]
    first, plain_first = (rows_of(Path(r["folder"]))[:2] for r in (record, plain))
    assert first[0]["loss"] == plain_first[0]["loss"], "the same start"
    assert math.isclose(first[0]["step_norm"], 20 * plain_first[0]["step_norm"], rel_tol=1e-9), "twenty times the rate"


@pytest.mark.slow
def test_compare_runs_every_rival_in_its_own_process(elsewhere, capsys):
    words = ["--methods", "adam,sgd", "--seeds", "2", "--budget", "15steps", "--workers", "2", "--out", "c", *TINY]
    assert main(["compare", "poisson2d", *words, "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    listed = json.loads(Path("c/compare.json").read_text(encoding="utf8"))
    assert err == ""
    assert listed["format"] == 1 and listed["methods"] == ["adam", "sgd"] and listed["seeds"] == [0, 1]
    assert listed["runs"] == [f"poisson2d/{method}-s{seed}" for method in ("adam", "sgd") for seed in (0, 1)]
    assert [run["folder"] for run in answer["runs"]] == [f"c/{name}" for name in listed["runs"]]
    assert all(run["status"] == "budget" and run["steps"] == 15 for run in answer["runs"])
    assert Path(answer["report"]).is_file()

    # The command in its record does the same run alone.
    alone = answer["runs"][1]["command"].split()
    assert main([*alone[1:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert math.isclose(again["final"]["loss"], answer["runs"][1]["final"]["loss"], rel_tol=1e-9)
    assert again["final"]["loss"] != answer["runs"][0]["final"]["loss"]


def test_a_resumed_run_says_so_while_it_runs(elsewhere, monkeypatch):
    """run.json and rows.jsonl are up to date from the first step on, and keep what the command line said."""
    assert main(["solve", "poisson2d", "--method", "adam", "--budget", "15steps", "--out", "r", *TINY]) == 0
    record = json.loads(Path("r/run.json").read_text(encoding="utf8"))
    record["task"]["budget"] = "30steps"
    Path("r/run.json").write_text(json.dumps(record | {"status": "interrupted"}), encoding="utf8")
    seen = []

    def look(row, loop):
        now = json.loads(Path("r/run.json").read_text(encoding="utf8"))
        seen.append((row["step"], now["status"], [r["step"] for r in rows_of(Path("r"))]))

    Task(**record["task"], folder="r").resume(progress=look)
    assert seen == [(k, "running", [*range(k + 1)]) for k in range(15, 30)]
    after = json.loads(Path("r/run.json").read_text(encoding="utf8"))
    same = ("name", "problem", "method", "seed", "command", "task", "configuration")
    told = record | {"configuration": record["configuration"] | {"budget": {"dict": {"steps": 30}}}}
    assert {k: after[k] for k in same} == {k: told[k] for k in same}
    assert (after["status"], after["steps"]) == ("budget", 30)


@pytest.mark.slow
def test_interrupt_and_resume_equal_an_unbroken_run(elsewhere, capsys):
    words = ["solve", "poisson2d", "--method", "adam", "--budget", "3000000steps", *TINY]
    # A shell that runs the tests in the background makes them ignore Ctrl-C, and a child would inherit that.
    listening = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start = listening + "from ravine.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", start, *words, "--out", "broken"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("step 0" in text for text in process.stderr)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 130
    record = json.loads(Path("broken/run.json").read_text(encoding="utf8"))
    assert record["status"] == "interrupted" and 0 < record["steps"] < 3_000_000

    steps = record["steps"] + 50
    record["task"]["budget"] = f"{steps}steps"
    Path("broken/run.json").write_text(json.dumps(record), encoding="utf8")
    assert main(["resume", "broken"]) == 0
    words[words.index("3000000steps")] = f"{steps}steps"
    assert main([*words, "--out", "whole"]) == 0
    assert rows_of(Path("broken")) == rows_of(Path("whole"))
