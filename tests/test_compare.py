"""`ravine compare` around its runs: the table, the summary, and what --continue makes again.

The runs are synthetic: a stand-in for the process pool writes run folders with prescribed error curves.
"""

import csv
import dataclasses
import json
from pathlib import Path

import bench_samples as samples
import pytest

from ravine.bench import pool, record, table
from ravine.bench.task import Task
from ravine.cli import compare_command, folders, main

COMPARE = ["compare", "poisson2d", "--methods", "adam,lm", "--budget", "60s", "--out", "c"]
SECONDS = {"adam": 2.0, "lm": 1.0, "sgd": 3.0}  # from one power of ten of the error to the next


class Pool:
    """In place of `pool.run_all`: run i takes SECONDS a decade. `ends` maps (method, seed) to a status of its own,
    `stop_after` interrupts the comparison after so many runs."""

    def __init__(self):
        self.made, self.ends, self.stop_after, self.commit = [], {}, None, "abc"

    def __call__(self, tasks, workers, listener, limits=None):
        for i, task in enumerate(tasks):
            if i == self.stop_after:
                for rest in tasks[i:]:
                    pool.never_started(rest, "The comparison was interrupted before this run started.")
                return False
            status = self.ends.get((task.method, task.seed), "budget")
            listener(task, {"event": "start"})
            write(task, status, self.commit)
            self.made.append(Path(task.folder).name)
            listener(task, {"event": "done", "status": status})
        return True


def write(task, status, commit):
    pace = SECONDS[task.method] * (1 + 0.01 * task.seed)
    rows = samples.rows_of([pace * i for i in range(7)], samples.POWERS)
    described = {k: v for k, v in dataclasses.asdict(task).items() if k not in ("folder", "command")}
    entries = {"problem": task.problem, "method": task.method, "seed": task.seed, "task": described, "status": status}
    entries |= {"provenance": samples.PROVENANCE | {"commit": commit}, "final": {"metrics.l2": 1e-6}}
    assert not Path(task.folder).exists(), "a run starts in a folder of its own"
    samples.write(Path(task.folder), rows, **entries)


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(record, "own_commit", lambda: "abc")
    stand_in = Pool()
    monkeypatch.setattr(pool, "run_all", stand_in)
    return stand_in


def statuses():
    listed = json.loads(Path("c/compare.json").read_text())["runs"]
    return {name: json.loads((Path("c") / name / "run.json").read_text())["status"] for name in listed}


def test_a_table_and_a_summary_whose_claim_is_true(capsys):
    """lm is twice as fast with every one of 8 seeds, and ends at the same error."""
    assert main([*COMPARE, "--seeds", "8"]) == 0
    out = capsys.readouterr().out
    heads = ["Outcomes", "Final errors", "Times to targets", "Success rates"]
    assert [line for line in out.splitlines() if line in heads] == heads
    times = next(line for line in out.split("Times to targets")[1].splitlines() if line.startswith("poisson2d  lm"))
    assert [float(word) for word in times.split()[2:]] == pytest.approx([2.08, 4.16, 6.24], rel=0.01)
    claims = [line for line in out.splitlines() if "fewer seconds" in line]
    assert len(claims) == 3 and all(line.startswith("lm reaches error") and "8 of 8 seeds" in line for line in claims)
    assert "no claim: adam and lm on poisson2d, final error: all methods are equal in every pair." in out
    assert out.index("tables  c/tables") < out.index("report  c/report.html")

    found = sorted(table.read("c/results.jsonl").records, key=lambda r: (r["rival"], r["seed"]))
    assert [(r["rival"], r["seed"]) for r in found] == [(m, s) for m in ("adam", "lm") for s in range(8)]
    assert found[9]["folder"] == "poisson2d/lm-s1" and found[9]["times"]["seconds"]["0.1"] == pytest.approx(1.01)
    rows = list(csv.DictReader(Path("c/tables/success.csv").read_text().splitlines()))
    assert len(rows) == 2 * 10
    assert [r["reached"] for r in rows if r["target"] in ("1e-06", "1e-07")] == ["8", "0"] * 2
    assert {p.stem for p in Path("c/tables").glob("*.csv")} == {
        "outcomes", "runs", "summary", "errors", "times", "success", "claims", "standing",
    }  # fmt: skip
    assert "Claims" in Path("c/tables/summary.txt").read_text()


def test_methods_take_turns(runs):
    """A machine that gets slower would otherwise be slow for the last method only."""
    main([word.replace("adam,lm", "adam,lm,sgd") for word in [*COMPARE, "--seeds", "3"]])
    first, second, third = runs.made[:3], runs.made[3:6], runs.made[6:]
    assert first == ["adam-s0", "lm-s0", "sgd-s0"] and second == ["lm-s1", "sgd-s1", "adam-s1"]
    assert third == ["sgd-s2", "adam-s2", "lm-s2"]
    listed = [name.partition("/")[2] for name in json.loads(Path("c/compare.json").read_text())["runs"]]
    assert listed == [f"{m}-s{s}" for m in ("adam", "lm", "sgd") for s in range(3)], "tables are as asked for"


def test_what_cannot_be_compared_leaves_no_tables_of_what_could(runs, capsys):
    assert main([*COMPARE, "--seeds", "2"]) == 0
    assert "tables  c/tables" in capsys.readouterr().out and Path("c/tables/errors.csv").is_file()
    path = Path("c/poisson2d/lm-s1/run.json")
    path.write_text(path.read_text().replace('"seed": 1', '"seed": null'))
    folder = Path("c")
    names = [(m, s) for m in ("adam", "lm") for s in (0, 1)]
    tasks = [Task("poisson2d", m, s, folder=str(folder / "poisson2d" / f"{m}-s{s}")) for m, s in names]
    assert compare_command.judge(folder, tasks)[0] is None
    assert not list(Path("c/tables").iterdir())


def test_one_seed_adds_one_sentence(capsys):
    assert main([*COMPARE, "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("no claim") == 1 and "1 paired run in each of 4 comparisons" in out
    assert "Outcomes" not in out and out.startswith("status")


def test_json_has_the_findings_beside_what_it_had(capsys):
    assert main([*COMPARE, "--seeds", "8", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert list(found) == ["folder", "report", "runs", "findings"] and err == ""
    assert [f["claim"] for f in found["findings"]] == [True] * 3 + [False]
    assert found["findings"][0]["better"] == "lm" and found["findings"][-1]["p"] == "NaN"


def test_a_target_of_the_runs_is_the_last_that_is_asked_for(capsys):
    assert main([*COMPARE, "--seeds", "2", "--target", "3e-4"]) == 0
    times = capsys.readouterr().out.split("Times to targets")[1]
    assert times.splitlines()[3].split() == ["problem", "method", "1e-02", "3e-04"]


def test_continue_makes_only_what_is_missing(runs, capsys):
    assert main([*COMPARE, "--seeds", "2"]) == 0
    assert main([*COMPARE, "--seeds", "3"]) == 2, "a folder that is not empty is refused without the flag"
    runs.made.clear()
    assert main([*COMPARE, "--seeds", "3", "--continue"]) == 0
    assert runs.made == ["adam-s2", "lm-s2"]
    assert "4 of 6 runs are there." in capsys.readouterr().err
    assert len(statuses()) == 6 and len(table.read("c/results.jsonl").records) == 6

    runs.made.clear()
    assert main([*COMPARE, "--seeds", "3", "--continue"]) == 0
    assert runs.made == [] and "Outcomes" in capsys.readouterr().out
    assert Path("c/report.html").is_file()


def test_continue_in_a_new_folder_makes_everything(runs):
    assert main([*COMPARE, "--seeds", "1", "--continue"]) == 0
    assert runs.made == ["adam-s0", "lm-s0"]


def test_other_runs_of_the_folder_are_neither_overwritten_nor_shown(runs, capsys):
    assert main([*COMPARE, "--seeds", "1"]) == 0
    before = Path("c/poisson2d/lm-s0/run.json").read_bytes()
    words = ["compare", "poisson2d", "--methods", "lm,sgd", "--seeds", "1", "--budget", "30s", "--out", "c"]
    assert main([*words, "--continue"]) == 0
    assert "Not of this comparison, and left as they are in c: 2 earlier ones." in capsys.readouterr().err
    assert list(statuses()) == ["poisson2d/lm-s0-2", "poisson2d/sgd-s0"]
    assert Path("c/poisson2d/lm-s0/run.json").read_bytes() == before
    assert main([*COMPARE, "--seeds", "1", "--continue"]) == 0
    assert list(statuses()) == ["poisson2d/adam-s0", "poisson2d/lm-s0"], "the first comparison is still there"
    assert runs.made == ["adam-s0", "lm-s0", "lm-s0-2", "sgd-s0"]


def test_failed_runs_are_made_again_only_if_asked(runs):
    runs.ends = {("lm", 1): "failed", ("adam", 0): "diverged"}
    assert main([*COMPARE, "--seeds", "2"]) == 1
    assert main([*COMPARE, "--seeds", "2", "--continue"]) == 1
    assert len(runs.made) == 4
    runs.ends = {}
    assert main([*COMPARE, "--seeds", "2", "--continue", "--retry-failed"]) == 0
    assert runs.made[4:] == ["lm-s1"]
    assert statuses() == {"poisson2d/adam-s0": "diverged", "poisson2d/adam-s1": "budget"} | {
        f"poisson2d/lm-s{seed}": "budget" for seed in (0, 1)
    }
    kept = [r["status"] for r in table.read("c/results.jsonl").records if r["folder"] == "poisson2d/lm-s1"]
    assert kept == ["failed", "budget"], "the table tells of both"


def test_a_failure_that_was_to_be_made_again_stays_one_until_its_run_begins(runs):
    runs.ends = {(method, seed): "failed" for method in ("adam", "lm") for seed in (0, 1)}
    assert main([*COMPARE, "--seeds", "2"]) == 1
    runs.ends, runs.stop_after = {}, 1
    assert main([*COMPARE, "--seeds", "2", "--continue", "--retry-failed"]) == 130
    assert list(statuses().values()) == ["budget", "failed", "failed", "failed"]
    assert len({task for task in Path("c/poisson2d").iterdir()}) == 4, "made again in the same place"


def test_a_failure_of_uncommitted_code_is_kept_beside_its_repetition(runs, monkeypatch):
    monkeypatch.setattr(record, "own_commit", lambda: "abc+")
    runs.commit, runs.ends = "abc+", {("lm", 0): "failed"}
    assert main([*COMPARE, "--seeds", "1"]) == 1
    runs.ends = {}
    assert main([*COMPARE, "--seeds", "1", "--continue"]) == 0
    assert runs.made[2:] == ["adam-s0-2", "lm-s0-2"]
    assert json.loads(Path("c/poisson2d/lm-s0/run.json").read_text())["status"] == "failed"


@pytest.mark.skipif(folders.fcntl is None, reason="this system cannot lock a folder")
def test_two_comparisons_do_not_work_in_one_folder(runs, capsys):
    assert main([*COMPARE, "--seeds", "1"]) == 0
    runs.made.clear()
    with folders.held(Path("c")):
        assert main([*COMPARE, "--seeds", "2", "--continue"]) == 2
    assert "c: another comparison is at work there; wait for it, or name another folder" in capsys.readouterr().err
    assert runs.made == [] and len(statuses()) == 2
    assert main([*COMPARE, "--seeds", "2", "--continue"]) == 0


def test_a_folder_that_was_taken_after_it_was_chosen_is_left_alone(runs, capsys, monkeypatch):
    """Both have found it empty, and the other was quicker."""
    monkeypatch.setattr(folders, "choose", lambda out, name: Path(out))
    assert main([*COMPARE, "--seeds", "1"]) == 0
    before = sorted(Path("c").rglob("*"))
    assert main([*COMPARE, "--seeds", "1"]) == 2
    assert "another comparison has begun there in this moment" in capsys.readouterr().err
    assert len(runs.made) == 2 and sorted(Path("c").rglob("*")) == before


def test_an_interrupted_comparison_goes_on(runs, capsys):
    runs.stop_after = 3
    assert main([*COMPARE, "--seeds", "2"]) == 130
    assert runs.made == ["adam-s0", "lm-s0", "lm-s1"], "the methods take turns in being the first of a seed"
    assert list(statuses().values()) == ["budget", "interrupted", "budget", "budget"]
    assert len(table.read("c/results.jsonl").records) == 4
    assert "Not finished, counted as misses and not in claims: poisson2d adam seed 1" in capsys.readouterr().out
    runs.stop_after = None
    assert main([*COMPARE, "--seeds", "2", "--continue"]) == 0
    assert runs.made == ["adam-s0", "lm-s0", "lm-s1", "adam-s1"]


def test_a_run_that_was_resumed_by_itself_counts(runs):
    runs.ends = {("lm", 0): "interrupted"}
    main([*COMPARE, "--seeds", "1"])
    path = Path("c/poisson2d/lm-s0/run.json")
    path.write_text(path.read_text().replace("interrupted", "budget"))
    assert main([*COMPARE, "--seeds", "1", "--continue"]) == 0
    assert len(runs.made) == 2


def test_runs_of_uncommitted_code_are_made_again_beside_the_old_ones(runs, capsys, monkeypatch):
    monkeypatch.setattr(record, "own_commit", lambda: "abc+")
    runs.commit = "abc+"
    assert main([*COMPARE, "--seeds", "1"]) == 0
    assert main([*COMPARE, "--seeds", "1", "--continue"]) == 0
    assert runs.made == ["adam-s0", "lm-s0", "adam-s0-2", "lm-s0-2"]
    assert "Made with uncommitted changes of ravine, and made again: 2 of them." in capsys.readouterr().err


def test_runs_of_another_version_count_if_asked(runs, capsys, monkeypatch):
    runs.commit = "abc"
    assert main([*COMPARE, "--seeds", "1"]) == 0
    monkeypatch.setattr(record, "own_commit", lambda: "def")
    runs.commit = "def"
    assert main([*COMPARE, "--seeds", "2", "--continue", "--any-version"]) == 0
    assert runs.made == ["adam-s0", "lm-s0", "lm-s1", "adam-s1"]
    assert "The runs that are there were made by ravine 0.1.0 (abc)." in capsys.readouterr().err
    assert main([*COMPARE, "--seeds", "2", "--continue"]) == 0
    assert runs.made[4:] == ["adam-s0-2", "lm-s0-2"], "without the option another commit is another run"
    assert main([*COMPARE, "--any-version"]) == 2
    assert "--any-version: goes with --continue" in capsys.readouterr().err


def test_a_damaged_table_is_one_sentence_and_nothing_is_lost(runs, capsys):
    main([*COMPARE, "--seeds", "1"])
    with Path("c/results.jsonl").open("a") as file:
        file.write("nonsense\n")
    capsys.readouterr()
    assert main([*COMPARE, "--seeds", "2", "--continue"]) == 2
    said = capsys.readouterr().err
    assert said == "ravine: `c/results.jsonl`, line 3, is not JSON: not written by ravine, or damaged.\n"
    Path("c/compare.json").write_text("{}")
    Path("c/results.jsonl").unlink()
    assert main([*COMPARE, "--seeds", "2", "--continue"]) == 2
    assert "`c/compare.json` is not the list of a comparison" in capsys.readouterr().err
    assert len(runs.made) == 2 and Path("c/poisson2d/lm-s0/run.json").is_file()


@pytest.mark.parametrize("name", ["../mine", ".", "poisson2d/../.."])
def test_folders_outside_the_comparison_are_not_touched(runs, capsys, name):
    """The folder of a failed run is cleared before it is made again, so it must be one of ours."""
    runs.ends = {("lm", 0): "failed"}
    main([*COMPARE, "--seeds", "1"])
    Path("mine").mkdir()
    for place in ("mine", "c", "."):
        (Path(place) / "run.json").write_bytes(Path("c/poisson2d/lm-s0/run.json").read_bytes())
    listed = json.loads(Path("c/compare.json").read_text())
    Path("c/compare.json").write_text(json.dumps(listed | {"runs": [name]}))
    capsys.readouterr()
    assert main([*COMPARE, "--seeds", "1", "--continue", "--retry-failed"]) == 2
    assert f"lists the run {name!r}, which is not inside it" in capsys.readouterr().err
    assert Path("mine/run.json").is_file() and Path("c/poisson2d/lm-s0/run.json").is_file()
