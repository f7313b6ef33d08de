"""Looking at a report in a browser: what tests of its controls share."""

import json

DRAWN = "document.documentElement.dataset.figures === 'drawn'"
VISIBLE = "(e) => !e.closest('[hidden]')"
SIZES = {"desktop": (1280, 900, False), "phone": (375, 800, True)}
FRAMES = "new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(r))))"
ERRORS = '[data-figure="p1-0"][data-axis="0"]'


def element(selector):
    return f"document.querySelector({json.dumps(selector)})"


def several(tab, selector, what):
    """`what` of each visible element."""
    return tab.run(f"[...document.querySelectorAll({json.dumps(selector)})].filter({VISIBLE}).map((e) => {what})")


def into_view(tab, selector):
    tab.run(f"{element(selector)}.scrollIntoView()")
    tab.run(FRAMES)  # the page hears what came near the screen
    tab.wait(f"{DRAWN} && {element(selector)}.matches('.js-plotly-plot')")


def traces(tab, figure, what="t.name"):
    """Of the lines of a figure."""
    into_view(tab, figure)
    return tab.run(f"{element(figure)}.data.filter((t) => t.mode === 'lines').map((t) => {what})")
