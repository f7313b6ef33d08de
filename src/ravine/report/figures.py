"""The figures of one problem, as plotly figures in plain dictionaries (their objects would cost a second a figure of
many runs). They have no colours: each trace names a palette slot and its method in `meta`.

Log axes show powers of ten. A value that is not finite, or not positive on a log axis, is a gap. Curves of runs can be
drawn against each of AXES: `meta.x` of a trace holds its readings, `layout.meta.x` the axis that goes with them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import theme
from .load import RunRecord, median_run
from .wording import metric_words, status_words

AXES = {
    "seconds": "steady seconds",
    "total": "seconds with compilation",
    "work": "work (residual evaluations)",
    "step": "step",
}
PANEL = 124  # height in pixels of one panel of a stack
DECADES_FOR_LOG = 2.0
END_SIGNS = {"good": "circle", "plain": "square", "warn": "triangle-up", "bad": "x"}


def slots(runs: Sequence[RunRecord]) -> dict[str, int]:
    """The palette slot of each method, in order of appearance: the same on every figure of a page."""
    return {method: i for i, method in enumerate(by_method(runs))}


def escaped(label: str) -> str:
    """Plotly reads a small set of tags in text, so names are escaped."""
    return html.escape(label, quote=False)


def readings(run: RunRecord) -> dict[str, np.ndarray]:
    """{axis: (rows,) readings of the run}, of those of AXES that the run has."""
    seconds = run.column("seconds")
    found = {"seconds": seconds, "work": run.work, "step": run.column("step")}
    if (compilation := run.value("compile_seconds")) is not None:
        found["total"] = seconds + compilation
    return {axis: found[axis] for axis in AXES if axis in found and np.isfinite(found[axis]).any()}


def _gaps(values: np.ndarray, log: bool) -> np.ndarray:
    """Values that the axis cannot show become NaN, which plotly leaves out."""
    shown = np.isfinite(values) & ((values > 0) if log else True)
    return np.where(shown, values, np.nan)


def axis(title: str | None, log: bool, values: list[np.ndarray]) -> dict:
    """A log axis over more than two decades gets ticks at powers of ten only, over one decade also at 2 and 5;
    plotly draws powers a quarter larger than the size it is given."""
    made: dict[str, Any] = dict(title=dict(text=title), type="log" if log else "linear")
    seen = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.empty(0)
    if not log or not seen.size:
        return made
    decades = float(np.log10(seen.max()) - np.log10(seen.min()))
    apart = 0.72 if decades > DECADES_FOR_LOG else 0.45  # decades between ticks: plotly's bounds are 0.7 and 0.3
    ticks = dict(nticks=min(7, int(decades / apart))) if decades > 1 else {}
    return made | ticks | dict(tickfont=dict(size=10))


def layout(height: int, xaxis: dict, yaxis: dict, **more: Any) -> dict:
    """Size, margins and legend that all figures of lines share."""
    legend = dict(orientation="h", x=0, y=1.02, yanchor="bottom", xanchor="left")
    shared = dict(height=height, margin=dict(l=8, r=12, t=26, b=8), hovermode="closest", legend=legend)
    return shared | dict(xaxis=xaxis, yaxis=yaxis) | more


def _lines(traces: list[dict], height: int, name: str, log: bool, legend: bool) -> dict[str, Any]:
    """The figure of these traces against the first of AXES that they have, with the others at hand in `meta`."""
    lines = [t for t in traces if t["mode"] == "lines"]
    xaxes = {}
    for x, title in AXES.items():
        seen = [_gaps(t["meta"]["x"][x], True) for t in lines if x in t["meta"]["x"]]
        if seen:
            xaxes[x] = axis(title, True, seen)
    first = next(iter(xaxes))
    yaxis = axis(name, log, [t["y"] for t in lines])
    return {"data": traces, "layout": layout(height, xaxes[first], yaxis, showlegend=legend, meta=dict(x=xaxes))}


def positive(runs: Sequence[RunRecord], keys: Sequence[str]) -> bool:
    """Whether a log axis can hold these columns: no finite value below zero (energies are negative)."""
    columns = [run.column(key) for run in runs for key in keys]
    return not any((c[np.isfinite(c)] < 0).any() for c in columns)


def history(runs: Sequence[RunRecord], key: str, name: str, slot: dict[str, int]) -> dict[str, Any]:
    """`key` of every run against AXES: one colour and dash a method, the median seed thick, the others thin.

    A ring marks the first row of a new stage, the sign at the end how the run ended (round: reached its target
    or converged; square: budget spent; triangle: stalled or interrupted; cross: diverged or failed). A method has three
    traces, whatever its runs: a browser's time goes by traces.
    """
    log = positive(runs, [key])
    traces = []
    for method, own in by_method([run for run in runs if len(run.rows)]).items():
        main = median_run(own)
        if others := [run for run in own if run is not main]:
            traces.append(_curves(others, key, slot[method], log) | dict(opacity=0.55, showlegend=False))
        traces.append(_curves([main], key, slot[method], log))  # the thick line on top
        traces.append(_signs([*others, main], key, slot[method], log))
    return _lines(traces, 400, name, log, len(slot) > 1)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One after the other, with a gap between."""
    return np.concatenate([np.append(part, np.nan) for part in parts])[:-1]


def _clocks(runs: Sequence[RunRecord]) -> dict[str, np.ndarray]:
    """The `readings` of all runs joined; a reading that a run does not have is a gap for its rows."""
    own = [readings(run) for run in runs]
    absent = [np.full(len(run.rows), np.nan) for run in runs]
    every = [x for x in AXES if any(x in of for of in own)]
    return {x: _joined([of.get(x, no) for of, no in zip(own, absent, strict=True)]) for x in every}


def _curves(runs: Sequence[RunRecord], key: str, slot: int, log: bool) -> dict:
    """The curves of runs of one method as one line, thick if it is a single run."""
    xs, alone = _clocks(runs), len(runs) == 1
    facts = [[run.column(c) for c in ("step", "loss", run.error_key, "seconds")] + [run.work] for run in runs]
    if not alone:
        seeds = [np.full(len(run.rows), run.value("seed"), dtype=np.float64) for run in runs]  # NaN without one
        facts = [[*of, seed] for of, seed in zip(facts, seeds, strict=True)]
    label = escaped(runs[0].label) if alone else f"{escaped(runs[0].method)}, seed %{{customdata[5]}}"
    error = metric_words(runs[0].main_metric)
    hover = f"<b>{label}</b><br>step %{{customdata[0]:,.0f}}<br>loss %{{customdata[1]:.3g}}"
    hover += f"<br>{escaped(error)} %{{customdata[2]:.3g}}" if runs[0].main_metric else ""
    hover += "<br>%{customdata[3]:.3g} s · work %{customdata[4]:,.0f}<extra></extra>"
    return dict(
        type="scatter",
        legendgroup=runs[0].method,
        x=xs[next(iter(xs))],
        y=_joined([_gaps(run.column(key), log) for run in runs]),
        name=escaped(runs[0].method),
        mode="lines",
        line=dict(width=2.2 if alone else 1.0, dash=theme.dash(slot)),
        hovertemplate=hover,
        meta=dict(slot=slot, method=runs[0].method, x=xs, hover=[_joined(of) for of in zip(*facts, strict=True)]),
    )


def _signs(runs: Sequence[RunRecord], key: str, slot: int, log: bool) -> dict:
    """The signs on the lines of `runs`, the last one's full; apart from the lines, or the legend would show a dot in
    the dash."""
    xs, ys = _clocks(runs), _joined([_gaps(run.column(key), log) for run in runs])
    first = next(iter(xs))
    rows, symbols, strength, begin = [], [], [], 0
    for run in runs:
        here = slice(begin, begin + len(run.rows))
        own = [(begin + row, symbol) for row, symbol in _marked(run, xs[first][here], ys[here])]
        rows += [row for row, _ in own]
        symbols += [symbol for _, symbol in own]
        strength += [1.0 if run is runs[-1] else 0.55] * len(own)
        begin = here.stop + 1
    return dict(
        type="scatter",
        legendgroup=runs[0].method,
        x=xs[first][rows],
        y=ys[rows],
        showlegend=False,
        mode="markers",
        marker=dict(size=9, symbol=symbols, opacity=strength),
        hoverinfo="skip",
        meta=dict(slot=slot, method=runs[0].method, x={k: v[rows] for k, v in xs.items()}),
    )


def _marked(run: RunRecord, xs: np.ndarray, ys: np.ndarray) -> list[tuple[int, str]]:
    """Rows that bear a sign, and the signs: rings at new stages, the end of the run on the last row shown."""
    found = [(int(i), "circle-open") for i in np.flatnonzero(np.diff(np.nan_to_num(run.column("stage")))) + 1]
    shown = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys))
    if shown.size:
        found.append((int(shown[-1]), END_SIGNS[status_words(run.status)[1]]))
    return found


def by_method(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs grouped by method, in order of appearance; those that left no record are not among them."""
    grouped: dict[str, list[RunRecord]] = {}
    for run in runs:
        if run.method:
            grouped.setdefault(run.method, []).append(run)
    return grouped


def add_level(figure: dict[str, Any], value: float | None, label: str) -> None:
    """A dotted horizontal line on a log axis, e.g. the target or the error of the reference itself."""
    shown = figure["layout"]
    if value is None or not np.isfinite(value) or value <= 0 or shown["yaxis"]["type"] != "log":
        return
    line = dict(color="#808890", width=1, dash="dot")
    ends = dict(type="line", xref="paper", x0=0, x1=1, y0=value, y1=value)
    shown.setdefault("shapes", []).append(ends | dict(line=line))
    # Annotations, unlike lines, are placed by the logarithm.
    place = dict(x=0, xref="paper", xanchor="left", y=float(np.log10(value)), yanchor="bottom")
    text = dict(text=escaped(label), showarrow=False, font=dict(size=11))
    shown.setdefault("annotations", []).append(place | text)


def terms(run: RunRecord, log: bool) -> dict[str, Any]:
    """The loss of one run and each of its terms against AXES."""
    xs, traces = readings(run), []
    columns = [
        ("loss", "loss", theme.INK),
        *((k, k.removeprefix("terms."), i) for i, k in enumerate(run.keys("terms."))),
    ]
    for key, name, slot in columns:
        ink = slot == theme.INK
        hover = f"<b>{escaped(name)}</b> %{{y:.3g}}<br>step %{{customdata[0]:,.0f}}, %{{customdata[1]:.3g}} s"
        traces.append(
            dict(
                type="scatter",
                x=next(iter(xs.values())),
                y=_gaps(run.column(key), log),
                name=escaped(name),
                mode="lines",
                line=dict(width=2.2 if ink else 1.4, dash="solid" if ink else theme.dash(int(slot) + 1)),
                hovertemplate=hover + "<extra></extra>",
                meta=dict(slot=slot, x=xs, hover=[run.column("step"), run.column("seconds")]),
            )
        )
    return _lines(traces, 320, "loss and terms", log, True)


def scalars(runs: Sequence[RunRecord], slot: int) -> dict[str, Any] | None:
    """Gradient norm, step length and the method's own scalars against the step: one panel each, all of `runs`."""
    runs = [run for run in runs if len(run.rows)]
    names = dict.fromkeys(k for run in runs for k in ("grad_norm", "step_norm", *run.keys("scalars.")))
    keys = [k for k in names if any(np.isfinite(run.column(k)).any() for run in runs)]
    if not keys:
        return None
    height = PANEL * len(keys) + 60
    gap = 28 / height
    part = (1 - gap * (len(keys) - 1)) / len(keys)
    main = median_run(runs)
    traces, notes, axes = [], [], {}
    for i, key in enumerate(keys):
        log, number = _wants_log(runs, key), "" if i == 0 else str(i + 1)
        name = {"grad_norm": "gradient norm", "step_norm": "step length"}.get(key, key.removeprefix("scalars."))
        own = dict(xaxis="x", yaxis=f"y{number}")
        traces += [
            _scalar_trace(run, key, name, slot, run is main, log) | own for run in sorted(runs, key=lambda r: r is main)
        ]
        top = 1 - i * (part + gap)
        axes[f"yaxis{number}"] = _panel_axis(runs, key, log) | dict(domain=[max(0.0, top - part), top], anchor="x")
        title = dict(text=escaped(name), x=0, xref="paper", xanchor="left", showarrow=False, font=dict(size=12))
        notes.append(title | dict(y=top, yref="paper", yanchor="bottom"))
    xaxis = dict(title=dict(text="step"), anchor=f"y{number}")
    shown = layout(height, xaxis, axes.pop("yaxis"), showlegend=False, annotations=notes, **axes)
    return {"data": traces, "layout": shown}


def _panel_axis(runs: Sequence[RunRecord], key: str, log: bool) -> dict:
    """Few ticks; a constant stands in the middle of an axis from zero, or plotly would show it between ±1."""
    if log:
        return dict(type="log", nticks=4, tickfont=dict(size=10))
    values = np.concatenate([run.column(key) for run in runs])
    values = values[np.isfinite(values)]
    constant = values.size and values.min() == values.max() != 0
    return dict(nticks=4) | (dict(range=sorted([0.0, 2.0 * values[0]])) if constant else {})


def _scalar_trace(run: RunRecord, key: str, name: str, slot: int, main: bool, log: bool) -> dict:
    return dict(
        type="scatter",
        x=run.column("step"),
        y=_gaps(run.column(key), log),
        mode="lines",
        line=dict(width=1.6 if main else 0.9),
        opacity=1.0 if main else 0.5,
        hovertemplate=f"<b>{escaped(name)}</b> %{{y:.3g}}<br>{escaped(run.label)}, step %{{x:,.0f}}<extra></extra>",
        meta=dict(slot=slot, method=run.method),
    )


def _wants_log(runs: Sequence[RunRecord], key: str) -> bool:
    """Positive and spread over more than `DECADES_FOR_LOG` powers of ten."""
    values = np.concatenate([run.column(key) for run in runs])
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size or (values < 0).any():
        return False
    return bool(np.log10(values.max()) - np.log10(values.min()) > DECADES_FOR_LOG)
