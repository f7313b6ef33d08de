"""The report in headless Chromium: no request, no message on the console, figures drawn in the reader's scheme.

Skipped, with the reason, where no Chromium is found.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from chromium import FLAGS
from report_samples import write_comparison

from ravine.report import theme, write_report

pytestmark = pytest.mark.slow

WAIT = ["--virtual-time-budget=8000", "--enable-logging=stderr"]
TALL = "--window-size=1280,12000"  # figures are drawn near the screen: all of them here
DARK = "--blink-settings=preferredColorScheme=0"


class Visit(NamedTuple):
    dom: str
    console: list[str]
    requests: list[str]


@pytest.fixture(scope="module")
def visit(chromium, tmp_path_factory):
    def open_page(page: Path, *flags: str) -> Visit:
        scratch = tmp_path_factory.mktemp("browser")
        log = scratch / "net.json"
        extra = [
            f"--user-data-dir={scratch / 'profile'}",
            f"--log-net-log={log}",
            "--dump-dom",
            TALL,
            *flags,
            page.as_uri(),
        ]
        done = subprocess.run(
            [chromium, *FLAGS, *WAIT, *extra], capture_output=True, text=True, timeout=120, check=True
        )
        return Visit(done.stdout, re.findall(r".*CONSOLE.*", done.stderr), requests(log))

    return open_page


def requests(log: Path) -> list[str]:
    """URLs that the page asked for. A browser also calls home by itself; such requests have no page as initiator."""
    record = json.loads(log.read_text())
    start = record["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    started = [event.get("params", {}) for event in record["events"] if event["type"] == start]
    return [
        p["url"]
        for p in started
        if p.get("initiator") != "not an origin" and not p.get("url", "file:").startswith(("file:", "data:", "blob:"))
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "all"
    write_comparison(folder, problems=("poisson2d",), methods=("adam", "adam:9+lm", "lm"), seeds=3, scale=0.1)
    return write_report([folder], folder / "report.html")


@pytest.fixture(scope="module")
def light(visit, page):
    return visit(page)


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


def plots(dom: str) -> int:
    return len(re.findall(r'class="plot[^"]*js-plotly-plot', dom))


def with_script(page: Path, name: str, script: str, head: bool) -> Path:
    """A copy of the page with a script of the test at its start or end."""
    text, tag = page.read_text(), f"<script>{script}</script>"
    text = text.replace("<style>", f"{tag}<style>", 1) if head else text.replace("</body>", f"{tag}</body>")
    copy = page.with_name(name)
    copy.write_text(text)
    return copy


def test_every_figure_is_drawn_and_the_console_is_silent(light, page):
    asked = len(re.findall(r'data-figure="', page.read_text()))
    # all runs, medians, errors, losses, terms, pictures, scalars
    assert plots(light.dom) == asked == 4 + 2 + 2 + 1 + 3 + 9 + 3
    assert light.console == []


def test_figures_far_from_the_screen_wait(visit, page):
    seen = visit(page, "--window-size=1280,700")
    assert plots(seen.dom) < 6 and seen.dom.count('data-figures="drawn"') == 1


def test_no_request_is_made(light):
    assert light.requests == []


def test_no_request_is_made_even_where_it_would_be_allowed(visit, page):
    """The policy of the page blocks requests; without it, none is tried either."""
    policy = re.compile(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>")
    free = page.with_name("free.html")
    free.write_text(policy.sub("", page.read_text()))
    assert not policy.search(free.read_text())
    seen = visit(free)
    assert seen.requests == [] and seen.console == []
    assert plots(seen.dom) > 0


def test_the_checks_see_requests_and_errors(visit, tmp_path):
    leaky = tmp_path / "leaky.html"
    leaky.write_text(
        '<link rel="stylesheet" href="https://style.invalid/">'
        "<style>@font-face { font-family: q; src: url(http://font.invalid/) } p { font-family: q }</style>"
        '<p>text<img src="http://image.invalid/"><script>fetch("https://fetch.invalid/").catch(() => {});'
        'navigator.sendBeacon("https://beacon.invalid/", "1"); new WebSocket("ws://socket.invalid/");'
        'throw new Error("loud")</script>'
    )
    seen = visit(leaky)
    # Not the icon: a headless browser may be gone before it asks for one. tests/test_report.py looks for it.
    for name in ("style", "font", "image", "fetch", "beacon", "socket"):
        assert any(f"{name}.invalid" in url for url in seen.requests), name
    assert any("loud" in line for line in seen.console)


# A headless browser has no mouse, and without one the page shows no buttons on figures.
MOUSE = """
const real = matchMedia;
window.matchMedia = (query) => (query === "(hover: hover)" ? { matches: true } : real.call(window, query));
"""


def test_figures_offer_no_upload_and_no_link_to_elsewhere(visit, page):
    seen = visit(with_script(page, "mouse.html", MOUSE, head=True))
    body = re.sub(r"<(script|style).*?</\1>", "", seen.dom, flags=re.S)
    assert set(re.findall(r'data-title="([^"]*)"', body)) >= {"Zoom", "Pan", "Reset axes"}
    assert "Share chart" not in body and "modebar-btn--logo" not in body and "plotly.com" not in body
    assert not re.findall(r'<a\s[^>]*href="http', body)


def test_figures_follow_the_scheme(light, visit, page):
    dark = visit(page, DARK)
    assert dark.console == []
    for seen, own, other in ((light, "light", "dark"), (dark, "dark", "light")):
        drawn = re.sub(r"<(script|style).*?</\1>", "", seen.dom, flags=re.S)
        assert rgb(theme.TEXT[own]) in drawn and rgb(theme.PALETTE[own][0]) in drawn
        assert rgb(theme.TEXT[other]) not in drawn and rgb(theme.PALETTE[other][0]) not in drawn


# Stands for a reader who changes the scheme: `flip` is what the browser would do then.
SWITCH = """
const real = matchMedia, listeners = [], media = { matches: false, addEventListener: (_, f) => listeners.push(f) };
window.matchMedia = (query) => (query.includes("prefers-color-scheme") ? media : real.call(window, query));
window.flip = () => { media.matches = !media.matches; listeners.forEach((f) => f()); };
"""


def test_figures_are_redrawn_when_the_scheme_changes_and_for_print(visit, page):
    copy = with_script(page, "switch.html", SWITCH, head=True)
    turned = visit(with_script(copy, "flipped.html", "flip()", head=False))
    drawn = re.sub(r"<(script|style).*?</\1>", "", turned.dom, flags=re.S)
    assert rgb(theme.TEXT["dark"]) in drawn and rgb(theme.TEXT["light"]) not in drawn

    printing = visit(with_script(copy, "print.html", 'flip(); dispatchEvent(new Event("beforeprint"))', head=False))
    drawn = re.sub(r"<(script|style).*?</\1>", "", printing.dom, flags=re.S)
    assert rgb(theme.TEXT["light"]) in drawn and rgb(theme.TEXT["dark"]) not in drawn
    widths = {int(w) for w in re.findall(r'<svg class="main-svg"[^>]* width="(\d+)"', drawn)}
    assert widths == {218, 332, 680}


def test_prints_to_pages(visit, page, tmp_path):
    pdf = tmp_path / "report.pdf"
    visit(page, DARK, f"--print-to-pdf={pdf}")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 3
