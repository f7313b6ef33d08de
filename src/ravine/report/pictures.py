"""Reference, solution and pointwise error of one run, as heat maps or along a line."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from . import theme
from .figures import layout
from .load import Fields
from .wording import number

SIDE = 400  # points a side: finer grids are thinned, they would not be visible
HEIGHT = 270
FLOOR = 1e-4  # an error below this part of the largest one is drawn in the colour of that level


def pictures(fields: Fields) -> list[tuple[str, go.Figure]]:
    """[(caption, figure)] of reference, solution and pointwise error. Heat maps of the first two share one colour
    scale; a field of both signs gets a diverging one centred at zero. Lines of the two share one figure. The error is
    drawn in powers of ten."""
    reference, solution = fields.reference, fields.prediction
    error = np.abs(solution - reference)
    largest = np.nanmax(error) if np.isfinite(error).any() else np.nan
    if len(fields.axes) == 1:
        both = [("reference", reference, theme.INK, "dot"), ("solution", solution, 0, "solid")]
        return [
            ("reference and solution", _lines(fields, both)),
            (f"pointwise error ≤ {number(float(largest))}", _lines(fields, [("error", error, 0, "solid")], log=True)),
        ]
    shades = _shades(reference)
    return [
        ("reference", _heatmap(fields, reference, **shades)),
        ("solution", _heatmap(fields, solution, **shades)),
        (f"pointwise error ≤ {number(float(largest))}", _error_map(fields, error)),
    ]


def _lines(fields: Fields, curves: list[tuple[str, np.ndarray, int | str, str]], log: bool = False) -> go.Figure:
    """Curves (name, values, palette slot, dash); the axis below is logarithmic where it spans more than two decades."""
    x, (label,) = fields.axes[0], fields.labels
    figure = go.Figure()
    for name, values, slot, dash in curves:
        shown = np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)
        figure.add_trace(
            go.Scatter(
                x=x,
                y=shown,
                name=name,
                mode="lines",
                line=dict(width=1.6, dash=dash),
                hovertemplate=f"{name} %{{y:.4g}}<br>{label} %{{x:.3g}}<extra></extra>",
                meta=dict(slot=slot),
            )
        )
    wide = bool(x.min() > 0 and x.max() > 100 * x.min())
    layout(figure, HEIGHT, label, wide, None, log)
    return figure.update_layout(showlegend=len(curves) > 1)


def _shades(reference: np.ndarray) -> dict:
    finite = reference[np.isfinite(reference)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < -0.05 * high and high > -0.05 * low:
        bound = max(-low, high)
        return dict(zmin=-bound, zmax=bound, colorscale="RdBu_r")
    return dict(zmin=low, zmax=high, colorscale="Viridis")


def _error_map(fields: Fields, error: np.ndarray) -> go.Figure:
    seen = error[np.isfinite(error) & (error > 0)]
    if not seen.size:  # exact everywhere, or nowhere finite
        return _heatmap(fields, np.where(np.isfinite(error), 0.0, np.nan), zmin=0.0, zmax=1.0, colorscale="Cividis")
    high = float(np.log10(seen.max()))
    low = max(float(np.log10(seen.min())), high + np.log10(FLOOR))
    with np.errstate(divide="ignore"):
        logs = np.where(np.isfinite(error), np.maximum(np.log10(error), low), np.nan)
    decades = np.arange(np.ceil(low), np.floor(high) + 1)
    if decades.size >= 2:
        decades = decades[:: 1 + (decades.size - 1) // 6]
        ticks = dict(tickvals=decades, ticktext=[f"10<sup>{int(d)}</sup>".replace("-", "−") for d in decades])
    else:
        ticks = dict(tickvals=[low, high], ticktext=[number(10**low), number(10**high)])
    return _heatmap(fields, logs, shown=error, zmin=low, zmax=high, colorscale="Cividis", colorbar=ticks)


def _heatmap(fields: Fields, z: np.ndarray, shown: np.ndarray | None = None, **style) -> go.Figure:
    i, j = (slice(None, None, 1 + (n - 1) // SIDE) for n in z.shape)
    values = (z if shown is None else shown)[i, j].T
    first, second = fields.labels
    figure = go.Figure(
        go.Heatmap(
            x=fields.axes[0][i],
            y=fields.axes[1][j],
            # Single precision: seven digits are more than a colour can show, at half the size.
            z=z[i, j].T.astype(np.float32),
            customdata=None if shown is None else values.astype(np.float32),
            hovertemplate=f"{first} %{{x:.3g}}, {second} %{{y:.3g}}<br>"
            + ("%{z:.4g}" if shown is None else "%{customdata:.2e}")
            + "<extra></extra>",
            **style,
        )
    )
    figure.update_layout(
        template=None,
        height=HEIGHT,
        margin=dict(l=8, r=8, t=8, b=8),
        uirevision="kept",
        xaxis=dict(title=dict(text=first), showgrid=False, zeroline=False, constrain="domain"),
        yaxis=dict(title=dict(text=second), showgrid=False, zeroline=False, constrain="domain"),
    )
    return figure
