"""Numbers, units and names as a reader sees them, the same on the page and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable

DASH = "–"  # a value that was not computed

# The closed set of run statuses: (words, kind, sign). The kind picks the colour; the sign says the same
# without colour.
STATUSES = {
    "reached_target": ("reached target", "good", "✓"),
    "converged": ("converged", "good", "✓"),
    "budget": ("budget spent", "plain", "■"),
    "running": ("running", "plain", "…"),
    "stalled": ("stalled", "warn", "!"),
    "interrupted": ("interrupted", "warn", "!"),
    "diverged": ("diverged", "bad", "×"),
    "failed": ("failed", "bad", "×"),
    "not_installed": ("not installed", "plain", "○"),
    "missing": ("missing", "bad", "×"),
    "unreadable": ("unreadable", "bad", "×"),
}

METRICS = {"l2": "relative L² error", "h1": "relative H¹ error", "linf": "relative L∞ error"}


def status_words(status: str) -> tuple[str, str, str]:
    """(words, kind, sign) of a run status; an unknown one is shown as it stands."""
    return STATUSES.get(status, (status.replace("_", " "), "plain", "?"))


def metric_words(metric: str | None) -> str:
    """`l2` as "relative L² error"; a metric without an entry keeps its name; no metric means the loss."""
    return "loss" if metric is None else METRICS.get(metric, metric)


def number(value: float | None) -> str:
    """Two digits where only the magnitude matters (1.3e-11), three between 0.01 and 10,000 (0.0123, 12.4)."""
    if value is None:
        return DASH
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    sign, size = ("−" if value < 0 else ""), abs(value)
    if 0.01 <= size < 10_000:
        rounded = float(f"{size:.3g}")  # 0.9999 is 1.00, not 1.000
        digits = max(0, 2 - math.floor(math.log10(rounded)))
        return f"{sign}{size:.{digits}f}"
    mantissa, exponent = f"{size:.1e}".split("e")
    return f"{sign}{mantissa}e{int(exponent)}"


def integer(value: float | None) -> str:
    """12,000"""
    return DASH if value is None else f"{int(value):,}"


def seconds(value: float | None) -> str:
    """12.4 s, 312 s, 0.085 s: always seconds, so that a column can be compared."""
    if value is None or not math.isfinite(value):
        return DASH
    if value >= 99.95:
        return f"{value:,.0f} s"
    if value >= 9.995:
        return f"{value:.1f} s"
    return f"{value:.2f} s" if value >= 0.0995 else f"{value:.3f} s"


def listing(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    names = list(items)
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(count: int, noun: str) -> str:
    """1 run, 3 runs"""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
