"""Every control of the report in headless Chromium, by mouse and keyboard, on a desktop and on a phone.

Each test ends with a silent console and without a request. Skipped, with the reason, where no Chromium is found.
"""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import pytest
from report_samples import write_comparison, write_run
from report_tab import DRAWN, ERRORS, SIZES, VISIBLE, element, into_view, several, traces

from ravine.report import theme, write_report

pytestmark = pytest.mark.slow

METHODS = ("adam", "adam:9+lm", "lm")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "all"
    write_comparison(folder, methods=METHODS, seeds=3, scale=0.1)
    return write_report([folder], folder / "report.html").as_uri()


@pytest.fixture(params=SIZES)
def tab(request, browser, page):
    """The page on a screen of either size; at the end nothing was logged and nothing asked for."""
    browser.resize(*SIZES[request.param])
    browser.scheme("light")
    for file in browser.files.iterdir():
        file.unlink()
    browser.open(page, DRAWN)
    yield browser
    assert browser.console == []
    assert browser.outside() == []


def choose(tab, control, value):
    """Keyboard and mouse open a list of the browser's own, outside the page: the choice itself is made by the event."""
    tab.run(f"(s => {{ s.value = {json.dumps(value)}; s.dispatchEvent(new Event('change')) }})({element(control)})")
    tab.wait(DRAWN)


def column(tab, index, table="runs"):
    """The texts of a column, a list for each visible body."""
    rows = f"[...document.querySelector('table[data-table={table}]').tBodies].filter({VISIBLE})"
    cells = f"(b) => [...b.rows].filter({VISIBLE}).filter((r) => !r.matches('.group')).map((r) => r.cells[{index}])"
    return tab.run(f"{rows}.map({cells}).map((c) => c.map((e) => e.dataset.v ?? e.textContent.trim()))")


def joined(lists):
    return [entry for one in lists for entry in one]


WORKS = '[data-figure="p1-0"][data-axis="1"]'
PROFILE = '[data-figure="all-0"]'


def test_the_problem_chosen_is_shown_in_all_figures_and_tables(tab):
    assert several(tab, "section[data-p]", "e.id") == ["problem-1", "problem-2"]
    choose(tab, "#problem", "burgers1d")
    assert several(tab, "section[data-p]", "e.id") == ["problem-2"]
    assert several(tab, ".status .group", "e.textContent.trim()") == ["burgers1d", "runs without a record"]
    assert set(joined(column(tab, 1, "provenance"))) == {"burgers1d"}
    assert len(column(tab, 3)[0]) == 9
    assert several(tab, "details[data-record] > summary", "e.textContent")[0].startswith("Full record of burgers1d")
    choose(tab, "#problem", "")
    assert several(tab, "section[data-p]", "e.id") == ["problem-1", "problem-2"]


def test_a_method_is_hidden_in_all_figures_and_tables_together(tab):
    assert set(traces(tab, ERRORS)) == set(METHODS)
    if not tab.run("document.querySelector('.methods').open"):
        tab.click(element(".methods summary"))
    chip = '.chips [data-name="adam"]'
    tab.click(element(chip))
    tab.wait(DRAWN)
    assert tab.run(f"{element(chip)}.getAttribute('aria-pressed')") == "false"
    assert tab.run("document.getElementById('shown').textContent") == "2 of 3"
    for figure in (ERRORS, PROFILE, '[data-figure="p2-0"]'):
        assert set(traces(tab, figure)) == set(METHODS[1:])
    assert "adam" not in joined(column(tab, 3)) and "adam" not in joined(column(tab, 0, "success"))
    pictures = several(tab, ".fields h4", "e.textContent.split(',')[0]")
    assert pictures == ["adam:9+lm", "lm"] * 2
    tab.click(element("#none"))
    tab.wait(DRAWN)
    assert traces(tab, ERRORS) == [] and set(joined(column(tab, 3))) == {"–"}, "a run without a record has no method"
    tab.click(element("#every"))
    tab.wait(DRAWN)
    assert set(traces(tab, ERRORS)) == set(METHODS)


def test_a_legend_hides_a_method_everywhere(tab):
    into_view(tab, ERRORS)
    tab.click(f"{element(ERRORS)}.querySelector('.legendtoggle')")
    tab.wait("document.getElementById('shown').textContent === '2 of 3'")
    assert len(set(traces(tab, PROFILE))) == 2


def test_curves_are_drawn_against_the_readings_chosen(tab):
    title = f"{element(ERRORS)}.layout.xaxis.title.text"
    into_view(tab, ERRORS)
    assert tab.run(title) == "steady seconds"
    called = f"[{element(WORKS)}, {element(WORKS)}.nextElementSibling].map((e) => e.getAttribute('aria-label'))"
    figure, button = tab.run(called)
    assert figure.endswith("against work (residual evaluations)") and button == f"Save SVG of {figure}"
    run = {}
    seconds = traces(tab, ERRORS, "t.x[t.x.length - 1]")
    options = tab.run("[...document.getElementById('axis').options].map((o) => [o.value, o.textContent])")
    assert [value for value, _ in options] == ["seconds,work", "seconds", "total", "work", "step"]
    for value, words in options[1:]:
        choose(tab, "#axis", value)
        into_view(tab, ERRORS)
        assert tab.run(title) == words
        assert tab.run(f"{element(WORKS)}.closest('[hidden]') !== null"), "one reading is one wide figure"
        run[value] = traces(tab, ERRORS, "t.x[t.x.length - 1]")
        assert traces(tab, '[data-figure="p2-0"]', "t.x.length"), "all problems follow"
    assert run["seconds"] == pytest.approx(seconds)
    assert run["total"] == pytest.approx([s + 3.214 for s in seconds], rel=1e-6)
    assert run["step"][0] == 150 and run["work"][0] == 3 * 150, "adam: a residual and a vjp a step"
    choose(tab, "#axis", "seconds,work")
    assert traces(tab, WORKS, "t.x[t.x.length - 1]") == run["work"]


def numbers(texts):
    """As sorted: what is missing or not a number comes last."""
    return [float(t) for t in texts if t not in ("", "NaN")]


@pytest.mark.parametrize("way", ["mouse", "keyboard"])
def test_tables_are_sorted_by_any_column_each_way(tab, way):
    heads = tab.run(
        "[...document.querySelector('table[data-table=runs]').tHead.rows[0].cells].map((c) => c.textContent)"
    )
    assert heads[:2] == ["Status", "Reason"], "status and reason first"
    plain = column(tab, 5)

    def press(index):
        button = (
            f"document.querySelector('table[data-table=runs]').tHead.rows[0].cells[{index}].querySelector('button')"
        )
        if way == "mouse":
            tab.click(button)
        else:
            tab.run(f"{button}.focus()")
            tab.press("Enter")

    def order(index):
        return tab.run(f"document.querySelector('table[data-table=runs]').tHead.rows[0].cells[{index}].ariaSort")

    for index in (5, 6, 9):
        for direction in ("ascending", "descending"):
            press(index)
            assert order(index) == direction
            for body in column(tab, index):
                values = numbers(body)
                assert values == sorted(values, reverse=direction == "descending")
                assert all(t in ("", "NaN") for t in body[len(values) :])
        press(index)
        assert order(index) is None and column(tab, 5) == plain
    press(3)
    assert column(tab, 3)[0] == sorted(column(tab, 3)[0])
    press(0)
    assert order(3) is None and order(0) == "ascending"
    assert "reached target" in column(tab, 0)[0][0] and "failed" not in column(tab, 0)[0][0]
    assert several(tab, "th[aria-sort]", "e.textContent") == ["Status"], "of one table, one column"


def test_a_view_is_in_the_address_and_comes_back(tab, page):
    choose(tab, "#problem", "burgers1d")
    choose(tab, "#axis", "work")
    tab.run("view.toggle('adam:9+lm')")
    tab.click("document.querySelector('table[data-table=runs]').tHead.rows[0].cells[5].querySelector('button')")
    tab.click("document.querySelector('table[data-table=runs]').tHead.rows[0].cells[5].querySelector('button')")
    address = tab.run("location.href")
    assert address == page + "#problem=burgers1d&hide=adam%3A9%2Blm&axis=work&sort=runs%3Aerror%3Adesc"
    errors = column(tab, 5)
    tab.open(address, DRAWN)
    state = (
        "[problem.value, axis.value, document.querySelectorAll('.chips [aria-pressed=false]').length,"
        "document.querySelector('table[data-table=runs]').tHead.rows[0].cells[5].ariaSort]"
    )
    controls = "(([problem, axis]) => {0})([document.getElementById('problem'), document.getElementById('axis')])"
    now = controls.replace("{0}", state)
    assert tab.run(now) == ["burgers1d", "work", 1, "descending"] and column(tab, 5) == errors
    choose(tab, "#problem", "")
    choose(tab, "#axis", "step")
    tab.run("history.back()")
    tab.wait("document.getElementById('axis').value === 'work'")
    tab.run("history.back()")
    tab.wait("document.getElementById('problem').value === 'burgers1d'")
    tab.run("history.go(2)")
    tab.wait("document.getElementById('axis').value === 'step'")
    assert tab.run(now) == ["", "step", 1, "descending"]
    assert several(tab, "section[data-p]", "e.id") == ["problem-1", "problem-2"]


@pytest.mark.parametrize(
    "garbage",
    [
        "#problem-1",
        "#%E0%A4%A",
        "#problem=nothing&axis=width&hide=none&sort=runs:nothing:asc&sort=:::&sort=runs:error:up",
    ],
)
def test_what_makes_no_sense_in_the_address_is_ignored(tab, page, garbage):
    tab.open(page + garbage, DRAWN)
    assert tab.run("[document.getElementById('problem').value, document.getElementById('axis').value]") == [
        "", "seconds,work",
    ]  # fmt: skip
    assert several(tab, "th[aria-sort]", "1") == []
    assert several(tab, ".chips [aria-pressed=false]", "1") == []


def test_the_link_to_the_view_is_copied_or_shown(tab, page):
    choose(tab, "#axis", "total")
    tab.click(element("#link"))
    tab.wait("document.getElementById('link').textContent !== 'Copy link to this view'")
    if tab.run("document.getElementById('link').textContent") == "Selected":
        assert tab.run("String(getSelection())") == page + "#axis=total"
    # A browser that gives no clipboard shows the address, selected.
    tab.run("navigator.clipboard.writeText = () => Promise.reject()")
    tab.wait("document.getElementById('link').textContent === 'Copy link to this view'")
    tab.click(element("#link"))
    tab.wait("document.getElementById('link').textContent === 'Selected'")
    assert tab.run("String(getSelection())") == page + "#axis=total"


def test_tables_are_saved_as_csv_and_as_text(tab):
    choose(tab, "#problem", "poisson2d")
    tab.run("view.toggle('adam')")
    tab.run("view.set({ sort: new Map([['runs', { column: 'error', down: false }]]) })")
    first = "document.querySelector('table[data-table=runs]').closest('.scroll').nextElementSibling"
    tab.click(f"{first}.children[0]")
    tab.saved(1)
    tab.click(f"{first}.children[1]")
    saved = {p.suffix: p for p in tab.saved(2)}
    assert saved[".csv"].name.endswith("-runs.csv")
    rows = list(csv.reader(io.StringIO(saved[".csv"].read_text())))
    assert rows[0] == [
        "Status", "Reason", "Problem", "Method", "Seed", "Error", "Loss", "Steps", "Work", "Seconds", "CPU", "Compile",
    ]  # fmt: skip
    assert len(rows) == 1 + 6 + 1, "what is shown, and the run without a record"
    assert {row[3] for row in rows[1:]} == {"adam:9+lm", "lm", ""} and {row[2] for row in rows[1:-1]} == {"poisson2d"}
    assert [row[5] for row in rows[1:]] == joined(column(tab, 5))
    assert len(rows[1][5]) > 12, "to full precision"
    assert rows[1][0] in ("reached target", "budget spent") and rows[-1][0] == "missing"
    lines = saved[".txt"].read_text().splitlines()
    assert len(lines) == len(rows) and lines[0].split() == rows[0]
    assert all(line.startswith(row[0]) for line, row in zip(lines, rows, strict=True))
    assert len({len(line) for line in lines[:-1]}) == 1, "aligned"


def test_every_kind_of_figure_is_saved_as_svg(tab):
    tab.scheme("dark")
    kinds = [PROFILE, ERRORS, '[data-figure="p1-1"]', ".triple [data-figure^=p1]", "#problem-2 [aria-label^=scalars]"]
    for count, figure in enumerate(kinds, start=1):
        into_view(tab, figure)
        tab.click(f"{element(figure)}.nextElementSibling")
        image = tab.saved(count)[-1]
        assert image.suffix == ".svg"
        root = ElementTree.fromstring(image.read_text())
        assert root.tag.endswith("svg") and float(root.get("width")) >= 640
        assert theme.TEXT["dark"] not in image.read_text()
    saved = {p.name: p.read_text() for p in tab.saved(len(kinds))}
    errors = saved["poisson2d-relative-L-error-against-steady-seconds.svg"]
    assert all(method in errors for method in METHODS) and "steady seconds" in errors


def test_what_the_mouse_points_at_stands_out_everywhere(browser, page):
    browser.resize(*SIZES["desktop"])
    browser.open(page, DRAWN)
    into_view(browser, ERRORS)
    lines = f"[...{element(ERRORS)}.querySelectorAll('.trace')]"
    faint = f"{lines}.filter((t) => getComputedStyle(t).opacity < 0.2)"
    assert browser.run(f"{faint}.length") == 0
    box = browser.run(f"(({{x, y}}) => [x, y])({element('.chips [data-name=lm]')}.getBoundingClientRect())")
    browser.hover(box[0] + 5, box[1] + 5)
    browser.wait(f"{faint}.length > 0")
    assert browser.run(f"{lines}.length > {faint}.length")
    soft = "getComputedStyle(document.querySelector('tr[data-m=\"2\"] > td')).backgroundColor"
    other = "getComputedStyle(document.querySelector('tr[data-m=\"0\"] > td')).backgroundColor"
    assert browser.run(f"{soft} !== {other}")
    browser.hover(2, 2)
    browser.wait(f"{faint}.length === 0")
    assert browser.console == []


def test_full_records_are_unfolded(tab):
    fold = "details[data-record]"
    tab.click(element(f"{fold} > summary"))
    tab.wait(f"{element(f'{fold} pre')}.textContent")
    assert json.loads(tab.run(f"{element(f'{fold} pre')}.textContent"))["method"] == "adam"


def test_the_command_is_copied_or_selected(tab):
    tab.click(element(".copy"))
    tab.wait(f"{element('.copy')}.textContent !== 'Copy'")
    assert tab.run(f"{element('.copy')}.textContent") in ("Copied", "Selected")


def test_a_phone_scrolls_tables_not_the_page(browser, page):
    browser.resize(*SIZES["phone"])
    browser.open(page, DRAWN)
    assert browser.run("[innerWidth, document.documentElement.scrollWidth]") == [375, 375]
    into_view(browser, ERRORS)
    edges = "(s) => Math.max(...[...document.querySelectorAll(s)].map((e) => e.getBoundingClientRect().right))"
    right = {
        s: browser.run(f"({edges})({json.dumps(s)})") for s in (".main-svg", ".status td", ".bar *", ".status th *")
    }
    assert max(right.values()) <= 375, right
    assert min(several(browser, ".status .reason", "e.clientWidth")) > 300, "the reason has the whole width"
    assert max(several(browser, "table", "e.scrollWidth")) > 375


@pytest.mark.parametrize("size", SIZES)
def test_a_single_run_has_the_controls_that_it_needs(browser, tmp_path, size):
    write_run(tmp_path / "a", method="lm", steps=20)
    browser.resize(*SIZES[size])
    browser.open(write_report([tmp_path / "a"], tmp_path / "r.html").as_uri(), DRAWN)
    assert browser.run("[...document.querySelectorAll('#controls select')].map((s) => s.id)") == ["axis"]
    assert browser.run("document.querySelector('.methods')") is None
    assert several(browser, ".part h3", "e.textContent")[0] == "Error against what it took"
    assert len(traces(browser, ERRORS)) == len(traces(browser, WORKS)) == 1
    choose(browser, "#axis", "step")
    assert traces(browser, ERRORS, "t.x[t.x.length - 1]") == [20]
    assert browser.console == [] and browser.outside() == []


def test_the_driver_sees_errors_and_requests(browser, tmp_path):
    leaky = tmp_path / "leaky.html"
    leaky.write_text('<img src="http://image.invalid/"><script>console.log("said"); throw new Error("loud")</script>')
    browser.open(leaky.as_uri())
    browser.wait("true")
    assert any("said" in line for line in browser.console) and any("loud" in line for line in browser.console)
    assert browser.outside() == ["http://image.invalid/"]
