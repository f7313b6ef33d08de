"""The command line on real runs of a tiny model."""

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import TINY, rows_of

from ravine.bench.task import Task
from ravine.cli import main

pytestmark = pytest.mark.usefixtures("elsewhere")


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
