"""The results table: keys, appending, merging, what is missing, and what a record says of a run."""

import dataclasses
import json
import math
import subprocess
import sys

import bench_samples as samples
import pytest

from ravine.bench import ending, table
from ravine.bench.claims import compare
from ravine.bench.json_lines import append_object
from ravine.bench.record import key_of, record_of, result_of, results_of
from ravine.bench.reuse import reuse
from ravine.bench.summary import as_csv, sheets
from ravine.bench.table import best
from ravine.bench.task import Task
from ravine.driver import source
from ravine.report import load_run, plain_summary

INF = math.inf
PLAIN = Task("poisson2d", "lm", budget="60s")
ROWS = samples.rows_of([0, 1, 2], [1, 0.1, 0.1])


def key(task):
    return key_of(task, version="0.1.0", commit="abc")


@pytest.mark.parametrize(
    "change",
    [
        {"problem": "burgers1d"},
        {"method": "adam"},
        {"method": "adam:500+lm"},
        {"method": "adam:501+lm"},
        {"seed": 1},
        {"budget": "61s"},
        {"budget": "60steps"},
        {"target": 1e-6},
        {"sampler": "rad"},
        {"problem_options": {"n_pde": "400"}},
        {"model_options": {"width": "32"}},
        {"settings": {"lm": {"damping": "1e-3"}}},
    ],
)
def test_everything_that_determines_a_run_changes_its_key(change):
    assert key(dataclasses.replace(PLAIN, **change)) != key(PLAIN)


def test_what_does_not_determine_a_run_does_not_change_its_key():
    assert key(dataclasses.replace(PLAIN, folder="elsewhere", command="ravine solve")) == key(PLAIN)
    assert key(dataclasses.replace(PLAIN, budget="1m")) == key(PLAIN)
    assert key(Task("Poisson2D", "LevenbergMarquardt", budget="60s")) == key(PLAIN)
    set_by = [dataclasses.replace(PLAIN, settings={"lm": {"damping": text}}) for text in ("1e-3", "0.001")]
    assert key(set_by[0]) == key(set_by[1])
    stages = [dataclasses.replace(PLAIN, method=m) for m in ("adam:500+lm", "Adam:500 + lm")]
    assert key(stages[0]) == key(stages[1])


def test_version_and_commit_are_part_of_the_key():
    keys = {key_of(PLAIN, v, c) for v in ("0.1.0", "0.2.0") for c in ("abc", "def")}
    assert len(keys) == 4 and all(len(k) == 24 for k in keys)


def test_the_record_of_a_run_has_the_key_of_its_task(tmp_path):
    made = record_of(samples.write(tmp_path / "r", ROWS))
    assert made["key"] == key(PLAIN)
    assert (made["status"], made["error"], made["seconds"], made["compile_seconds"]) == ("budget", 0.1, 2.0, 5.0)
    assert (made["total_seconds"], made["work"], made["steps"]) == (7.0, 6.0, 2)
    assert made["times"]["seconds"]["0.1"] == 1.0 and made["times"]["total"]["0.1"] == 6.0
    assert made["times"]["work"]["0.1"] == 3.0 and made["times"]["seconds"]["0.01"] == INF
    assert made["machine"] == "Linux x86_64, a processor, 1 cores, 1 x cpu: cpu"
    assert made["versions"] == {"python": "3.12", "jax": "0.10.2"} and made["commit"] == "abc"
    assert (made["dtype"], made["date"]) == ("float64", "2026-01-01T00:00:00+00:00")


def test_a_run_that_died_keeps_its_key_and_can_be_compared(tmp_path):
    """What the process pool writes for a run that was killed: the task and the reason, nothing of the driver."""
    lost = {"provenance": ..., "budget": ..., "main_metric": ..., "rows": ..., "compile_seconds": ..., "seconds": ...}
    folder = samples.write(
        tmp_path / "dead", samples.rows_of([0, 1], [1, 1e-9]), status="failed", reason="Killed.", **lost
    )
    (folder / "rows.jsonl").unlink()
    dead = record_of(folder)
    assert dead["key"] == key_of(PLAIN), "by default that of the ravine that reads it"
    assert any("left no provenance" in note for note in dead["notes"]) and dead["date"]
    assert dead["error"] == INF and set(dead["times"]["seconds"].values()) == {INF}
    others = [record_of(samples.write(tmp_path / str(s), ROWS, seed=s, method="adam")) for s in range(8)]
    deaths = [dead | {"seed": s} for s in range(8)]
    (found,) = compare(results_of(others + deaths), targets=())
    assert found.better == "adam"


def test_a_run_that_died_says_which_code_made_it(tmp_path, monkeypatch):
    """Else a crash would be a result of every commit that reads it."""
    monkeypatch.setattr(source, "commit", lambda: "abc")
    task = dataclasses.replace(PLAIN, folder=str(tmp_path / "c" / "poisson2d" / "lm-s0"))
    ending.record(task, "failed", "Killed.")
    monkeypatch.setattr(source, "commit", lambda: "def")
    dead = record_of(task.folder)
    assert dead["commit"] == "abc" and not any("provenance" in note for note in dead["notes"])
    assert dead["key"] == key_of(PLAIN, commit="abc") != key_of(PLAIN, commit="def")


def test_a_run_of_a_method_that_is_no_more_can_be_read(tmp_path):
    gone = dataclasses.asdict(PLAIN) | {"method": "oldmethod"}
    folder = samples.write(tmp_path / "c" / "r", ROWS, task=gone, method="oldmethod")
    made = record_of(folder)
    assert made["rival"] == "oldmethod" and made["key"] != record_of(samples.write(tmp_path / "s", ROWS))["key"]
    (tmp_path / "c" / "compare.json").write_text('{"runs": ["r"]}')
    for any_version in (False, True):
        task = dataclasses.replace(PLAIN, folder=str(tmp_path / "c" / "new"))
        assert len(reuse([task], tmp_path / "c", any_version=any_version).pending) == 1


def test_of_any_version_clean_code_is_taken_before_later_changes():
    """Runs made with uncommitted changes are no result, however new."""
    clean = {"key": "k", "status": "budget", "commit": "abc", "date": "2026-01-01"}
    local = clean | {"commit": "abc+", "date": "2026-02-02"}
    assert best([clean, local])["k"] is clean and best([local, clean])["k"] is clean


def test_a_full_disk_is_an_error(tmp_path):
    with pytest.raises(OSError, match=r"No space left|bytes were written"):
        append_object("/dev/full", {"a": 1})
    code = f"""
import resource, signal
from ravine.bench.json_lines import append_object
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
append_object({str(tmp_path / "t.jsonl")!r}, {{"a": "x" * 40}})
append_object({str(tmp_path / "t.jsonl")!r}, {{"a": "x" * 40}})
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1 and "10 of 50 bytes were written" in ended.stderr.splitlines()[-1]


def test_names_tell_apart_what_was_set(tmp_path):
    options = {"problem_options": {"n_pde": "9"}, "model_options": {"width": "8"}, "settings": {"lm": {"damping": "1"}}}
    task = dataclasses.replace(PLAIN, sampler="rad", **options)
    made = record_of(samples.write(tmp_path / "r", ROWS, task=dataclasses.asdict(task)))
    assert made["instance"] == "poisson2d (model.width=8, n_pde=9)"
    assert made["rival"] == "lm (lm.damping=1, sampler=rad)"
    for n, spelled in enumerate(("1e-3", "0.001")):  # one key, so one name
        same = Task(
            "Poisson2D", "LevenbergMarquardt", budget="60s", settings={"lm": {"damping": spelled}}, sampler="RAD"
        )
        found = record_of(samples.write(tmp_path / f"s{n}", ROWS, **same.describe()))
        assert (found["instance"], found["rival"]) == ("poisson2d", "lm (lm.damping=0.001, sampler=rad)")
    called = [
        record_of(samples.write(tmp_path / str(i), ROWS, task=None, configuration={"problem": p, "method": "m"}))
        for i, p in enumerate(("one", "one", "other"))
    ]
    assert called[0]["instance"] == called[1]["instance"] != called[2]["instance"]
    assert called[0]["key"] == called[1]["key"] != called[2]["key"]
    assert called[0]["rival"] == called[2]["rival"]


def test_targets_and_references_set_the_floor(tmp_path):
    def floor(**entries):
        made = result_of(record_of(samples.write(tmp_path / "r", ROWS, **entries)))
        return made.floor, made.stopped

    assert floor() == (0.0, False)
    assert floor(target={"metrics.l2": 1e-6}) == (1e-6, False)
    assert floor(target={"metrics.l2": 1e-6}, reference_error={"l2": 1e-5}) == (1e-5, False)
    assert floor(reference_error=1e-4) == (1e-4, False)
    assert floor(target={"loss": 1e-6}, status="reached_target") == (0.0, True)
    assert floor(target={"loss": 1e-6}, status="budget") == (0.0, False)
    exact = samples.rows_of([0, 1, 2], [1, 1e-9, 1e-9])
    made = record_of(samples.write(tmp_path / "r", exact, reference_error={"l2": 1e-7}))
    assert made["times"]["seconds"]["1e-07"] == 1 and made["times"]["seconds"]["1e-08"] == INF


def test_a_finished_run_without_its_rows_is_unreadable_and_not_a_failure_of_its_method(tmp_path):
    cut = samples.write(tmp_path / "cut", samples.rows_of([0, 1, 2], [1, 0.1, 0.1], closing=False))
    assert record_of(cut)["status"] == "unreadable" and "closing row" in record_of(cut)["reason"]
    shown = load_run(cut)  # the page and the terminal say the same
    assert shown.status == "unreadable" and shown.reason == record_of(cut)["reason"] and shown.rank == INF
    gone = samples.write(tmp_path / "gone", ROWS)
    (gone / "rows.jsonl").unlink()
    assert record_of(gone)["status"] == "unreadable"
    odd = samples.write(tmp_path / "odd", ROWS)
    (odd / "rows.jsonl").write_text("garbage\n")
    assert "not JSON" in record_of(odd)["reason"]
    assert not result_of(record_of(odd)).finished
    with pytest.raises(ValueError, match=r"is not a run: its run\.json cannot be read"):
        record_of(tmp_path)


def test_a_running_run_has_a_record_and_counts_as_a_miss(tmp_path):
    rows = samples.rows_of([0, 1, 2], [1, 1e-3, 1e-3], closing=False)
    made = record_of(samples.write(tmp_path / "r", rows, status="running", seconds=..., provenance=...))
    assert made["times"]["seconds"]["0.1"] == 1.0 and made["seconds"] == 2
    assert result_of(made).time(0.1) == INF and not result_of(made).finished


def test_a_long_last_step_is_noted(tmp_path):
    long = record_of(samples.write(tmp_path / "r", ROWS, budget={"seconds": 1.0}))
    assert long["notes"] == ["It took 2 s of a budget of 1 s: its last step was long."]


def a_record(name, status="budget", date="2026-01-01", **more):
    return {"format": 1, "key": name, "status": status, "date": date, "error": 0.1, **more}


def test_peak_memory_is_shown_where_it_is_known(tmp_path):
    runs = [
        samples.record(tmp_path, "fast", 0, peak_memory=300 * 2**20),
        samples.record(tmp_path, "fast", 1),
    ]
    assert [result.memory for result in results_of(runs)] == [300.0, pytest.approx(math.nan, nan_ok=True)]
    lines = as_csv(sheets(results_of(runs))["runs"]).splitlines()
    column = lines[0].split(",").index("memory")
    assert [line.split(",")[column] for line in lines[1:]] == ["300.0", ""]

    printed = [plain_summary([tmp_path / f"poisson2d-fast-{seed}"]) for seed in (0, 1)]
    assert printed[0].splitlines()[0].endswith("MiB") and printed[0].splitlines()[2].endswith(" 300")
    assert "MiB" not in printed[1]


def test_append_and_read_back(tmp_path):
    path = tmp_path / "table.jsonl"
    made = record_of(samples.write(tmp_path / "r", ROWS))
    table.append(path, made)
    table.append(path, made | {"key": "other", "error": math.nan})
    records, notes = table.read(path)
    assert notes == [] and [r["key"] for r in records] == [made["key"], "other"]
    assert result_of(records[0]) == result_of(made), "infinite times survive the file"
    assert result_of(records[1]).final == INF
    with pytest.raises(ValueError, match="has no key"):
        table.append(path, {"status": "budget"})


def test_a_line_cut_short_is_left_out_with_a_note_and_appending_goes_on(tmp_path):
    path = tmp_path / "table.jsonl"
    whole = json.dumps(a_record("a", text='a "brace" } in a string \\'))
    for end in range(1, len(whole)):
        path.write_text(json.dumps(a_record("first")) + "\n" + whole[:end])
        records, notes = table.read(path)
        assert [r["key"] for r in records] == ["first"]
        assert notes == ["Line 2 of table.jsonl was cut short and is left out."]
    table.append(path, a_record("b"))
    records, notes = table.read(path)
    assert [r["key"] for r in records] == ["first", "b"] and len(notes) == 1
    assert table.merge([path]).notes == [f"{path}: {notes[0]}"]


@pytest.mark.parametrize("line", ["garbage", "[1]", '{"a": 1}}', '{"status": "budget"}', '{"format": 9, "key": "a"}'])
def test_what_is_not_a_table_is_refused(tmp_path, line):
    path = tmp_path / "table.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"not JSON|not an object|has no key or is not of format 1"):
        table.read(path)
    with pytest.raises(ValueError, match="is not there"):
        table.read(tmp_path / "nothing.jsonl")


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (("budget", "2026-01-01"), ("budget", "2026-01-02"), "second"),
        (("budget", "2026-01-02"), ("budget", "2026-01-01"), "first"),
        (("budget", "2026-01-01"), ("budget", "2026-01-01"), "second"),
        (("budget", "2026-01-01"), ("failed", "2026-01-02"), "first"),  # a failure never replaces a finished run
        (("failed", "2026-01-02"), ("diverged", "2026-01-01"), "second"),
        (("failed", "2026-01-01"), ("interrupted", "2026-01-02"), "first"),
        (("running", "2026-01-02"), ("failed", "2026-01-01"), "second"),
        (("unreadable", "2026-01-02"), ("converged", "2026-01-01"), "second"),
    ],
)
def test_which_of_two_records_of_a_run_is_kept(tmp_path, first, second, kept):
    for name, (status, date) in {"first": first, "second": second}.items():
        table.append(tmp_path / name, a_record("a", status, date, mark=name))
    table.append(tmp_path / "second", a_record("b"))
    merged = table.merge([tmp_path / "first", tmp_path / "second"]).records
    assert [r["key"] for r in merged] == ["a", "b"] and merged[0]["mark"] == kept


def test_only_what_is_missing_is_run_again():
    tasks = [dataclasses.replace(PLAIN, seed=s) for s in range(6)]
    status = ["budget", "failed", "interrupted", "diverged", None, "budget"]
    records = [a_record(key_of(t), s, commit="abc") for t, s in zip(tasks, status, strict=True) if s is not None]
    records[-1]["commit"] = "abc+"
    seeds = lambda found: [t.seed for t in found]
    assert seeds(table.missing(tasks, records)) == [2, 4, 5]
    assert seeds(table.missing(tasks, records, retry_failed=True)) == [1, 2, 4, 5]
    assert seeds(table.missing(tasks, [])) == list(range(6))


def test_no_jax_is_imported():
    modules = "claims, curves, json_lines, profiles, record, results, significance, summary, table"
    code = f"import sys; from ravine.bench import {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
