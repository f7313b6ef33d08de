"""Run: what `minimize` and `solve` return."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..records import FORMAT, dumps, write_rows, write_text
from ..types import Params
from .fingerprint import plain
from .precision import cast, precision

STATUSES = ("reached_target", "converged", "stalled", "diverged", "budget", "interrupted", "failed")


@dataclasses.dataclass
class Run:
    """The result of a run, whatever happened in it.

    params       the parameters the run stands by, in the structure they were given
    status       reached_target, converged, stalled, diverged, budget, interrupted or failed
    reason       a sentence with the numbers behind the status;  suggestion: one next move
    rows         the record: row k describes the parameters entering step k, the last row the returned ones
    compile_seconds, seconds, cpu_seconds, wall_seconds
                 compilation before step 1; steady wall and CPU seconds; total wall seconds
    """

    params: Params
    status: str
    reason: str
    suggestion: str
    rows: list[dict[str, Any]]
    steps: int
    seconds: float
    cpu_seconds: float
    wall_seconds: float
    compile_seconds: float
    provenance: dict[str, Any]
    summary: dict[str, Any]  # the remaining entries of run.json
    fields: dict[str, Any] | None = None

    @property
    def final(self) -> dict[str, Any]:
        """The closing row: loss, grad_norm, terms.* and metrics.* of the returned parameters."""
        return self.rows[-1] if self.rows else {}

    @property
    def dtype(self) -> str:
        return self.provenance["dtype"]

    def evaluate(self, fn, x: Any) -> np.ndarray:
        """fn(params, row) over all rows of x, in the run's own precision; NumPy out.

        Outside a precision scope JAX would round the float64 parameters to float32 without a word.
        """
        with precision(self.dtype):
            return np.asarray(jax.jit(jax.vmap(lambda row: fn(self.params, row)))(cast(x, self.dtype)))

    def describe(self) -> dict[str, Any]:
        """run.json."""
        keep = {
            k: v for k, v in self.final.items() if k in ("loss", "grad_norm") or k.startswith(("terms.", "metrics."))
        }
        return {
            "format": FORMAT,
            "ravine": self.provenance["ravine"],
            **self.summary,
            "status": self.status,
            "reason": self.reason,
            "suggestion": self.suggestion,
            "steps": self.steps,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "compile_seconds": self.compile_seconds,
            "wall_seconds": self.wall_seconds,
            "final": keep,
            "provenance": self.provenance,
        }

    def save(self, folder: str | Path) -> Path:
        """Write run.json, rows.jsonl, params.npz (and fields.npz where a problem gave a picture) into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(folder / "rows.jsonl", self.rows)
        flat, _ = jax.tree_util.tree_flatten_with_path(self.params)
        arrays: dict[str, Any] = {jax.tree_util.keystr(p): plain(x) for p, x in flat if hasattr(x, "dtype")}
        np.savez(folder / "params.npz", **arrays)
        if self.fields is not None:
            np.savez_compressed(folder / "fields.npz", **self.fields)
        write_text(folder / "run.json", dumps(self.describe(), indent=1))
        return folder

    def __repr__(self) -> str:
        loss = self.final.get("loss")
        shown = "" if loss is None else f", loss={loss:.3g}"
        return f"Run({self.status}{shown}, steps={self.steps}, seconds={self.seconds:.3g}): {self.reason}"
