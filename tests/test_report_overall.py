"""The section over all problems: what its figures and tables hold for runs whose truth is known."""

import json
import re
import shutil

import bench_samples as samples
import numpy as np
import plotly.graph_objects as go
import pytest

from ravine.bench import table
from ravine.bench.profiles import Steps
from ravine.bench.reuse import entry
from ravine.report import load_run, theme, write_report
from ravine.report.figures import slots
from ravine.report.load import Collection, collect
from ravine.report.overall import best_first, concluded, overall, plain, steps
from ravine.report.page import render

PACE = {"adam": 1.0, "lm": 10.0}  # seconds to the next power of ten of the error


def made(tmp_path, seeds=8, methods=("adam", "lm"), problems=("poisson2d",), **entries):
    """Runs that reach 1e-1, ..., 1e-6 and then stop."""
    folders = []
    for problem in problems:
        for method in methods:
            for seed in range(seeds):
                rows = samples.rows_of([PACE.get(method, 1.0) * i for i in range(7)], samples.POWERS)
                names = {"problem": problem, "method": method, "seed": seed, "final": {"metrics.l2": 1e-6}}
                folders.append(samples.write(tmp_path / f"{problem}-{method}-{seed}", rows, **names | entries))
    return folders


def section(folders):
    runs = [load_run(folder) for folder in folders]
    return overall(concluded(runs), slots(runs), lambda figure, label: go.Figure(figure))


def traces(figure):
    return {trace.name: trace for trace in figure.data}


def test_figures_hold_the_curves_of_known_runs(tmp_path):
    found = section(made(tmp_path, problems=("poisson2d", "burgers1d")))
    assert found["title"] == "Over all problems" and found["axis"] == "steady seconds"
    assert found["ladder"] == "1e-01 to 1e-10"
    reached, times, errors, left = (traces(figure) for _, figure in found["figures"])
    np.testing.assert_allclose(reached["lm"].x, [1 / 1.5, 10, 20, 30, 40, 50, 60, 90])
    np.testing.assert_allclose(reached["lm"].y, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6])  # 6 of the 10 targets
    np.testing.assert_allclose(reached["adam"].y, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6])
    assert reached["adam"].x[1] == 1.0 and reached["adam"].x[-1] == 90, "all curves end together"
    np.testing.assert_allclose(times["lm"].x, [1, 10, 15])
    np.testing.assert_allclose(times["lm"].y, [0, 0.6, 0.6])
    np.testing.assert_allclose(times["adam"].y, [0.6, 0.6])
    np.testing.assert_allclose(errors["lm"].y, errors["adam"].y)  # equal errors
    np.testing.assert_allclose(left["lm"].x, [1e-6 / 1.5, 1e-6, 1.5e-6])  # from an error of 1 to 1e-6
    np.testing.assert_allclose(left["lm"].y, [0, 1, 1])
    assert all(trace.line.shape == "hv" for figure in (reached, times, errors, left) for trace in figure.values())


def test_colours_and_dashes_are_those_of_the_other_figures(tmp_path):
    found = section(made(tmp_path, seeds=1))
    for _, figure in found["figures"]:
        assert [(t.name, t.meta["slot"], t.line.dash) for t in figure.data] == [
            ("adam", 0, theme.dash(0)),
            ("lm", 1, theme.dash(1)),
        ]


def test_of_more_methods_than_colours_the_best_come_first(tmp_path, monkeypatch):
    """By the targets reached, and by the time they took where those are equal; of few methods the order is as given."""
    methods = [f"method{i}" for i in range(theme.COLOURED + 1)]
    for i, method in enumerate(methods):
        monkeypatch.setitem(PACE, method, float(len(methods) - i))  # the last one is the fastest
    runs = [load_run(folder) for folder in made(tmp_path, seeds=2, methods=methods, problems=("b", "a"))]
    assert list(slots(best_first(runs, concluded(runs)))) == methods[::-1]
    few = [run for run in runs if run.method != methods[3]]
    assert best_first(few, concluded(few)) == few
    assert best_first(runs, None) == best_first(runs, ValueError("unequal budgets")) == runs
    page = render(Collection(runs, [], False))
    listed = [page.index(f'data-name="{method}"') for method in methods]
    assert listed == sorted(listed, reverse=True) and page.index("<h2>b</h2>") < page.index("<h2>a</h2>")
    slot = slots(best_first(runs, concluded(runs)))
    found = overall(concluded(runs), slot, lambda figure, label: go.Figure(figure))
    assert [name for name, _ in found["success"]] == [t.name for t in found["figures"][0][1].data] == methods[::-1]


def test_success_rates_and_claims(tmp_path):
    found = section(made(tmp_path))
    assert found["title"] == "All runs together" and found["targets"] == ["1e-02", "1e-04", "1e-06"]
    assert found["success"] == [(m, [("8 of 8", "68–100 %", 1.0)] * 3) for m in ("adam", "lm")]
    assert len(found["claims"]) == 3 and found["claims"][0].startswith("adam reaches error 1e-02 in fewer seconds")
    assert found["others"] == ["no claim: adam and lm on poisson2d, final error: all methods are equal in every pair."]


def test_the_page_shows_the_section_and_no_claim_without_a_test(tmp_path):
    def text_of(folders):
        page = write_report(folders, tmp_path / "r.html").read_text()
        part = re.search(r'<section class="problem" id="overall">.*?</section>', page, flags=re.S)
        return "" if part is None else " ".join(re.sub(r"<[^>]*>", " ", part[0]).split())

    shown = text_of(made(tmp_path / "a"))
    assert "adam reaches error 1e-04 in fewer seconds than lm on poisson2d" in shown and "8 of 8 68–100 %" in shown
    few = text_of(made(tmp_path / "b", seeds=3))
    assert "Claims by method" in shown and "Claims by method" not in few
    assert "fewer seconds than" not in few and "no claim: not enough runs: 3 paired runs" in few
    assert text_of(made(tmp_path / "c", seeds=1, methods=("lm",))) == ""


def test_the_tables_over_all_runs_are_on_the_page(tmp_path):
    folders = made(tmp_path, seeds=2, problems=("poisson2d", "burgers1d"))
    found = section(folders)["sheets"]
    assert list(found) == ["summary", "errors", "times"]
    assert found["errors"].rows[0] == ("poisson2d", "adam", 2, 1e-6, 1e-6, 1e-6)
    page = write_report(folders, tmp_path / "r.html").read_text()
    table = re.search(r'<table data-table="times">.*?</table>', page, flags=re.S)[0]
    assert re.findall(r'<tr data-p="(.)" data-m="(.)">', table) == [("1", "0"), ("1", "1"), ("2", "0"), ("2", "1")]
    assert "shifted geometric mean of the times in steady seconds" in page


def test_a_method_that_is_only_there_tuned_is_found_among_those_of_the_page(tmp_path):
    """Beside runs by defaults the page lists `lm (tuned=...)` and no `lm`."""
    listed = ["adam", "adam (tuned=2)", "lm (tuned=2)"]
    assert [plain(label, listed) for label in listed] == listed
    assert plain("lm (lm.damping=1, tuned=2)", listed) == "lm (tuned=2)"
    assert plain("adam (adam.b1=0.5)", listed) == "adam" and plain("lm [a]", ["lm"]) == "lm"
    task = {"problem": "poisson2d", "method": "lm", "seed": 0, "budget": "60s", "target": None, "sampler": None}
    tuning = {"trials": 2, "seeds": 1, "options": [], "made": 2, "failed": 0, "error_default": 1.0, "error": 1.0}
    tuning |= {"seconds": 1.0, "total_seconds": 2.0, "why": ""}
    task |= {"problem_options": {}, "model_options": {}, "settings": {}, "tuning": tuning}
    folders = made(tmp_path / "a", seeds=1, methods=("adam",))
    folders += made(tmp_path / "b", seeds=1, methods=("lm",), task=task)
    page = write_report(folders, tmp_path / "r.html").read_text()
    assert '<tr data-m="1"><td class="method">lm' in page


def test_one_method_has_nothing_to_be_compared_with(tmp_path):
    found = section(made(tmp_path, seeds=3, methods=("lm",)))
    assert [caption for caption, _ in found["figures"]] == ["targets reached"]
    assert found["claims"] == found["others"] == [] and found["single"]


def test_fewer_than_two_errors_make_no_section(tmp_path):
    assert section(made(tmp_path / "a", seeds=1, methods=("lm",))) is None
    without = made(tmp_path / "b", main_metric=None)
    assert section(without) is None


def test_runs_that_cannot_be_compared_leave_the_reason(tmp_path):
    folders = made(tmp_path / "a", task=...) + made(tmp_path / "b", task=..., budget={"seconds": 1.0})
    found = section(folders)
    assert found["figures"] == [] and found["claims"] == []
    assert found["notes"][0].startswith("These runs cannot be compared: ")
    page = write_report(folders, tmp_path / "r.html").read_text()
    assert "These runs cannot be compared" in page


def test_a_run_that_diverged_does_not_stretch_the_axis():
    curves = {
        "adam": Steps(np.array([1.0, 1e96]), np.array([0.5, 1.0])),
        "lm": Steps(np.array([1.0, 4.0]), np.array([0.5, 1.0])),
    }
    drawn = {trace["name"]: trace for trace in steps(curves, {"adam": 0, "lm": 1}, "x", "y", 1.0)["data"]}
    assert drawn["adam"]["x"][-1] == drawn["lm"]["x"][-1] == 1e14
    assert drawn["adam"]["y"][-1] == 0.5 and drawn["lm"]["y"][-1] == 1.0


def test_what_is_left_out_is_counted_after_five(tmp_path):
    folders = made(tmp_path, seeds=9, methods=("adam", "lm", "gd", "cg", "bb", "polyak", "ar1"))
    found = section([folder for n, folder in enumerate(folders) if n // 9 != n % 9])  # method i has no run of seed i
    assert found["notes"][0].startswith("Rule: defaults only")
    assert len(found["notes"]) == 7 and found["notes"][-1] == "2 more of this kind are left out."
    assert found["success"][0][1][0][0] == "2 of 2", "those that all methods have"


def test_a_run_whose_folder_is_gone_still_counts(tmp_path):
    """Else a method would gain by the deletion of its worst run."""
    place, names = tmp_path / "c", [f"poisson2d/{m}-s{s}" for m in ("adam", "lm") for s in range(3)]
    for name, folder in zip(names, made(tmp_path, seeds=3), strict=True):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place / name)
        table.append(place / "results.jsonl", entry(place, place / name))
    (place / "compare.json").write_text(json.dumps({"format": 1, "command": "c", "runs": names}))
    before = overall_of(place)
    assert len(before["success"]) == 2 and before["success"][1][1][0][0] == "3 of 3"
    shutil.rmtree(place / "poisson2d" / "lm-s2")
    after = overall_of(place)
    assert after["success"] == before["success"] and after["notes"] == before["notes"]


def overall_of(place):
    runs = collect([place]).runs
    return overall(concluded(runs), slots(runs), lambda figure, label: label)


def test_methods_told_apart_by_options_get_colours_of_their_own(tmp_path):
    folders = []
    for damping in ("1", "2"):
        task = {"problem": "poisson2d", "method": "lm", "seed": 0, "budget": "60s", "target": None, "sampler": None}
        task |= {"problem_options": {}, "model_options": {}, "settings": {"lm": {"damping": damping}}}
        folders += made(tmp_path / damping, seeds=1, methods=("lm",), task=task)
    found = section(folders)
    assert [(t.name, t.meta["slot"]) for t in found["figures"][0][1].data] == [
        ("lm (lm.damping=1)", 1),
        ("lm (lm.damping=2)", 2),
    ]


@pytest.mark.parametrize(
    ("x", "y", "left", "shown", "heights"),
    [
        ([0.0, 3.0], [0.5, 1.0], None, [2.0, 3.0, 4.5], [0.5, 1.0, 1.0]),  # a target reached at second 0
        ([1.0, 4.0], [0.5, 1.0], 1.0, [1.0, 4.0, 6.0], [0.5, 1.0, 1.0]),
        ([], [], 1.0, [1.0, 10.0], [0.0, 0.0]),  # nobody reached anything
    ],
)
def test_step_functions_begin_at_the_left_edge(x, y, left, shown, heights):
    (trace,) = go.Figure(steps({"lm": Steps(np.array(x), np.array(y))}, {"lm": 0}, "x", "y", left)).data
    np.testing.assert_allclose(trace.x, shown)
    np.testing.assert_allclose(trace.y, heights)
