"""The sampler contract: between two steps, look at fresh points, and move the training points if that helps.

A sampler acts on the host at its own cadence; the batch is frozen for the whole of every step. It is a pure
function of (seed, step), so that a resumed run draws the same points. The statistic

    q_k = mean |r_k|² on a fresh pool / mean |r_k|² on the training points

is 1 to 2 where the points resolve the residual, and orders of magnitude larger for a spurious solution: a network
that fits the training points and not the equation. The training loss alone shows nothing of it.
"""

from __future__ import annotations

import abc
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..objective import LeastSquares, Term
from ..problem import Points
from ..static import join, split
from ..types import Params

Source = Callable[..., dict[str, Any]]  # (seed, sizes) -> {term name: Points(x, quadrature), or the array x}


class Pool(NamedTuple):
    """Fresh points of one term with their squared residuals, and the mean square on the training points.

    A point at which the residual is not finite (a singularity that the training points avoid), or that the source
    calls unresolvable, counts for nothing: its square is NaN.
    """

    points: Any
    squares: np.ndarray
    training: float

    @property
    def mean(self) -> float:
        finite = self.squares[np.isfinite(self.squares)]
        return float(np.mean(finite)) if finite.size else float("inf")

    @property
    def q(self) -> float:
        return self.mean / max(self.training, np.finfo(float).tiny)


class Look(NamedTuple):
    """What one act of a sampler did."""

    objective: Any
    state: dict[str, np.ndarray]
    changed: bool = False
    q: float | None = None  # the largest over the terms
    pool_loss: float | None = None  # ½ Σ_k w_k mean |r_k|² on the pool
    sweeps: float = 0.0  # residual evaluations spent, in sweeps over all training points
    note: str | None = None


class Sampler(eqx.Module):
    """Abstract. `every` counts steps between two acts; None: as often as the method can afford."""

    every: eqx.AbstractVar[int | None]

    batching: ClassVar[bool] = False  # gives every step a batch of the points there are, and needs no fresh ones

    @abc.abstractmethod
    def act(self, objective, params: Params, state: dict, source: Any, seed: int, step: int) -> Look:
        """Look, and move points if that helps. `state` is a flat dict of NumPy scalars or arrays."""

    def start(self, objective) -> dict[str, np.ndarray]:
        """The state before the first act."""
        return {}

    def batches(self, objective, state: dict, seed: int) -> Any:
        """What draws a step's rows inside the compiled loop, `draw(objective, key, k)`; None: all rows, always."""
        return None

    def period(self, method) -> int | None:
        """Steps between two acts for this method; None: never."""
        return self.every if self.every is not None else method.guard_every

    def draws(self, objective, source: Source) -> list[str]:
        """The terms whose points this sampler asks the source for."""
        return movable(objective, source)

    def check(self, objective) -> str | None:
        """Why this sampler cannot serve the objective, as a sentence; None if it can."""
        return None

    def remark(self, objective) -> str | None:
        """What the record should say of this sampler on this objective from the start, as a sentence; None: nothing."""
        return None


def check_every(sampler: Sampler) -> None:
    every = sampler.every
    if every is not None and (not isinstance(every, int) or every < 1):
        raise ValueError(f"{type(sampler).__name__}(every={every!r}): must be a positive number of steps.")


def needs_residual(sampler: Sampler, objective) -> str | None:
    if isinstance(objective, LeastSquares):
        return None
    return (
        f"{type(sampler).__name__} needs residual rows (LeastSquares); {type(objective).__name__} has none; "
        "use Fixed, or Fresh where there are named terms."
    )


def rng(seed: int, step: int, name: str) -> np.random.Generator:
    """The generator of (seed, step, name): the same on every machine and after every resume."""
    return np.random.default_rng([seed, step, zlib.crc32(name.encode())])


def movable(objective, source: Source) -> list[str]:
    """Terms whose points may be redrawn: uncoupled, without quadrature weights, not measurements."""
    kept = getattr(source, "measured", frozenset())
    return [k for k, t in objective.parts.items() if k not in kept and not t.coupled and t.quadrature is None]


def draw_pool(objective, params: Params, name: str, count: int, source: Source, seed: int, step: int) -> Pool:
    """`count` fresh points of term `name` from the source, with residuals at `params`."""
    term = objective.parts[name]
    draw = int(rng(seed, step, name).integers(2**31))
    points = drawn(source, draw, {name: count}, objective)[name].x
    own = squares(term, params)[resolvable(source, name, term.points)]
    training = float(np.mean(own)) if own.size else float("nan")
    found = squares(term.with_points(points), params)
    return Pool(points, np.where(resolvable(source, name, points), found, np.nan), training)


def resolvable(source: Source, name: str, points: Any) -> np.ndarray:
    """Which rows a smooth field can satisfy, where the source knows (`Problem.resolvable`); else all."""
    known = getattr(source, "resolvable", None)
    return np.ones(len(jax.tree.leaves(points)[0]), bool) if known is None else known(name, points)


def drawn(source: Source, seed: int, sizes: Mapping[str, int], objective) -> dict[str, Points]:
    """The source's points of the terms in `sizes`: as many rows as asked, each like a row of the term's own points.

    Anything else would compile the run anew on its clock, or change what is minimised. Raises TypeError or ValueError
    (one sentence) naming the term that is missing or differs.
    """
    found = source(seed, dict(sizes))
    if not isinstance(found, Mapping):
        raise TypeError(f"draw(seed, sizes) must return a dictionary {{term: points}}; got a {type(found).__name__}.")
    out = {}
    for name, count in sizes.items():
        if name not in found:
            raise ValueError(f"draw(seed, sizes) gave no points for term {name!r}; it gave {sorted(found)}.")
        rows, term = found[name], objective.parts[name]
        x, weights = rows if isinstance(rows, Points) else Points(rows)
        out[name] = Points(_like_rows(name, count, x, term.points), _like_weights(name, weights, term.quadrature))
    return out


def _like_rows(name: str, count: int, fresh: Any, own: Any) -> Any:
    """`fresh` in the types of the term's own points. Raises ValueError where containers, shapes or kinds differ."""
    want = jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *a.shape[1:]), a.dtype), own)
    arrays = [np.asarray(a) for a in jax.tree.leaves(fresh)]
    fits = jax.tree.structure(fresh) == jax.tree.structure(want) and all(
        a.shape == w.shape and np.can_cast(a.dtype, w.dtype, "same_kind")
        for a, w in zip(arrays, jax.tree.leaves(want), strict=True)
    )
    if not fits:
        raise ValueError(f"draw(seed, sizes) gave term {name!r} {_form(fresh)}; it needs {_form(want)}.")
    return jax.tree.map(lambda a, w: np.asarray(a, w.dtype), fresh, want)


def _like_weights(name: str, fresh: Any, own: Any) -> Any:
    got = "no quadrature weights" if fresh is None else f"quadrature weights of shape {np.shape(fresh)}"
    want = "none" if own is None else f"Points(x, quadrature) with weights of shape {np.shape(own)}"
    if (fresh is None) != (own is None) or np.shape(fresh) != np.shape(own):
        raise ValueError(f"draw(seed, sizes) gave term {name!r} {got}; it needs {want}.")
    return fresh


def _form(tree: Any) -> str:
    """`an array (24, 1) of float64`, or the container and its first arrays."""
    leaves = [a if hasattr(a, "dtype") else np.asarray(a) for a in jax.tree.leaves(tree)]
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(tree)):
        return f"an array {leaves[0].shape} of {leaves[0].dtype}"
    shown = ", ".join(f"{a.shape} of {a.dtype}" for a in leaves[:3]) + (", ..." if len(leaves) > 3 else "")
    return f"a {type(tree).__name__} of {len(leaves)} arrays: {shown}"


def pick(weights: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` different indices, drawn with probability proportional to `weights`; zeros and non-finite ones last."""
    finite = np.where(np.isfinite(weights), weights, 0.0)
    total = finite.sum()
    p = finite / total if 0 < total < np.inf else np.full(len(finite), 1 / len(finite))
    p = np.maximum(p, 1e-100)
    return generator.choice(len(p), count, replace=False, p=p / p.sum())


@partial(jax.jit, static_argnums=0)
def _squares(frozen, arrays: list) -> jax.Array:
    term, params = join(frozen, arrays)
    return jnp.sum(term.outputs(params) ** 2, axis=1)


def squares(term: Term, params: Params) -> np.ndarray:
    """|r|² of every row, unweighted; compiled once per term and number of rows."""
    bare = Term(term.fn, term.points, 1.0, None, term.coupled)
    frozen, arrays = split((bare, params))
    return np.asarray(_squares(frozen, [jnp.asarray(a) for a in arrays]))


def pool_size(n: int, factor: int) -> int:
    """The power of two at or above factor · n: Sobol nets are balanced at powers of two, and sizes repeat."""
    return int(2 ** np.ceil(np.log2(factor * n)))


def sweeps(objective, pools: Mapping[str, int]) -> float:
    """What a look costs at the points of some terms and at so many pool points of each, in sweeps over all points."""
    parts = objective.parts
    return sum(parts[name].n + size for name, size in pools.items()) / sum(term.n for term in parts.values())


def exchange(points: Any, out: np.ndarray, new: Any) -> Any:
    """`points` with the rows `out` replaced by the rows of `new`."""

    def one(old, fresh):
        kept = np.array(old)
        kept[out] = fresh
        return kept

    return jax.tree.map(one, points, new)


def choose(points: Any, index: np.ndarray) -> Any:
    return jax.tree.map(lambda a: np.asarray(a)[index], points)


def scalar_weight(term: Term) -> float:
    return float(np.mean(np.asarray(term.weight)))
