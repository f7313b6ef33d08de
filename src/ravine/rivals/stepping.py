"""Rivals in JAX that are stepped by hand: one compiled loop of their steps, as runs of our own have it.

The loop takes a traced number of steps and stops where the iterate is not finite; called with no step it compiles
before the clock starts. So a rival pays for its steps and not for Python between them.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..types import Counts, counts
from .rival import Rival
from .track import Track
from .view import View


class Solver(NamedTuple):
    """init(θ, data) -> state; step(θ, state, data) -> (θ, state).

    Where the work is known: `work(old, new)` -> Counts of one step, `initial` the counts of `init` by name.
    """

    init: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    work: Callable[[Any, Any], Counts] | None = None
    initial: Mapping[str, int] = MappingProxyType({})


class Stepped(Rival):
    """A rival that is a `Solver`; `phases` are run one after the other, each but the last for its number of steps."""

    @abc.abstractmethod
    def solver(self, view: View) -> Solver:
        """The solver, importing its library."""

    def phases(self, view: View) -> list[tuple[Solver, int | None]]:
        return [(self.solver(view), None)]

    def run(self, view: View, track: Track) -> str:
        loops = [(Loop(solver, view, self.counted), n) for solver, n in self.phases(view)]
        track.begin()
        total = dict.fromkeys(Counts._fields, 0)
        for stage, (loop, n) in enumerate(loops):
            last = None if n is None else track.k + n
            state = loop.begin(track.theta)
            total = {name: total[name] + loop.initial.get(name, 0) for name in total}
            while last is None or track.k < last:
                ahead = track.ahead() if last is None else min(track.ahead(), last - track.k)
                theta, state, taken, first, spent = loop.advance(track.theta, state, ahead)
                if spent is not None:
                    total = {name: total[name] + int(getattr(spent, name)) for name in total}
                if last is not None and track.k + int(taken) >= last:
                    track.stage = stage + 1  # the row at this step belongs to the phase that steps on from it
                track.visit(theta, int(taken), float(first), total if self.counted else None)
        return "all of its phases are done"


class Loop:
    """One solver, compiled. Raises whatever the library raises while it is traced."""

    def __init__(self, solver: Solver, view: View, counted: bool):
        self.data, self.initial, self._solver = view.data, solver.initial, solver
        self._begin = eqx.filter_jit(lambda theta, data: _strong(solver.init(theta, data)))
        arrays, self._static = eqx.partition(self._begin(view.start, self.data), eqx.is_array)
        self._advance = jax.jit(self._loop(counted))
        jax.block_until_ready(self._advance(view.start, arrays, self.data, np.int32(0))[0])

    def begin(self, theta: Any) -> Any:
        return eqx.filter(self._begin(theta, self.data), eqx.is_array)

    def advance(self, theta: Any, state: Any, steps: int) -> tuple:
        """(θ, state, steps taken, length of the first, Counts or None), after at most `steps` steps."""
        return jax.block_until_ready(self._advance(theta, state, self.data, np.int32(steps)))

    def _loop(self, counted: bool) -> Callable:
        solver, static = self._solver, self._static

        def advance(theta, state, data, steps):
            def body(carry):
                i, old, arrays, first, total = carry
                before = eqx.combine(arrays, static)
                new, after = solver.step(old, before, data)
                after = _strong(after)
                first = jnp.where(i == 0, jnp.linalg.norm(new - old), first)
                if counted:
                    assert solver.work is not None
                    total = jax.tree.map(jnp.add, total, solver.work(before, after))
                # Counters that a step promotes go back to the type the state began with.
                kept = jax.tree.map(lambda a, b: b.astype(a.dtype), arrays, eqx.filter(after, eqx.is_array))
                return i + 1, new.astype(old.dtype), kept, first, total

            def goes(carry):
                return (carry[0] < steps) & jnp.all(jnp.isfinite(carry[1]))

            zero = jnp.zeros((), theta.dtype)
            start = (jnp.zeros((), jnp.int32), theta, state, zero, counts() if counted else None)
            i, theta, state, first, total = jax.lax.while_loop(goes, body, start)
            return theta, state, i, first, total

        return advance


def _strong(tree: Any) -> Any:
    """Arrays without JAX's weak types, so that the state of step one has the types of the state of step two."""

    def one(x):
        return jax.lax.convert_element_type(x, x.dtype) if eqx.is_array(x) else x

    return jax.tree.map(one, jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, (int, float, bool)) else x, tree))
