"""Reading run folders for the report: cut short, damaged, foreign, absent."""

import re

import numpy as np
import pytest
from report_samples import write_comparison, write_run

from ravine.report import load_run, plain_summary, write_report


def test_last_line_cut_short_is_dropped_with_a_note(tmp_path):
    folder = write_run(tmp_path / "a", steps=5)
    rows = folder / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-40])
    run = load_run(folder)
    assert [row["step"] for row in run.rows] == [0, 1, 2, 3, 4]
    assert run.notes == ("Line 6 of rows.jsonl was cut short and is left out.",)
    assert run.notes[0] in write_report([folder], tmp_path / "r.html").read_text()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("run.json", '{"format": 1, "meth', "is not JSON"),
        ("run.json", "[1, 2]", "holds a JSON list, not an object"),
        ("run.json", '{"format": 7}', "has format 7; this version of ravine reads format 1"),
        ("run.json", '{"format": 1, "method": "lm"}', "it lacks status"),
        ("rows.jsonl", '{"step": 0}\nnonsense\n{"step": 2}\n', "line 2, is not JSON"),
        ("rows.jsonl", '{"epoch": 0}\n', "row 1, is not a row of a run"),
    ],
)
def test_damaged_and_foreign_files_get_one_sentence(tmp_path, file, content, sentence):
    folder = write_run(tmp_path / "a", steps=3)
    write(folder / file, content)
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        load_run(folder)
    assert file in str(caught.value) and str(caught.value).count("\n") == 0


def test_a_folder_without_a_run_names_the_nearest(tmp_path):
    write_run(tmp_path / "poisson2d-lm-0", steps=3)
    with pytest.raises(ValueError, match=r"poisson2d-lm-1` does not exist; the nearest run is .*poisson2d-lm-0"):
        load_run(tmp_path / "poisson2d-lm-1")
    with pytest.raises(ValueError, match=r"holds no run.json, but .*poisson2d-lm-0` does"):
        write_report([tmp_path], tmp_path / "r.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no run in"):
        load_run(tmp_path / "empty" / "x")
    with pytest.raises(ValueError, match="no run folder was given"):
        plain_summary([])
    with pytest.raises(ValueError, match="is a folder; name the file"):
        write_report([tmp_path / "poisson2d-lm-0"], tmp_path)


@pytest.mark.parametrize("content", [b"not a zip", b"PK\x03\x04 cut short"])
def test_damaged_fields_leave_the_page_without_pictures(tmp_path, content):
    folder = write_run(tmp_path / "a", steps=3)
    (folder / "fields.npz").write_bytes(content)
    run = load_run(folder)
    assert run.fields is None and "no pictures" in run.notes[0]
    np.savez(folder / "fields.npz", axis0=np.zeros(3), axis1=np.zeros(2), reference=np.zeros((3, 2)),
             prediction=np.zeros((2, 3)), labels=np.array(["x", "y"]))  # fmt: skip
    assert "(2, 3)" in load_run(folder).notes[0]


def test_unreadable_run_of_a_comparison_stays_a_row(tmp_path):
    folder = write_comparison(tmp_path / "c", problems=("p",), methods=("lm",), seeds=2, scale=0.1)
    write(folder / "p-lm-1" / "run.json", "{")
    text = plain_summary([folder])
    assert "unreadable" in text and "is not JSON" in text and "reached target" in text
