"""Figures as one block of text inside a page: columns of numbers once each, in binary, and the whole compressed.

A block is base64 of gzip of the JSON {"figures": {key: figure}, "columns": [column]}. Where a figure had an array it
has {"column": index}; equal arrays share a column, such as the clock of a run in the figures of its error and its loss.
A column is {"type": "f4" or "f8", "shape": [...], "data": base64 of little-endian numbers}.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from typing import Any

import numpy as np

SHORT = 12  # numbers up to which a list is written as it is
_TINY = float(np.finfo(np.float32).tiny)
_HUGE = float(np.finfo(np.float32).max)


class Store:
    """The figures of one block, by key."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.figures: dict[str, Any] = {}
        self.columns: list[dict[str, Any]] = []
        self._known: dict[bytes, int] = {}

    def keep(self, figure: dict[str, Any] | None, label: str) -> dict[str, Any] | None:
        """Add a figure; what the template needs of it. None stays None."""
        if figure is None:
            return None
        key = f"{self.prefix}-{len(self.figures)}"
        self.figures[key] = self._encoded(figure) | {"name": label}
        return {"key": key, "label": label, "height": figure["layout"]["height"]}

    def text(self) -> str:
        """The block. The time of writing is not in it: equal runs give equal pages."""
        return packed({"figures": self.figures, "columns": self.columns})

    def _encoded(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {str(k): self._encoded(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._encoded(v) for v in value]
        if isinstance(value, np.ndarray):
            return self._column(value)
        if isinstance(value, np.generic):
            return self._encoded(value.item())
        return None if isinstance(value, float) and not np.isfinite(value) else value

    def _column(self, values: np.ndarray) -> Any:
        if values.ndim == 1 and values.size <= SHORT:
            return self._encoded(values.tolist())
        stored = narrow(values)
        name = hashlib.sha256(f"{stored.dtype}{stored.shape}".encode() + stored.tobytes()).digest()
        if name not in self._known:
            self._known[name] = len(self.columns)
            data = base64.b64encode(stored.tobytes()).decode("ascii")
            self.columns.append({"type": stored.dtype.str[1:], "shape": list(stored.shape), "data": data})
        return {"column": self._known[name]}


def narrow(values: np.ndarray) -> np.ndarray:
    """In single precision, seven digits, unless a value is out of its range or a whole number that it would change."""
    values = np.ascontiguousarray(values, dtype="<f8")
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    if size.size and (size.min() < _TINY or size.max() > _HUGE):
        return values
    short = values.astype("<f4")
    if size.size and size.max() > 2**24 and (np.mod(size, 1) == 0).all() and (short != values).any():
        return values
    return short


def packed(value: Any) -> str:
    """base64 of gzip of JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8"), compresslevel=6, mtime=0)).decode("ascii")


def unpacked(text: str) -> Any:
    """The inverse of `packed`."""
    return json.loads(gzip.decompress(base64.b64decode(text)))
