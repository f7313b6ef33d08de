"""Colours and plotly templates of the two schemes, light and dark.

Colours are chosen to stay apart for the three kinds of colour blindness (the first five at a distance of at
least 20 in CIELAB after simulation) and to keep a contrast of 3:1 to the page; dashes carry the same information.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

COLOURED = 12  # methods that have a colour at a time; the lines of further ones are grey until those are hidden
INK = "ink"  # the slot of a line drawn in the colour of the text
# Eight, as there are colours, so that 64 methods differ in one or the other.
DASHES = (
    "solid",
    "9px,4px",
    "2px,3px",
    "9px,3px,2px,3px",
    "15px,5px",
    "4px,6px",
    "15px,3px,2px,3px,2px,3px",
    "5px,2px",
)

PAGE = {"light": "#fdfdfb", "dark": "#14171b"}
TEXT = {"light": "#1c2126", "dark": "#e4e7ea"}
MUTED = {"light": "#5b646d", "dark": "#9aa4ae"}
GRID = {"light": "#e3e5e6", "dark": "#2b3138"}
PALETTE = {
    "light": ["#0d3c73", "#a8441f", "#0e9c70", "#d93ab0", "#a98506", "#6a1fb5", "#59636d", "#5c4632"],
    "dark": ["#4f9df5", "#e0855a", "#a5e6d8", "#e74b98", "#f2dc5c", "#b49cff", "#b9c2cc", "#ffffff"],
}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def dash(slot: int) -> str:
    return DASHES[(slot + slot // len(DASHES)) % len(DASHES)]


def dash_lengths(slot: int) -> str:
    """The same for the list of methods."""
    return dash(slot).replace("px,", " ").replace("px", "").replace("solid", "none")


def template(scheme: str) -> go.layout.Template:
    """Axes, fonts and hover boxes of one scheme; figures themselves carry no colours but palette slots."""
    axis = dict(
        gridcolor=GRID[scheme],
        linecolor=MUTED[scheme],
        zerolinecolor=GRID[scheme],
        tickcolor=MUTED[scheme],
        tickfont=dict(color=MUTED[scheme]),
        showline=True,
        ticks="outside",
        ticklen=4,
        automargin=True,
        exponentformat="power",
        title=dict(standoff=8, font=dict(size=12)),
    )
    clear = "rgba(0,0,0,0)"
    bar = dict(outlinewidth=0, thickness=10, tickfont=dict(size=11, color=MUTED[scheme]), exponentformat="power")
    layout = dict(
        font=dict(family=FONT, size=12, color=TEXT[scheme]),
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        colorway=PALETTE[scheme],
        xaxis=axis,
        yaxis=axis,
        legend=dict(bgcolor=clear, font=dict(size=12)),
        hoverlabel=dict(
            bgcolor=PAGE[scheme],
            bordercolor=MUTED[scheme],
            font=dict(family=FONT, size=12, color=TEXT[scheme]),
            align="left",
        ),
        modebar=dict(bgcolor=clear, color=MUTED[scheme], activecolor=TEXT[scheme]),
    )
    return go.layout.Template(layout=layout, data=dict(heatmap=[dict(colorbar=bar)]))


def schemes() -> dict[str, dict[str, Any]]:
    """What the page's script needs to redraw figures when the reader's scheme changes."""
    return {
        name: {
            "template": template(name).to_plotly_json(),
            "palette": PALETTE[name],
            INK: TEXT[name],
            "muted": MUTED[name],
        }
        for name in ("light", "dark")
    }
