"""What a run is told before it starts, and why it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..plans import Plan
from ..sampling.base import Sampler, Source
from .budget import Budget
from .observe import Observer
from .target import Target


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything about a run that is not the state of the run."""

    plan: Plan
    observer: Observer
    target: Target
    budget: Budget
    sampler: Sampler | None
    source: Source | None
    seed: int
    dtype: str
    every: int | None
    rows_total: int | None  # N, None for a scalar objective
    fingerprint: str
    rows_path: Path | None
    checkpoint: Path | None
    callbacks: tuple[Callable, ...]
    progress: Callable | None


@dataclasses.dataclass(frozen=True)
class End:
    """Why the loop ended: a cause the verdict turns into a status and a sentence, and the numbers behind it."""

    cause: str
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
