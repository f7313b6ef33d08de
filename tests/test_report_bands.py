"""Median and range over seeds in the report: against curves worked out by hand."""

import bench_samples as samples
import numpy as np
import pytest

from ravine.report import load_run
from ravine.report.bands import bands
from ravine.report.figures import slots
from ravine.report.sections import notes

INF = np.inf
ROW = samples.rows_of([0.0], [1.0])


def figure(tmp_path, runs, size=7):
    """runs: (method, errors at seconds 0, 1, 2, ..., status), seeds in order of appearance."""
    found = []
    for seed, (method, errors, status) in enumerate(runs):
        rows = samples.rows_of([float(i) for i in range(len(errors))], errors)
        entries = {"method": method, "seed": seed, "status": status, "compile_seconds": 1.0 + seed}
        folder = samples.write(tmp_path / f"{method}-{seed}", rows, **entries)
        if len(errors) == 1:  # its process died before it wrote a row
            (folder / "rows.jsonl").unlink()
        found.append(load_run(folder))
    return bands(found, "metrics.l2", "error", slots(found), size)


def parts(made, method, reading):
    """(grid, median, low, high) of a method."""
    area, line = [t for t in made["data"] if t["meta"]["method"] == method]
    assert area["fill"] == "toself" and line["name"] == method
    return area["meta"]["x"][reading], line["meta"]["y"][reading], *area["meta"]["range"][reading]


THREE = [("lm", [1.0, 0.5, 0.1], "budget"), ("lm", [1.0, 0.2, 0.4], "budget"), ("lm", [1.0, 0.3, 0.2], "diverged")]


def test_median_and_range_at_each_reading(tmp_path):
    grid, median, low, high = parts(figure(tmp_path, THREE, 3), "lm", "seconds")
    np.testing.assert_allclose(grid, [1, 2**0.5, 2])
    np.testing.assert_allclose(median, [0.3, 0.3, 0.2])
    np.testing.assert_allclose(low, [0.2, 0.2, 0.1])
    np.testing.assert_allclose(high, [0.5, 0.5, 0.4])
    made = figure(tmp_path / "again", THREE, 3)
    assert list(made["layout"]["meta"]["x"]) == ["seconds", "total", "work", "step"]
    grid, median, low, high = parts(made, "lm", "total")  # from 1, 2 and 3: no median before two runs have begun
    np.testing.assert_allclose(grid, [1, 5**0.5, 5])
    np.testing.assert_allclose(median, [np.nan, 1.0, 0.2])
    np.testing.assert_allclose(low, [1.0, 0.5, 0.1])
    np.testing.assert_allclose(high, [1.0, 1.0, 0.4])
    np.testing.assert_allclose(parts(made, "lm", "step")[1], [0.3, 0.3, 0.2])


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_failed_or_is_not_finished_stays_in_the_median(tmp_path, status):
    runs = [*THREE[:2], ("lm", [1.0, 1e-9, 1e-9], status)]
    _, median, low, high = parts(figure(tmp_path, runs, 3), "lm", "seconds")
    np.testing.assert_allclose(median, [0.5, 0.5, 0.4], err_msg="the third is the worst, whatever it had reached")
    np.testing.assert_allclose(low, [0.2, 0.2, 0.1])
    np.testing.assert_allclose(
        high, [1.0] * 3, err_msg="an infinite end goes to the greatest, here one before any step"
    )


def test_most_runs_failed_is_a_range_without_a_median(tmp_path):
    runs = [THREE[0], ("lm", [1.0], "failed"), ("lm", [1.0], "failed")]
    _, median, low, _ = parts(figure(tmp_path, runs, 3), "lm", "seconds")
    assert np.isnan(median).all()
    np.testing.assert_allclose(low, [0.5, 0.5, 0.1])


def test_a_method_ends_with_its_longest_run_and_a_value_that_is_not_finite_is_infinite(tmp_path):
    runs = [*THREE[:2], ("adam", [1.0, 0.9, 0.8, 0.7, 0.6], "budget"), ("adam", [1.0, INF, 0.8], "budget")]
    made = figure(tmp_path, runs, 3)
    _, median, _, _ = parts(made, "lm", "seconds")  # of 1, 2, 4
    np.testing.assert_allclose(median, [0.5, 0.4, np.nan])
    _, median, low, _ = parts(made, "adam", "seconds")
    np.testing.assert_allclose(median, [np.nan, 0.8, 0.8])
    np.testing.assert_allclose(low, [0.9, 0.8, 0.6])


def test_one_seed_has_no_range(tmp_path):
    assert figure(tmp_path, [THREE[0], ("adam", [1.0, 0.1], "budget")]) is None
    assert figure(tmp_path / "b", [("lm", [1.0], "failed"), ("lm", [1.0], "failed")]) is None


def test_a_library_that_is_not_installed_is_no_note_about_lost_files(tmp_path):
    folder = samples.write(tmp_path / "a", ROW, method="jno/ssbroyden", status="not_installed")
    (folder / "rows.jsonl").unlink()
    assert notes([load_run(folder)]) == []
    folder = samples.write(tmp_path / "b", ROW, status="failed")
    (folder / "rows.jsonl").unlink()
    assert notes([load_run(folder)]) == ["lm, seed 0: rows.jsonl is missing, so there are no curves."]
