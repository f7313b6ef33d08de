"""The report of more methods than a legend or a palette holds, in headless Chromium."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from report_samples import write_comparison
from report_tab import DRAWN, ERRORS, FRAMES, SIZES, element, into_view, several, traces

from ravine.report import theme, write_report

pytestmark = pytest.mark.slow


def test_of_many_methods_the_list_is_the_legend_and_a_saved_figure_names_all(browser, tmp_path):
    methods = ("adam", "lbfgs", "ssbroyden", "lm", "adam:9+lm", "lbfgs:9+lm", "ssbroyden:9+lm")
    folder = write_comparison(tmp_path / "c", ("poisson2d",), methods, seeds=1, scale=0.1)
    browser.resize(*SIZES["desktop"])
    for file in browser.files.iterdir():
        file.unlink()
    browser.open(write_report([folder], tmp_path / "r.html").as_uri(), DRAWN)
    assert several(browser, ".chips [data-name]", "e.textContent.trim()") == list(methods)
    assert set(traces(browser, ERRORS)) == set(methods)
    assert browser.run(f"{element(ERRORS)}.querySelectorAll('.legend').length") == 0
    browser.click(f"{element(ERRORS)}.nextElementSibling")
    image = browser.saved(1)[0].read_text()
    root = ElementTree.fromstring(image)
    legend = next(e for e in root.iter() if e.get("class") == "legend")
    assert [e.text for e in legend.iter() if e.get("class") == "legendtext"] == list(methods)
    browser.run(f"view.toggle('lm'), {FRAMES}")
    browser.wait(
        f"{DRAWN} && {element(ERRORS)}.querySelectorAll('.legend').length === 1"
    )  # six have room in the figure

    browser.run(f"{element('.methods')}.open = false")
    browser.send("Emulation.setEmulatedMedia", media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    paper = "(e) => e.offsetParent !== null"
    on_paper = f"[...document.querySelectorAll('.bar button')].filter({paper}).map((e) => e.textContent.trim())"
    assert browser.run(on_paper) == [method for method in methods if method != "lm"], "the legend, and no control"
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.send("Emulation.setEmulatedMedia", media="")
    assert browser.run(f"{element('.methods')}.open") is False
    assert browser.console == [] and browser.outside() == []


def test_of_more_methods_than_colours_the_others_are_grey(browser, tmp_path):
    methods = ("lm", *(f"adam:{n}+lm" for n in range(1, theme.COLOURED + 2)))
    folder = write_comparison(tmp_path / "c", ("poisson2d",), methods, seeds=2, scale=0.1)
    browser.resize(*SIZES["desktop"])
    browser.open(write_report([folder], tmp_path / "r.html").as_uri(), DRAWN)
    listed = several(browser, ".chips [data-name]", "e.dataset.name")
    grey = "[...document.querySelectorAll('.chips .grey')].map((e) => e.dataset.name)"
    named = "[...document.querySelectorAll('#key > span')].map((e) => e.textContent.trim())"
    lines = f"{element(ERRORS)}._fullData.filter((t) => t.mode === 'lines')"
    muted = f"{lines}.filter((t) => t.line.color === {json.dumps(theme.MUTED['light'])})"
    assert sorted(listed) == sorted(methods) and browser.run(grey) == listed[-2:]
    assert browser.run(named) == listed[:-2]
    assert several(browser, "#shown", "e.textContent") == ["14 of 14, the first 12 in colour"]
    into_view(browser, ERRORS)
    assert set(browser.run(f"{muted}.map((t) => t.meta.method)")) == set(listed[-2:])
    assert browser.run(f"{muted}.every((t) => !t.showlegend && t.line.dash === 'solid')")
    browser.click(element(".methods summary"))
    assert several(browser, "#key", "e.offsetParent === null") == [True], "the list itself is the legend"
    browser.click(element(f'.chips [data-name="{listed[0]}"]'))
    browser.wait(DRAWN)
    assert browser.run(grey) == listed[-1:], "a colour for the next one, in the place of the one that is hidden"
    assert set(browser.run(f"{muted}.map((t) => t.meta.method)")) == set(listed[-1:])
    assert browser.console == [] and browser.outside() == []
