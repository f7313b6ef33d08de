"""The report without a browser: reading run folders, what the page says, and that it names nothing outside itself."""

import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from report_samples import write_comparison, write_run
from rich.console import Console

from ravine.report import load_run, plain_summary, summary, theme, write_report
from ravine.report.figures import END_SIGNS, history, scalars, slots, terms
from ravine.report.load import collect, median_run
from ravine.report.packed import unpacked
from ravine.report.pictures import pictures
from ravine.report.sections import _error_figure, notes
from ravine.report.wording import STATUSES, number, seconds

ORDER = ["status", "overall", "problem-1", "problem-2", "reproduce", "provenance"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "all"
    return write_comparison(folder, methods=("adam", "lbfgs", "lm", "adam:9+lm"), scale=0.1)


@pytest.fixture(scope="module")
def page(comparison):
    out = write_report([comparison], comparison / "report.html")
    return out.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags with their attributes, the text of cells, and the contents of styles and scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.styles, self.data = [], [], [], {}
        self.inside, self.cell = None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = (tag, dict(attrs)) if tag in ("style", "script") else self.inside
        self.cell = "" if tag in ("td", "th") else self.cell
        if tag == "tr":
            self.cells.append([])

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cells[-1].append(" ".join(self.cell.split()))
            self.cell = None
        self.inside = None if tag in ("style", "script") else self.inside

    def handle_data(self, data):
        if self.inside and self.inside[0] == "style":
            self.styles.append(data)
        elif self.inside and self.inside[1].get("type") == "application/json":
            self.data[self.inside[1]["id"]] = json.loads(data)
        elif self.inside and self.inside[1].get("type") == "text/plain":
            self.data[self.inside[1]["id"]] = unpacked(data)
        elif self.cell is not None:
            self.cell += data


def outside(text):
    """What in the markup or in the style leads out of the page. The text of scripts is not markup: requests that
    they could make are the browser test's matter."""
    page, found = Page(text), []
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            links = name in ("src", "href", "srcset", "action", "data", "poster", "formaction", "ping", "background")
            if (links and not (value or "").startswith(("data:", "#"))) or "url(" in (value or ""):
                found.append((tag, name, value))
    return found + [
        m for css in page.styles for m in re.findall(r"@import[^;]*|url\([^)]*\)|https?:[^\s;]*|//[^\s;]*", css)
    ]


def test_page_names_nothing_outside(page):
    assert outside(page) == []
    policy = next(a["content"] for t, a in Page(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "sourceMappingURL" not in page


@pytest.mark.parametrize(
    "spoiled",
    [
        '<img src="http://example.org/x.png">',
        '<link rel="stylesheet" href="//example.org/x.css">',
        '<link rel="icon" href="http://example.org/x.png">',
        '<script src="plotly.js"></script>',
        "<style>@font-face { src: url(https://example.org/f.woff) }</style>",
        "<style>@import 'x.css';</style>",
        '<p style="background: url(x.png)">',
    ],
)
def test_the_check_for_outside_names_can_fail(spoiled):
    assert outside(f"<html><body>{spoiled}</body></html>")


def test_plotly_once_and_sections_in_order(page):
    assert page.count("plotly.js v") == 1
    ids = [a["id"] for t, a in Page(page).tags if t == "section"]
    assert ids == ORDER


def test_every_run_is_a_row_with_status_first(page, comparison):
    rows = Page(page).cells
    heads = [row for row in rows if row[0] in ("Status", "status")]
    assert heads[0][:4] == ["Status", "Reason", "Problem", "Method"]
    chips = tuple(words for words, _, _ in STATUSES.values())
    listed = [row for row in rows if row[0].split(" ", 1)[-1].startswith(chips) and len(row) == len(heads[0])]
    listed = listed[: len(json.loads((comparison / "compare.json").read_text())["runs"])]
    assert len(listed) == 2 * 4 * 3 + 1
    assert sum("diverged" in row[0] for row in listed) == 2
    assert sum("failed" in row[0] for row in listed) == 2
    assert sum("missing" in row[0] for row in listed) == 1
    assert "The loss is not finite from step" in next(row for row in listed if "diverged" in row[0])[1]
    assert "holds no run.json" in next(row for row in listed if "missing" in row[0])[1]
    reached = next(row for row in listed if "reached target" in row[0])
    assert [*reached[2:5], reached[-1]] == ["poisson2d", "lm", "0", "3.21 s"]


def figures_of(parsed):
    """{key: figure as written} of all blocks of a page."""
    blocks = [v for name, v in parsed.data.items() if name.startswith("packed-") and name != "packed-records"]
    return {key: figure for block in blocks for key, figure in block["figures"].items()}


def test_figures_of_the_page_are_drawn_somewhere_and_exist(page):
    parsed = Page(page)
    drawn = [a["data-figure"] for _, a in parsed.tags if "data-figure" in a]
    # The errors of a problem, and their medians, are drawn twice: against seconds and against work.
    assert len(drawn) == len(set(drawn)) + 4 == len(figures_of(parsed)) + 4
    assert set(drawn) == set(figures_of(parsed))
    # 4 of all runs; medians, errors, losses, 4 terms, 4 x 3 pictures, 4 stacks of scalars a problem
    assert len(set(drawn)) == 4 + 2 * (1 + 1 + 1 + 4 + 12 + 4)


def test_full_records_are_in_the_page(page, comparison):
    records = Page(page).data["packed-records"]
    listed = json.loads((comparison / "compare.json").read_text())["runs"]
    assert len(records) == len(listed)
    assert json.loads(records[0]) == json.loads((comparison / listed[0] / "run.json").read_text())


def test_names_and_sentences_are_escaped(tmp_path):
    bad = "<script>alert(1)</script>"
    write_run(tmp_path / "a", problem=bad, reason=f"{bad} & `x<y` at 1.3e-11.", command=bad, model=bad)
    text = write_report([tmp_path / "a"], tmp_path / "r.html", title=bad).read_text()
    assert bad not in text
    assert "<code>x&lt;y</code>" in text
    assert '<span class="number">1.3e-11</span>' in text


def test_non_finite_values_are_gaps_and_noted(page, comparison):
    run = load_run(comparison / "poisson2d-adam-2")
    assert math.isnan(run.error) and run.rank == math.inf
    trace = go.Figure(history([run], "metrics.l2", "error", slots([run]))).data[0]
    assert np.isnan(trace.y[40:]).all() and np.isfinite(trace.y[1:40]).all()
    assert np.isinf(run.column("grad_norm")[40:]).all()
    steps = len(run.rows) - 40
    assert f"adam, seed 2: {steps} rows with values that are not finite, first loss at step 40" in page


def test_work_in_residual_evaluations(tmp_path):
    run = load_run(write_run(tmp_path / "a", method="lm", steps=5))
    # a step of the sample: 2 residuals, 1 jvp (2) and one full Jacobian (3)
    np.testing.assert_allclose(run.work, 7.0 * np.arange(6))
    blind = load_run(write_run(tmp_path / "b", method="lm", steps=5, rows=None))
    assert blind.total_work is None
    assert "work is not known" in write_report([tmp_path / "b"], tmp_path / "b.html").read_text()


def test_median_run_counts_failures_as_worst(tmp_path):
    runs = [load_run(write_run(tmp_path / str(i), seed=i, final={"metrics.l2": e, "loss": 1.0})) for i, e in
            enumerate([1e-3, "NaN", 1e-5, 1e-4, "Infinity"])]  # fmt: skip
    assert median_run(runs) is runs[0]
    assert median_run(runs[2:4]) is runs[3]


def test_a_run_that_has_not_ended_shows_its_last_row(tmp_path):
    folder = write_run(tmp_path / "a", method="adam", steps=5)
    (folder / "run.json").write_text(json.dumps({"format": 1, "method": "adam", "problem": "p", "status": "running"}))
    run = load_run(folder)
    assert run.progress("steps") == 5 and run.progress("seconds") == run.rows[-1]["seconds"]
    assert run.final("loss") == run.rows[-1]["loss"]
    text = write_report([folder], tmp_path / "r.html").read_text()
    assert "carries on where it stopped" in text


def test_energies_get_a_linear_axis(tmp_path):
    run = load_run(write_run(tmp_path / "a", energy=True, main_metric=None, fields=False))
    assert history([run], "loss", "loss", slots([run]))["layout"]["yaxis"]["type"] == "linear"
    assert terms(run, log=False)["layout"]["yaxis"]["type"] == "linear"
    text = write_report([tmp_path / "a"], tmp_path / "r.html").read_text()
    assert "linear axis for lm, seed 0" in text and "the loss stands for the error" in text


def test_stages_are_marked_and_bring_their_own_scalars(tmp_path):
    run = load_run(write_run(tmp_path / "a", method="adam:9+lm", steps=20, status="stalled"))
    line, signs = go.Figure(history([run], "metrics.l2", "error", slots([run]))).data
    switch = next(i for i, row in enumerate(run.rows) if row["stage"] == 1)
    assert list(signs.x) == [line.x[switch], line.x[20]]
    assert list(signs.meta["x"]["work"]) == [run.work[switch], run.work[20]]
    assert list(signs.marker.symbol) == ["circle-open", END_SIGNS["warn"]]
    stack = go.Figure(scalars([run], 0))
    titles = [note.text for note in stack.layout.annotations]
    assert titles == ["gradient norm", "step length", "learning_rate", "damping", "rho", "trials"]
    assert stack.layout.height > 6 * 100


def test_runs_with_other_options_are_other_methods_and_problems(tmp_path):
    """Not further seeds of one: their medians, ranges and colours are apart, and so are their names in all tables."""

    def write(name, width, **options):
        settings = {"lm": options} if options else {}
        task = {"problem_options": {}, "model_options": width, "settings": settings, "sampler": None, "tuning": None}
        task |= {"target": None, "budget": "60s", "problem": "poisson2d", "method": "lm", "seed": len(name)}
        return write_run(tmp_path / name, task=task, steps=4, fields=False, seed=len(name))

    plain, damped, wide = write("a", {}), write("bb", {}, damping="1"), write("ccc", {"width": "64"}, damping="1")
    assert [(run.problem, run.method) for run in collect([plain]).runs] == [("poisson2d", "lm")]
    found = collect([plain, damped]).runs
    assert [(run.problem, run.method) for run in found] == [("poisson2d", "lm"), ("poisson2d", "lm (lm.damping=1)")]
    assert found[1].meta["method"] == "lm", "the full record is what was written"
    problems = [run.problem for run in collect([plain, damped, wide]).runs]
    assert problems == ["poisson2d", "poisson2d", "poisson2d (model.width=64)"]
    text = write_report([plain, damped], tmp_path / "r.html").read_text()
    assert [m["name"] for m in Page(text).data["view"]["methods"]] == ["lm", "lm (lm.damping=1)"]
    assert "lm (lm.damping=1)" in plain_summary([plain, damped])


def test_a_method_is_three_traces_whatever_its_seeds(tmp_path):
    """The other seeds are one line with gaps, which knows the seed of each of its points."""
    final = [{"metrics.l2": error, "loss": 1.0} for error in (1e-5, 1e-3, 1e-4)]
    made = [
        write_run(tmp_path / str(i), seed=i, steps=4 + i, final=own, status="stalled") for i, own in enumerate(final)
    ]
    runs = [load_run(folder) for folder in made]
    thin, thick, signs = go.Figure(history(runs, "metrics.l2", "error", slots(runs))).data
    np.testing.assert_array_equal(thick.y, runs[2].column("metrics.l2"))
    assert thick.opacity is None and thin.opacity < 1 and thin.showlegend is False
    (gap,) = np.flatnonzero(np.isnan(thin.y))
    for part, run in ((slice(gap), runs[0]), (slice(gap + 1, None), runs[1])):
        np.testing.assert_array_equal(thin.y[part], run.column("metrics.l2"))
        np.testing.assert_array_equal(thin.meta["x"]["work"][part], run.work)
        assert set(thin.meta["hover"][5][part]) == {float(run.seed)}
    assert "seed %{customdata[5]}" in thin.hovertemplate and ", seed 2" in thick.hovertemplate
    assert list(signs.y) == [run.column("metrics.l2")[-1] for run in runs]
    assert (
        list(signs.marker.symbol) == [END_SIGNS["warn"]] * 3
        and signs.marker.opacity[-1] == 1.0 > signs.marker.opacity[0]
    )


def shown(fields, side=400):
    return [(caption, go.Figure(figure)) for caption, figure in pictures(fields, side)]


def test_pictures_of_a_field(tmp_path):
    fields = load_run(write_run(tmp_path / "a")).fields
    (_, reference), (_, solution), (caption, error) = shown(fields)
    exact = np.abs(fields.prediction - fields.reference)
    assert caption == f"pointwise error ≤ {number(float(exact.max()))}"
    assert reference.data[0].zmin == solution.data[0].zmin == -reference.data[0].zmax  # both signs: centred at zero
    np.testing.assert_allclose(error.data[0].customdata, exact.T.astype(np.float32))
    np.testing.assert_allclose(solution.data[0].z, fields.prediction.T, rtol=1e-6)
    assert shown(fields, side=10)[1][1].data[0].z.shape == (10, 9)  # every fourth of 37 and 33
    same = fields._replace(prediction=fields.reference)
    assert not np.asarray(shown(same)[2][1].data[0].z).any()


def test_a_field_of_one_coordinate_is_drawn_as_lines(tmp_path):
    folder = write_run(tmp_path / "a", steps=3)
    x = np.geomspace(1e-4, 1.0, 7)
    known = dict(axis0=x, labels=np.array(["eigenvalue"]), reference=np.sin(x), prediction=np.sin(x) + 1e-3 * x)
    np.savez(folder / "fields.npz", **known)
    run = load_run(folder)
    (both, lines), (caption, error) = shown(run.fields)
    assert both == "reference and solution" and [t.name for t in lines.data] == ["reference", "solution"]
    np.testing.assert_array_equal(lines.data[1].y, known["prediction"])
    assert lines.layout.xaxis.type == "log" and lines.layout.xaxis.title.text == "eigenvalue"
    assert caption == "pointwise error ≤ 1.0e-3" and error.layout.yaxis.type == "log"
    np.testing.assert_allclose(error.data[0].y, 1e-3 * x, rtol=1e-9)
    for level, drawn in ((run.rank / 10, True), (run.rank / 1e5, False)):  # too far below, it would flatten the curves
        stated = dataclasses.replace(run, meta=run.meta | {"reference_error": {"l2": level, "linf": run.rank}})
        figure = go.Figure(_error_figure([stated], "l2", slots([run])))
        assert (level in [shape.y0 for shape in figure.layout.shapes]) == drawn
    assert "reference and solution" in write_report([folder], tmp_path / "r.html").read_text()
    np.savez(folder / "fields.npz", **known | {"prediction": np.zeros(6)})
    assert "on axes of 7 points" in load_run(folder).notes[0]
    (folder / "fields.npz").unlink()
    assert load_run(folder).fields is None and not load_run(folder).notes
    assert "pointwise error" not in write_report([folder], tmp_path / "r.html").read_text().split("<script")[0]


def test_summaries_put_the_status_first(comparison):
    text = plain_summary([comparison])
    head = text.splitlines()[0].split()
    assert head == ["status", "problem", "method", "seed", "error", "loss", "steps", "seconds", "compile"]
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 110
    assert len(re.findall(r"^diverged  ", text, flags=re.M)) == 4  # two in the table, two with their reasons
    wide = Console(width=200, record=True, file=io.StringIO())
    wide.print(summary([comparison]))
    assert wide.export_text().split()[:4] == ["status", "reason", "problem", "method"]


def test_a_given_command_and_the_recorded_ones(tmp_path):
    write_run(tmp_path / "a", steps=3, command="ravine solve p --seed 3")
    assert "ravine solve p --seed 3</code>" in write_report([tmp_path / "a"], tmp_path / "r.html").read_text()
    text = write_report([tmp_path / "a"], tmp_path / "r.html", command="make demo").read_text()
    assert "make demo</code>" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.3e-11, "1.3e-11"), (-2.5, "−2.50"), (0.0123, "0.0123"), (12.44, "12.4"), (1234.4, "1234"), (123456.0, "1.2e5"),
     (0.0, "0"), (None, "–"), (math.nan, "NaN"), (-math.inf, "−∞"), (0.00999, "1.0e-2"), (0.9999, "1.00")],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def test_seconds():
    assert [seconds(s) for s in (12.44, 0.0851, 0.5, 312.4, 1234.0, None)] == [
        "12.4 s", "0.085 s", "0.50 s", "312 s", "1,234 s", "–",
    ]  # fmt: skip


def luminance(colour):
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_the_page(scheme):
    """WCAG 2.2: 3:1 for graphical objects, 4.5:1 for text."""

    def contrast(colour):
        high, low = sorted([luminance(colour), luminance(theme.PAGE[scheme])], reverse=True)
        return (high + 0.05) / (low + 0.05)

    assert min(map(contrast, theme.PALETTE[scheme])) >= 3.0
    assert min(contrast(theme.TEXT[scheme]), contrast(theme.MUTED[scheme])) >= 4.5


def test_numbers_of_the_provenance_are_sorted_and_saved_as_numbers(tmp_path):
    """In words 6,000 would come before 900."""
    runs = [write_run(tmp_path / str(n), method="lm", seed=n, parameters=n) for n in (900, 6000)]
    page = write_report(runs, tmp_path / "r.html").read_text()
    cells = re.findall(r'<td data-v="([^"]*)">([^<]*)</td>', page[page.index('id="provenance"') :])
    assert ("900", "900") in cells and ("6000", "6,000") in cells


@pytest.mark.parametrize("status", ["failed", "running", "interrupted"])
def test_a_run_that_failed_or_is_not_finished_is_not_the_best(tmp_path, status):
    """Whatever it had reached, and in bands and claims it is infinite too."""
    lost = write_run(tmp_path / "a", status=status, final={"metrics.l2": 1e-12, "loss": 1e-24})
    well = write_run(tmp_path / "b", seed=1, final={"metrics.l2": 1e-3, "loss": 1e-6})
    assert load_run(lost).rank == math.inf and load_run(lost).error == 1e-12
    assert "<strong>1.0e-3</strong>, lm, seed 1" in write_report([lost, well], tmp_path / "r.html").read_text()


def test_the_loss_of_a_killed_run_is_not_its_error(tmp_path):
    """It has not written which metric is the main one."""
    folder = write_run(tmp_path / "a", status="failed")
    meta = json.loads((folder / "run.json").read_text())
    for name in ("main_metric", "final"):
        del meta[name]
    (folder / "run.json").write_text(json.dumps(meta))
    run = load_run(folder)
    assert run.error_key == "metrics.l2" and run.error == run.rows[-1]["metrics.l2"]


def test_sixty_four_methods_differ_in_colour_or_dash():
    for palette in theme.PALETTE.values():
        assert len({(palette[slot % len(palette)], theme.dash(slot)) for slot in range(64)}) == 64
    assert theme.dash_lengths(0) == "none" and theme.dash_lengths(1) == "9 4"


def test_notes_that_many_runs_share_are_one(tmp_path):
    runs = [load_run(write_run(tmp_path / str(seed), seed=seed, rows=None)) for seed in range(9)]
    (note,) = notes(runs)
    assert note.startswith("lm, seed 0, lm, seed 1, ") and " and 3 more: " in note
