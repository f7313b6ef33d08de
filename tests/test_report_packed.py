"""What a page holds of the runs: columns of numbers, once each, as precise as they need be; few rows of long runs."""

import base64
import math
import re

import numpy as np
import pytest
from report_samples import write_comparison, write_run
from test_report import Page, figures_of

from ravine.report import load_run, write_report
from ravine.report.packed import Store, narrow, unpacked
from ravine.report.thin import MANY, VERY_MANY, limits, thin


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "all"
    return write_comparison(folder, problems=("poisson2d",), methods=("adam", "lm"), scale=0.1)


@pytest.fixture(scope="module")
def page(comparison):
    return write_report([comparison], comparison / "report.html").read_text(encoding="utf-8")


def columns_used(value):
    """Indices of the columns that a figure names."""
    if isinstance(value, dict):
        own = {value["column"]} if set(value) == {"column"} else set()
        return own.union(*(columns_used(v) for v in value.values()))
    return set().union(*map(columns_used, value)) if isinstance(value, list) else set()


def test_columns_of_a_page_are_stored_once_and_hold_the_runs(page, comparison):
    block = Page(page).data["packed-p1"]
    used = [columns_used(figure) for figure in block["figures"].values()]
    assert set().union(*used) == set(range(len(block["columns"])))
    assert len({c["data"] for c in block["columns"]}) == len(block["columns"])
    errors, losses = (
        next(f for f in block["figures"].values() if f["name"] == n) for n in ("relative L² error", "loss")
    )
    drawn = re.compile(r"<b>adam, seed (\d)")  # the median one; the others share a line
    pair = [next(t for t in f["data"] if drawn.match(t.get("hovertemplate", ""))) for f in (errors, losses)]
    run = load_run(comparison / f"poisson2d-adam-{drawn.match(pair[0]['hovertemplate'])[1]}")
    assert pair[0]["meta"]["x"] == pair[1]["meta"]["x"], "error and loss share their clocks"
    stored = block["columns"][pair[0]["meta"]["x"]["total"]["column"]]
    kept = np.frombuffer(base64.b64decode(stored["data"]), dtype=f"<{stored['type']}")
    np.testing.assert_allclose(kept, run.column("seconds") + run.meta["compile_seconds"], rtol=1e-6)
    assert list(errors["layout"]["meta"]["x"]) == ["seconds", "total", "work", "step"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1.5, 1e-30, math.nan], "<f4"), ([1e-300], "<f8"), ([1e300], "<f8"), ([2.0**24 + 1], "<f8"), ([math.inf], "<f4")],
)
def test_single_precision_only_where_it_holds_the_values(values, kind):
    stored = narrow(np.array(values))
    assert stored.dtype == kind
    np.testing.assert_allclose(stored, values, rtol=1e-6)


def test_blocks_are_the_same_for_the_same_figures():
    made = []
    for _ in range(2):
        store = Store("p1")
        store.keep({"data": [{"y": np.linspace(0, 1, 50)}], "layout": {"height": 3}}, "name")
        made.append(store.text())
    assert made[0] == made[1]
    assert unpacked(made[0])["figures"]["p1-0"]["data"] == [{"y": {"column": 0}}]


def test_thinning_keeps_ends_stages_spikes_and_gaps(tmp_path):
    run = load_run(write_run(tmp_path / "a", method="adam:9+lm", steps=9000, fields=False))
    spike, gap = 151, 171
    run.rows[spike]["loss"], run.rows[gap]["metrics.l2"] = 1e9, "NaN"
    few = thin(run, 60)
    steps = [row["step"] for row in few.rows]
    assert 40 <= len(few.rows) <= 60 < len(run.rows) and steps == sorted(set(steps))
    switch = next(i for i, row in enumerate(run.rows) if row["stage"] == 1)
    assert {run.rows[i]["step"] for i in (0, switch, spike, gap, len(run.rows) - 1)} <= set(steps)
    assert np.nanmin(few.column("loss")) == np.nanmin(run.column("loss"))
    assert thin(run, len(run.rows)) is run
    assert few.total_work == run.total_work


def test_a_long_page_holds_less_and_says_so(tmp_path):
    assert limits(MANY).pictures is None and limits(MANY + 1).rows < limits(MANY).rows
    assert limits(VERY_MANY) == limits(MANY + 1) and limits(VERY_MANY + 1).rows < limits(VERY_MANY).rows
    runs = []
    for seed in range(MANY + 1):
        problem = "b" if seed == MANY else "a"
        changes = {"rows": 9} if seed else {}
        runs.append(write_run(tmp_path / str(seed), problem=problem, method="lm", seed=seed, steps=4, **changes))
    parsed = Page(write_report(runs, tmp_path / "r.html").read_text())
    assert parsed.data["view"]["problem"] == "a"
    later = [(t, a["data-p"]) for t, a in parsed.tags if "later" in (a.get("class") or "").split()]
    assert later == [("tbody", "2"), ("section", "2")]
    stacks = [f for f in figures_of(parsed).values() if f["name"] == "scalars of lm"]
    assert [len({t["hovertemplate"] for t in f["data"] if "damping" in t["hovertemplate"]}) for f in stacks] == [1, 1]
    parsed = Page(write_report(runs[:MANY], tmp_path / "r.html").read_text())
    assert parsed.data["view"]["problem"] == "" and not any("later" in (a.get("class") or "") for _, a in parsed.tags)
    (stack,) = (f for f in figures_of(parsed).values() if f["name"] == "scalars of lm")
    assert len({t["hovertemplate"] for t in stack["data"] if "damping" in t["hovertemplate"]}) == MANY
