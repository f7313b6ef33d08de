"""Reference, solution and pointwise error of one run, as heat maps or along a line: plotly figures in dictionaries."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import theme
from .figures import axis, escaped, layout
from .load import Fields
from .wording import number

HEIGHT = 270
FLOOR = 1e-4  # an error below this part of the largest one is drawn in the colour of that level


def pictures(fields: Fields, side: int) -> list[tuple[str, dict[str, Any]]]:
    """[(caption, figure)] of reference, solution and pointwise error. Heat maps of the first two share one colour
    scale; a field of both signs gets a diverging one centred at zero. Lines of the two share one figure. The error is
    drawn in powers of ten. Grids of more than `side` points a side are thinned evenly."""
    reference, solution = fields.reference, fields.prediction
    error = np.abs(solution - reference)
    largest = np.nanmax(error) if np.isfinite(error).any() else np.nan
    if len(fields.axes) == 1:
        both = [("reference", reference, theme.INK, "dot"), ("solution", solution, 0, "solid")]
        below = _along(fields, [("error", error, 0, "solid")], log=True)
        return [
            ("reference and solution", _along(fields, both)),
            (f"pointwise error ≤ {number(float(largest))}", below),
        ]
    shades = _shades(reference)
    return [
        ("reference", _heatmap(fields, side, reference, **shades)),
        ("solution", _heatmap(fields, side, solution, **shades)),
        (f"pointwise error ≤ {number(float(largest))}", _error_map(fields, side, error)),
    ]


def _along(fields: Fields, curves: list[tuple[str, np.ndarray, int | str, str]], log: bool = False) -> dict[str, Any]:
    """Curves (name, values, palette slot, dash); the axis below is logarithmic where it spans more than two decades."""
    x, label = fields.axes[0], escaped(fields.labels[0])
    ys = [np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan) for _, values, _, _ in curves]
    traces = [
        dict(
            type="scatter",
            x=x,
            y=y,
            name=name,
            mode="lines",
            line=dict(width=1.6, dash=dash),
            hovertemplate=f"{name} %{{y:.4g}}<br>{label} %{{x:.3g}}<extra></extra>",
            meta=dict(slot=slot),
        )
        for y, (name, _, slot, dash) in zip(ys, curves, strict=True)
    ]
    wide = bool(x.min() > 0 and x.max() > 100 * x.min())
    axes = axis(label, wide, [x]), axis(None, log, ys)
    return {"data": traces, "layout": layout(HEIGHT, *axes, showlegend=len(curves) > 1)}


def _shades(reference: np.ndarray) -> dict:
    finite = reference[np.isfinite(reference)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < -0.05 * high and high > -0.05 * low:
        bound = max(-low, high)
        return dict(zmin=-bound, zmax=bound, colorscale="RdBu_r")
    return dict(zmin=low, zmax=high, colorscale="Viridis")


def _error_map(fields: Fields, side: int, error: np.ndarray) -> dict[str, Any]:
    seen = error[np.isfinite(error) & (error > 0)]
    if not seen.size:  # exact everywhere, or nowhere finite
        flat = np.where(np.isfinite(error), 0.0, np.nan)
        return _heatmap(fields, side, flat, zmin=0.0, zmax=1.0, colorscale="Cividis")
    high = float(np.log10(seen.max()))
    low = max(float(np.log10(seen.min())), high + np.log10(FLOOR))
    with np.errstate(divide="ignore"):
        logs = np.where(np.isfinite(error), np.maximum(np.log10(error), low), np.nan)
    decades = np.arange(np.ceil(low), np.floor(high) + 1)
    if decades.size >= 2:
        decades = decades[:: 1 + (decades.size - 1) // 6]
        ticks = dict(tickvals=decades.tolist(), ticktext=[f"10<sup>{int(d)}</sup>".replace("-", "−") for d in decades])
    else:
        ticks = dict(tickvals=[low, high], ticktext=[number(10**low), number(10**high)])
    return _heatmap(fields, side, logs, shown=error, zmin=low, zmax=high, colorscale="Cividis", colorbar=ticks)


def _heatmap(fields: Fields, side: int, z: np.ndarray, shown: np.ndarray | None = None, **style) -> dict[str, Any]:
    i, j = (slice(None, None, 1 + (n - 1) // side) for n in z.shape)
    first, second = fields.labels
    value = "%{z:.4g}" if shown is None else "%{customdata:.2e}"
    trace = dict(
        type="heatmap",
        x=fields.axes[0][i],
        y=fields.axes[1][j],
        z=z[i, j].T,
        hovertemplate=f"{escaped(first)} %{{x:.3g}}, {escaped(second)} %{{y:.3g}}<br>{value}<extra></extra>",
        **style,
    )
    if shown is not None:
        trace["customdata"] = shown[i, j].T
    axes = [
        dict(title=dict(text=escaped(t)), showgrid=False, zeroline=False, constrain="domain") for t in fields.labels
    ]
    margin = dict(l=8, r=8, t=8, b=8)
    return {"data": [trace], "layout": dict(height=HEIGHT, margin=margin, xaxis=axes[0], yaxis=axes[1])}
