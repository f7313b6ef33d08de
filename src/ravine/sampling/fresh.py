"""Fresh points every k steps: a new draw of every movable term from the problem's own design.

Each draw is of as many rows as the term has, with new quadrature weights where it has some, from (seed, step) alone;
measured rows stay. In expectation over draws a method minimises the integral that one set of points only approximates.

Needs      TERMS.
Cost/act   one call of the source on the host; the state of the method is refreshed on the new points.
Memory     the points once more.
Reference  Wu, Zhu, Tan, Kartha & Lu (2023), CMAME 403, 115671, arXiv:2207.10289 (its Random-R).
"""

from __future__ import annotations

import jax
import numpy as np

from ..types import Structure
from .base import Look, Sampler, check_every, drawn


class Fresh(Sampler):
    """All points (and their quadrature weights) redrawn every `every` steps.

    Raises ValueError unless `every` is a positive integer.
    """

    every: int | None = 100

    def __check_init__(self):
        check_every(self)

    def check(self, objective) -> str | None:
        if Structure.TERMS in objective.structure:
            return None
        return f"Fresh needs named terms (LeastSquares, Composite); {type(objective).__name__} has none; use Fixed."

    def draws(self, objective, source) -> list[str]:
        kept = getattr(source, "measured", frozenset())
        return [name for name in objective.parts if name not in kept]

    def act(self, objective, params, state, source, seed, step) -> Look:
        sizes = {name: objective.parts[name].n for name in self.draws(objective, source)}
        found = drawn(source, int(np.random.default_rng([seed, step]).integers(2**31)), sizes, objective)
        parts, same = {}, []
        for name in sizes:
            term, fresh = objective.parts[name], found[name]
            pairs = zip(jax.tree.leaves(fresh.x), jax.tree.leaves(term.points), strict=True)
            if all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs):
                same.append(name)
            parts[name] = term.with_points(fresh.x, fresh.quadrature)
        note = f"the fresh points of {', '.join(same)} are identical to the old ones (a fixed design)" if same else None
        changed = len(same) < len(parts)
        return Look(objective.replace(**parts) if changed else objective, state, changed=changed, note=note)
