"""The HTML page: what it says, gathered here and laid out by `template.html.j2`.

One file: plotly.js, style, script and data are inside it, and a content security policy forbids the browser any
request. 4.8 MB of the size are plotly.js.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from . import figures, theme, wording
from .load import WORK_WORDS, Collection, RunRecord, collect
from .packed import Store, packed
from .provenance import provenance
from .sections import section
from .thin import MANY, limits

PACKAGE = __name__.rpartition(".")[0]
NO_RECORD = "runs without a record"  # the group of runs that left none
SCRIPTS = ("tables.js", "view.js", "plots.js", "page.js")  # in the order in which they are needed
CLAIMS = 20  # up to so many stand in the open; more are folded, and counted by method
_POWER = re.compile(r"\d[\d.]*e[-−]\d+")


def write_report(
    folders: Sequence[Path | str], out: Path | str, title: str | None = None, command: str | None = None
) -> Path:
    """Write one self-contained page about one or many runs and return its path.

    `folders` are run folders and comparison folders; runs of several problems get one section a problem. `command`
    is what the page calls the command to reproduce it; without it the recorded ones are shown. What a page of many runs
    leaves out is said in `thin.limits` and on the page. Cost: about 20 ms of processor time a run of 200 rows; size
    4.8 MB for plotly.js, plus 20 kB a run up to 100 runs, 5 kB a run of more.

    Raises ValueError, one sentence: no folder, a folder that is not a run, a damaged file, or `out` a folder.
    """
    out = Path(out)
    if out.is_dir():
        raise ValueError(f"`{out}` is a folder; name the file to write, such as `{out / 'report.html'}`.")
    found = collect(folders)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")  # never half a page under the final name
    part.write_text(render(found, title=title, command=command), encoding="utf-8")
    part.replace(out)
    return out


def render(found: Collection, title: str | None = None, command: str | None = None) -> str:
    """The page as a string."""
    from .overall import best_first, concluded, overall, plain  # imports SciPy, which answers to wrong usage do without

    said = concluded(found.runs)
    runs = best_first(found.runs, said)
    slot, groups = figures.slots(runs), by_problem(runs)
    groups = {name: groups[name] for name in by_problem(found.runs)}
    limit, together = limits(len(runs)), Store("all")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    # Without the indentation of the template: of a thousand rows it is 0.2 MB.
    template = "\n".join(line.lstrip() for line in _package_text("template.html.j2").splitlines())
    environment.filters |= {"number": wording.number, "seconds": wording.seconds, "integer": wording.integer}
    environment.filters |= {"counted": wording.counted, "code": _code, "exact": _exact}
    index = {name: i for i, name in enumerate((n for n in groups if n != NO_RECORD), start=1)}
    sections = [section(index.get(name, 0), name, runs, slot, limit) for name, runs in groups.items()]
    return environment.from_string(template).render(
        title=title or default_title(runs),
        runs=runs,
        groups=groups,
        tally=tally(runs),
        metrics=list(dict.fromkeys(wording.metric_words(r.main_metric) for r in runs if r.main_metric)),
        overall=overall(said, slot, together.keep),
        sections=sections,
        commands=[command] if command else found.commands,
        provenance=provenance(runs),
        records=packed([json.dumps(run.meta, indent=2, ensure_ascii=False) for run in runs]),
        work_words=WORK_WORDS,
        blocks={"all": together.text()} | {f"p{s['index']}": s["block"] for s in sections if s["drawn"]},
        schemes=theme.schemes(),
        view=_view(index, slot, sections, len(runs)),
        limit=limit,
        claims_shown=CLAIMS,
        many=len(runs) > MANY,
        index=index,
        slot=slot,
        plain=plain,
        zip=zip,
        status_order={name: i for i, name in enumerate(wording.STATUSES)},
        dash=wording.DASH,
        dashes=theme.dash_lengths,
        axes=figures.AXES,
        status_words=wording.status_words,
        metric_words=wording.metric_words,
        style=_package_text("style.css"),
        scripts=[_package_text(name) for name in SCRIPTS],
        plotly=Markup(get_plotlyjs()),
    )


def _view(index: dict[str, int], slot: dict[str, int], sections: list[dict[str, Any]], runs: int) -> dict[str, Any]:
    """What can be chosen on the page, for its script."""
    return {
        "problems": [{"name": name, "key": i} for name, i in index.items()],
        "methods": [{"name": name, "key": i} for name, i in slot.items()],
        # A long page begins with one problem; the others are drawn when they are asked for.
        "problem": next(iter(index)) if runs > MANY and len(index) > 1 else "",
        "coloured": theme.COLOURED,
        "axes": [x for x in figures.AXES if any(x in s["axes"] for s in sections)],
    }


def _exact(value: float | None) -> str:
    """A number as the tables are sorted and saved: to full precision, empty where there is none."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return wording.number(value).replace("−", "-").replace("∞", "Infinity")
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _code(sentence: str) -> Markup:
    """A sentence as HTML: names between backticks set as code, numbers such as 1.3e-11 kept on one line."""
    parts = [Markup(_POWER.sub(r'<span class="number">\g<0></span>', str(escape(p)))) for p in sentence.split("`")]
    if len(parts) % 2 == 0:  # a lone backtick
        return escape(sentence)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


def _package_text(name: str) -> Markup:
    return Markup((files(PACKAGE) / name).read_text(encoding="utf-8"))


def by_problem(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs grouped by problem, in order of appearance; the runs that left no record come last, under their own head."""
    grouped: dict[str, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: not run.method):
        grouped.setdefault(run.problem if run.method else NO_RECORD, []).append(run)
    return grouped


def default_title(runs: Sequence[RunRecord]) -> str:
    problems = list(dict.fromkeys(run.problem for run in runs if run.method))
    methods = list(dict.fromkeys(run.method for run in runs if run.method))
    if len(runs) == 1:
        return f"{runs[0].method} on {runs[0].problem}"
    what = methods[0] if len(methods) == 1 else wording.counted(len(methods), "method")
    where = wording.listing(problems) if len(problems) <= 3 else wording.counted(len(problems), "problem")
    return f"{what} on {where}"


def tally(runs: Sequence[RunRecord]) -> list[tuple[str, int]]:
    """[(status, how many runs)], in the fixed order of statuses."""
    order = list(wording.STATUSES)
    names = sorted({run.status for run in runs}, key=lambda s: order.index(s) if s in order else len(order))
    return [(name, sum(run.status == name for run in runs)) for name in names]
