"""The figures of one problem, as plotly figures without colours: each trace names a palette slot in `meta`.

Log axes show powers of ten. A value that is not finite, or not positive on a log axis, is a gap.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from . import theme
from .load import RunRecord, median_run
from .wording import metric_words, status_words

AXES = {"seconds": "steady seconds", "work": "work (residual evaluations)", "step": "step"}
PANEL = 124  # height in pixels of one panel of a stack
DECADES_FOR_LOG = 2.0
END_SIGNS = {"good": "circle", "plain": "square", "warn": "triangle-up", "bad": "x"}


def slots(runs: Sequence[RunRecord]) -> dict[str, int]:
    """The palette slot of each method, in order of appearance: the same on every figure of a page."""
    return {method: i for i, method in enumerate(dict.fromkeys(run.method for run in runs if run.method))}


def escaped(label: str) -> str:
    """Plotly reads a small set of tags in text, so names are escaped."""
    return html.escape(label, quote=False)


def _abscissa(run: RunRecord, x: str) -> np.ndarray:
    return run.work if x == "work" else run.column(x)


def _gaps(values: np.ndarray, log: bool) -> np.ndarray:
    """Values that the axis cannot show become NaN, which plotly leaves out."""
    shown = np.isfinite(values) & ((values > 0) if log else True)
    return np.where(shown, values, np.nan)


def _axis(title: str | None, log: bool, values: list[np.ndarray]) -> dict:
    """A log axis over more than two decades gets ticks at powers of ten only, over one decade also at 2 and 5;
    plotly draws powers a quarter larger than the size it is given."""
    axis = dict(title=dict(text=title), type="log" if log else "linear")
    seen = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.empty(0)
    if not log or not seen.size:
        return axis
    decades = float(np.log10(seen.max()) - np.log10(seen.min()))
    apart = 0.72 if decades > DECADES_FOR_LOG else 0.45  # decades between ticks: plotly's bounds are 0.7 and 0.3
    ticks = dict(nticks=min(7, int(decades / apart))) if decades > 1 else {}
    return axis | ticks | dict(tickfont=dict(size=10))


def layout(figure: go.Figure, height: int, x: str, xlog: bool, y: str | None, ylog: bool) -> go.Figure:
    """Size, margins, legend and axes that all figures of lines share; `x` names a column of AXES or is a title."""
    figure.update_layout(
        template=None,
        height=height,
        margin=dict(l=8, r=12, t=26, b=8),
        hovermode="closest",
        uirevision="kept",
        legend=dict(orientation="h", x=0, y=1.02, yanchor="bottom", xanchor="left"),
        xaxis=_axis(AXES.get(x, x), xlog, [np.asarray(trace.x) for trace in figure.data]),
        yaxis=_axis(y, ylog, [np.asarray(trace.y) for trace in figure.data]),
    )
    return figure


def positive(runs: Sequence[RunRecord], keys: Sequence[str]) -> bool:
    """Whether a log axis can hold these columns: no finite value below zero (energies are negative)."""
    columns = [run.column(key) for run in runs for key in keys]
    return not any((c[np.isfinite(c)] < 0).any() for c in columns)


def history(runs: Sequence[RunRecord], x: str, key: str, name: str, slot: dict[str, int]) -> go.Figure:
    """`key` of every run against `x`: one colour and dash a method, the median seed thick, the others thin.

    A ring marks the first row of a new stage, the sign at the end how the run ended (round: reached its target
    or converged; square: budget spent; triangle: stalled or interrupted; cross: diverged or failed).
    """
    log = positive(runs, [key])
    figure = go.Figure()
    for method, own in _by_method(runs).items():
        main = median_run(own)
        for run in sorted(own, key=lambda r: r is main):  # the thick line on top
            if len(run.rows):
                figure.add_traces(_history_traces(run, x, key, slot[method], run is main, log))
    layout(figure, 400, x, True, name, log)
    figure.update_layout(showlegend=len(slot) > 1)
    return figure


def _history_traces(run: RunRecord, x: str, key: str, slot: int, main: bool, log: bool) -> list[go.Scatter]:
    """The line, and the signs on it; the signs apart, or the legend would show a dot in the dash."""
    xs, ys = _gaps(_abscissa(run, x), True), _gaps(run.column(key), log)
    facts = np.stack([run.column(c) for c in ("step", "loss", run.error_key, "seconds")] + [run.work], axis=-1)
    error = metric_words(run.main_metric)
    hover = f"<b>{escaped(run.label)}</b><br>step %{{customdata[0]:,.0f}}<br>loss %{{customdata[1]:.3g}}"
    hover += f"<br>{escaped(error)} %{{customdata[2]:.3g}}" if run.main_metric else ""
    hover += "<br>%{customdata[3]:.3g} s · work %{customdata[4]:,.0f}<extra></extra>"
    shared = dict(legendgroup=run.method, opacity=1.0 if main else 0.55, meta=dict(slot=slot))
    line = go.Scatter(
        x=xs,
        y=ys,
        name=escaped(run.method),
        showlegend=main,
        mode="lines",
        line=dict(width=2.2 if main else 1.0, dash=theme.dash(slot)),
        customdata=facts,
        hovertemplate=hover,
        **shared,
    )
    rows, symbols = _signs(run, xs, ys)
    signs = go.Scatter(
        x=xs[rows],
        y=ys[rows],
        showlegend=False,
        mode="markers",
        marker=dict(size=9, symbol=symbols),
        hoverinfo="skip",
        **shared,
    )
    return [line, signs]


def _signs(run: RunRecord, xs: np.ndarray, ys: np.ndarray) -> tuple[list[int], list[str]]:
    """Rows that bear a sign, and the signs: rings at new stages, the end of the run on the last row shown."""
    switches = np.flatnonzero(np.diff(np.nan_to_num(run.column("stage"))) != 0) + 1
    rows, symbols = [int(i) for i in switches], ["circle-open"] * switches.size
    shown = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys))
    if shown.size:
        rows.append(int(shown[-1]))
        symbols.append(END_SIGNS[status_words(run.status)[1]])
    return rows, symbols


def _by_method(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    grouped: dict[str, list[RunRecord]] = {}
    for run in runs:
        if run.method:
            grouped.setdefault(run.method, []).append(run)
    return grouped


def add_level(figure: go.Figure, value: float | None, label: str) -> None:
    """A dotted horizontal line on a log axis, e.g. the target or the error of the reference itself."""
    if value is not None and np.isfinite(value) and value > 0 and figure.layout.yaxis.type == "log":
        figure.add_hline(y=value, line=dict(color="#808890", width=1, dash="dot"))
        # Annotations, unlike lines, are placed by the logarithm.
        place = dict(x=0, xref="paper", xanchor="left", y=float(np.log10(value)), yanchor="bottom")
        figure.add_annotation(text=escaped(label), showarrow=False, font=dict(size=11), **place)


def terms(run: RunRecord, log: bool) -> go.Figure:
    """The loss of one run and each of its terms against seconds."""
    figure = go.Figure()
    columns = [
        ("loss", "loss", theme.INK),
        *((k, k.removeprefix("terms."), i) for i, k in enumerate(run.keys("terms."))),
    ]
    for key, name, slot in columns:
        ink = slot == theme.INK
        hover = f"<b>{escaped(name)}</b> %{{y:.3g}}<br>step %{{customdata:,.0f}}, %{{x:.3g}} s<extra></extra>"
        figure.add_trace(
            go.Scatter(
                x=_gaps(run.column("seconds"), True),
                y=_gaps(run.column(key), log),
                name=escaped(name),
                mode="lines",
                line=dict(width=2.2 if ink else 1.4, dash="solid" if ink else theme.dash(int(slot) + 1)),
                customdata=run.column("step"),
                hovertemplate=hover,
                meta=dict(slot=slot),
            )
        )
    return layout(figure, 320, "seconds", True, "loss and terms", log).update_layout(showlegend=True)


def scalars(runs: Sequence[RunRecord], slot: int) -> go.Figure | None:
    """Gradient norm, step length and the method's own scalars against the step: one panel each, all seeds."""
    runs = [run for run in runs if len(run.rows)]
    names = dict.fromkeys(k for run in runs for k in ("grad_norm", "step_norm", *run.keys("scalars.")))
    keys = [k for k in names if any(np.isfinite(run.column(k)).any() for run in runs)]
    if not keys:
        return None
    figure = make_subplots(rows=len(keys), cols=1, shared_xaxes=True, vertical_spacing=28 / (PANEL * len(keys) + 60))
    main = median_run(runs)
    for i, key in enumerate(keys, start=1):
        log = _wants_log(runs, key)
        name = {"grad_norm": "gradient norm", "step_norm": "step length"}.get(key, key.removeprefix("scalars."))
        for run in sorted(runs, key=lambda r: r is main):
            figure.add_trace(_scalar_trace(run, key, name, slot, run is main, log), row=i, col=1)
        figure.update_yaxes(_panel_axis(runs, key, log), row=i, col=1)
        title = dict(text=escaped(name), x=0, xref="paper", xanchor="left", showarrow=False, font=dict(size=12))
        axis = "" if i == 1 else str(i)
        figure.add_annotation(title | dict(y=1, yref=f"y{axis} domain", yanchor="bottom"))
    figure.update_xaxes(title=dict(text="step"), row=len(keys), col=1)
    figure.update_layout(
        template=None,
        height=PANEL * len(keys) + 60,
        margin=dict(l=8, r=12, t=26, b=8),
        hovermode="closest",
        uirevision="kept",
        showlegend=False,
    )
    return figure


def _panel_axis(runs: Sequence[RunRecord], key: str, log: bool) -> dict:
    """Few ticks; a constant stands in the middle of an axis from zero, or plotly would show it between ±1."""
    if log:
        return dict(type="log", nticks=4, tickfont=dict(size=10))
    values = np.concatenate([run.column(key) for run in runs])
    values = values[np.isfinite(values)]
    constant = values.size and values.min() == values.max() != 0
    return dict(nticks=4) | (dict(range=sorted([0.0, 2.0 * values[0]])) if constant else {})


def _scalar_trace(run: RunRecord, key: str, name: str, slot: int, main: bool, log: bool) -> go.Scatter:
    return go.Scatter(
        x=run.column("step"),
        y=_gaps(run.column(key), log),
        mode="lines",
        line=dict(width=1.6 if main else 0.9),
        opacity=1.0 if main else 0.5,
        hovertemplate=f"<b>{escaped(name)}</b> %{{y:.3g}}<br>{escaped(run.label)}, step %{{x:,.0f}}<extra></extra>",
        meta=dict(slot=slot),
    )


def _wants_log(runs: Sequence[RunRecord], key: str) -> bool:
    """Positive and spread over more than `DECADES_FOR_LOG` powers of ten."""
    values = np.concatenate([run.column(key) for run in runs])
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size or (values < 0).any():
        return False
    return bool(np.log10(values.max()) - np.log10(values.min()) > DECADES_FOR_LOG)
