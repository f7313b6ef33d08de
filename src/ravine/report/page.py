"""The HTML page: what it says, gathered here and laid out by `template.html.j2`.

One file: plotly.js, style, script and data are inside it, and a content security policy forbids the browser any
request. 4.8 MB of the size are plotly.js.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.io as pio
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from . import figures, theme, wording
from .load import WORK_WORDS, Collection, RunRecord, collect, median_run
from .pictures import pictures

PACKAGE = __name__.rpartition(".")[0]
_POWER = re.compile(r"\d[\d.]*e[-−]\d+")
NEAR = 1e3


def write_report(
    folders: Sequence[Path | str], out: Path | str, title: str | None = None, command: str | None = None
) -> Path:
    """Write one self-contained page about one or many runs and return its path.

    `folders` are run folders and comparison folders; runs of several problems get one section a problem. `command`
    is what the page calls the command to reproduce it; without it the recorded ones are shown. Cost: about 0.1 s a
    run; size 4.8 MB plus about 0.1 MB a run.

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
    from .overall import overall  # imports SciPy, which answers to wrong usage do without

    figures_json: dict[str, Any] = {}
    keep = partial(_keep, figures_json)
    slot = figures.slots(found.runs)
    groups = by_problem(found.runs)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": wording.number, "seconds": wording.seconds, "integer": wording.integer}
    environment.filters |= {"counted": wording.counted, "code": _code}
    return environment.get_template("template.html.j2").render(
        title=title or default_title(found.runs),
        runs=found.runs,
        groups=groups,
        tally=tally(found.runs),
        metrics=list(dict.fromkeys(wording.metric_words(r.main_metric) for r in found.runs if r.main_metric)),
        overall=overall(found.runs, slot, keep),
        sections=[section(name, runs, slot, keep) for name, runs in groups.items()],
        commands=[command] if command else found.commands,
        provenance=provenance(found.runs),
        configurations=[(run, json.dumps(run.meta, indent=2, ensure_ascii=False)) for run in found.runs],
        work_words=WORK_WORDS,
        figures=figures_json,
        schemes=theme.schemes(),
        dash=wording.DASH,
        status_words=wording.status_words,
        metric_words=wording.metric_words,
        style=_package_text("style.css"),
        script=_package_text("page.js"),
        plotly=Markup(get_plotlyjs()),
    )


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
        grouped.setdefault(run.problem if run.method else "runs without a record", []).append(run)
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


def _keep(store: dict[str, Any], figure: go.Figure | None, label: str) -> Any:
    """Put a figure into `store`, under a key that the page's script reads; what the template needs of it."""
    if figure is None:
        return None
    key = f"figure-{len(store)}"
    store[key] = json.loads(pio.to_json(figure, validate=False))
    return {"key": key, "label": label, "height": figure.layout.height}


def section(name: str, runs: Sequence[RunRecord], slot: dict[str, int], keep: Callable) -> dict[str, Any]:
    """What the template needs of one problem; `keep` stores its figures."""
    drawn = [run for run in runs if run.rows]
    chosen = [median_run(own) for own in _by_method(drawn).values()]
    metrics = list(dict.fromkeys(run.main_metric for run in drawn))
    metric = metrics[0] if metrics else None
    words = wording.metric_words(metric)
    # Where error figures stand above, all losses get a figure of their own, and a loss of one term says no more.
    losses = figures.history(drawn, "seconds", "loss", "loss", slot) if metric and len(drawn) > 1 else None
    detailed = [run for run in chosen if losses is None or len(run.keys("terms.")) > 1]
    return {
        "name": name,
        "runs": runs,
        "drawn": drawn,
        "seeds": len({run.seed for run in drawn}),
        "metric": metric,
        "best": min(drawn, key=lambda run: run.rank) if any(math.isfinite(run.rank) for run in drawn) else None,
        "error": [keep(f, f"{words} against {a}") for f, a in _error_figures(drawn, metric, slot)],
        "loss": [
            (run, keep(figures.terms(run, _log_terms(run)), f"loss and terms of {run.label}")) for run in detailed
        ],
        "losses": keep(losses, "loss against seconds"),
        "linear": [run.label for run in detailed if not _log_terms(run)],
        "pictures": [(run, [(c, keep(f, f"{c}, {run.label}")) for c, f in shown]) for run, shown in _fields(drawn)],
        "scalars": [
            (method, keep(figures.scalars(own, slot[method]), f"scalars of {method}"))
            for method, own in _by_method(drawn).items()
        ],
        "finals": list(dict.fromkeys(k for run in runs for k in run.finals)),
        "notes": notes(runs),
    }


def _log_terms(run: RunRecord) -> bool:
    return figures.positive([run], ["loss", *run.keys("terms.")])


def _error_figures(drawn: Sequence[RunRecord], metric: str | None, slot: dict[str, int]):
    """Error against seconds and against work; the loss takes the place of the error where there is no metric."""
    if not drawn:
        return
    key = f"metrics.{metric}" if metric else "loss"
    for x in ("seconds", "work"):
        figure = figures.history(drawn, x, key, wording.metric_words(metric), slot)
        if metric:
            figures.add_level(figure, _reference_error(drawn, metric), "error of the reference")
        targets = {json.dumps(run.meta.get("target")) for run in drawn}
        target = (drawn[0].meta.get("target") or {}) if len(targets) == 1 else {}
        level = target.get(metric or "loss", target.get(key))
        figures.add_level(figure, float(level) if isinstance(level, int | float) else None, "target")
        yield figure, figures.AXES[x]


def _reference_error(drawn: Sequence[RunRecord], metric: str) -> float | None:
    """The first known error of the reference in this metric; a problem states one number, or one for each metric.

    None where all runs end more than `NEAR` times above it: the axis would stretch to a line that says nothing there.
    """
    for run in drawn:
        stated = run.meta.get("reference_error")
        value = stated.get(metric) if isinstance(stated, dict) else run.value("reference_error")
        if isinstance(value, int | float) and value:
            return float(value) if min(run.rank for run in drawn) <= NEAR * value else None
    return None


def _fields(drawn: Sequence[RunRecord]):
    """(run, its pictures) of the median run of each method, among the runs that stored fields."""
    for own in _by_method([run for run in drawn if run.fields is not None]).values():
        run = median_run(own)
        if run.fields is not None:
            yield run, pictures(run.fields)


def _by_method(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    return {method: [run for run in runs if run.method == method] for method in figures.slots(runs)}


def notes(runs: Sequence[RunRecord]) -> list[str]:
    """What a reader could not see from the figures: damaged files, values that are not finite, missing row counts."""
    said = []
    for run in runs:
        said += [f"{run.label}: {note}" for note in run.notes]
        if gaps := non_finite(run):
            said.append(f"{run.label}: {gaps}")
        if run.rows and run.total_work is None:
            said.append(f"{run.label}: {run.why_no_work}, so work is not known.")
    return said


def non_finite(run: RunRecord) -> str | None:
    """A sentence about NaN and infinite values of a run; None if all are finite or not computed."""
    bad = [(row["step"], key) for row in run.rows for key, v in row.items() if v in ("NaN", "Infinity", "-Infinity")]
    if not bad:
        return None
    step, key = bad[0]
    rows = wording.counted(len({s for s, _ in bad}), "row")
    return f"{rows} with values that are not finite, first {key} at step {step:,}; they are gaps in the figures."


def provenance(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Facts that all runs share, and a table of those in which they differ."""
    known = [run for run in runs if run.method]
    facts = [{"ravine": run.meta.get("ravine"), **_facts(run)} for run in known]
    keys = list(dict.fromkeys(k for fact in facts for k in fact))
    shared = [k for k in keys if len({json.dumps(fact.get(k), sort_keys=True) for fact in facts}) == 1]
    return {
        "shared": [(k, _plain(facts[0].get(k))) for k in shared],
        "differing": [k for k in keys if k not in shared],
        "rows": [(run, {k: _plain(fact.get(k)) for k in keys}) for run, fact in zip(known, facts, strict=True)],
    }


def _facts(run: RunRecord) -> dict[str, Any]:
    meta = run.meta
    own = {"model": meta.get("model"), "parameters": meta.get("parameters"), "residual rows": meta.get("rows")}
    own |= {"imposed exactly": meta.get("imposes"), "budget": meta.get("budget"), "target": meta.get("target")}
    own |= {"error of the reference": meta.get("reference_error")}
    return own | (meta.get("provenance") or {})


def _plain(value: Any) -> str:
    """A recorded value in words: lists with commas, mappings as `key value`, nothing as a dash."""
    if value is None or value in ([], {}, ""):
        return wording.DASH
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None) or wording.DASH
    if isinstance(value, list):
        return ", ".join(_plain(v) for v in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return wording.integer(value)
    return wording.number(value) if isinstance(value, float) else " ".join(str(value).split())
