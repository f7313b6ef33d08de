"""Objectives: what is minimised, as an immutable pytree that declares its structure.

    LeastSquares   L(θ) = ½ Σ_k Σ_i w_k q_ki |r_k(θ; x_i)|²
    Composite      L(θ) =   Σ_k Σ_i w_k q_ki φ_k(z_k(θ; x_i), x_i),   φ_k convex in z
    Scalar         L(θ) = f(θ, batch)

A residual is written for ONE point; it is vmapped here, so a Jacobian row is one reverse sweep of one point.
Points, weights and quadrature are leaves: resampling and reweighting never recompile. NumPy arrays are kept as
they are until a run starts, so that float64 points built outside any precision scope stay float64.

Where no term is coupled the two sums are finite sums over rows that can be drawn (FINITE_SUM): `rows(idx)` is the same
objective on b_k of the n_k rows of every term, each row's w q times n_k/b_k, so that its mean over uniform draws is L.
A coupled term is one function of all its points: kept whole it would make every batch cost a full evaluation, so an
objective with one does not offer FINITE_SUM.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .types import Params, Structure


def _as_leaf(x: Any) -> Any:
    """An array leaf of unchanged precision: JAX arrays and NumPy arrays stay, numbers and lists become NumPy."""
    return x if isinstance(x, (jax.Array, np.ndarray)) else np.asarray(x)


def _rows(points: Any) -> int:
    leaves = jax.tree.leaves(points)
    if not leaves:
        raise ValueError("Term: points has no array; give an array (n, d) or a pytree of arrays with n rows each.")
    sizes = {np.shape(leaf)[0] if np.ndim(leaf) else -1 for leaf in leaves}
    if len(sizes) != 1 or -1 in sizes:
        shapes = [np.shape(leaf) for leaf in leaves]
        hint = "; a list is a container of arrays: write np.array(...)" if set(shapes) == {()} else ""
        raise ValueError(f"Term: all leaves of points need the same number of rows n first; got shapes {shapes}{hint}.")
    n = sizes.pop()
    if n == 0:
        raise ValueError("Term: points has no rows; a term needs at least one point.")
    return n


class Term(eqx.Module):
    """One named part of an objective: a residual (or a convex integrand's argument) and its points.

    `fn(params, x)` returns () or (c,) for one row x of `points` (any pytree row; usually (d,)).
    `coupled=True`: `fn(params, points)` returns (m,) or (m, c) for residuals that mix points (integrals, weak forms).
    `weight`: scalar or (n,), nonnegative. `quadrature`: (n,) nonnegative (length m when coupled), default 1/n each.
    Raises TypeError unless `fn` is callable, and ValueError for empty or ragged points, negative or infinite weights,
    or lengths that do not match (of a coupled term only when a run starts, for m is known then).
    """

    fn: Callable
    points: Any
    weight: Any
    quadrature: Any
    coupled: bool = eqx.field(static=True)

    def __init__(self, fn: Callable, points: Any, weight: Any = 1.0, quadrature: Any = None, coupled: bool = False):
        if not callable(fn):
            raise TypeError(f"Term: fn must be callable as fn(params, x); got {type(fn).__name__}.")
        self.fn = fn
        self.points = jax.tree.map(_as_leaf, points)
        self.weight = _as_leaf(weight)
        self.quadrature = None if quadrature is None else _as_leaf(quadrature)
        self.coupled = coupled
        self._check(_rows(self.points))

    def _check(self, n: int) -> None:
        for name in ("weight", "quadrature"):
            value = getattr(self, name)
            if value is None or isinstance(value, Tracer):
                continue
            if not np.issubdtype(value.dtype, np.number) or np.issubdtype(value.dtype, np.complexfloating):
                raise ValueError(f"Term: {name} must be real numbers; got dtype {value.dtype}.")
            known = np.asarray(value)
            if not bool(np.all(np.isfinite(known) & (known >= 0))):
                span = f"{known.min():g} to {known.max():g}" if known.size > 1 else f"{known.item():g}"
                raise ValueError(f"Term: {name} must be nonnegative and finite, for it scales squares; got {span}.")
            allowed = ((), (n,)) if name == "weight" else ((n,),)
            if not self.coupled and np.shape(value) not in allowed:
                want = "a scalar or " if name == "weight" else ""
                raise ValueError(f"Term: {name} must be {want}of shape ({n},), one per row; got {np.shape(value)}.")

    @property
    def n(self) -> int:
        """Number of rows of `points`."""
        return _rows(self.points)

    def outputs(self, params: Params) -> Float[Array, "m c"]:
        """All residual (or z) values, one row per point."""
        out = self.fn(params, self.points) if self.coupled else jax.vmap(lambda x: self.fn(params, x))(self.points)
        return out[:, None] if out.ndim == 1 else out

    def measure(self, m: int) -> Float[Array, " m"]:
        """weight × quadrature, one per output row."""
        q = 1.0 / m if self.quadrature is None else self.quadrature
        return jnp.broadcast_to(jnp.asarray(self.weight * q), (m,))

    def take(self, index: Any) -> Term:
        """The term on b of its n rows, w q scaled by n/b: the mean over uniform draws of `index` is the whole term.

        `index`: (b,) integers, possibly traced, repeats allowed. Raises ValueError for concrete ones outside [0, n).
        """
        index, n = _index(index, self.n), self.n

        def pick(a):
            return a[index] if isinstance(a, np.ndarray) and isinstance(index, np.ndarray) else jnp.asarray(a)[index]

        quadrature = None if self.quadrature is None else pick(self.quadrature) * (n / index.shape[0])
        weight = pick(self.weight) if np.ndim(self.weight) else self.weight
        return Term(self.fn, jax.tree.map(pick, self.points), weight, quadrature, self.coupled)

    def with_points(self, points: Any, quadrature: Any = None) -> Term:
        """The same term on other points (same shapes: nothing recompiles)."""
        return Term(self.fn, points, self.weight, quadrature, self.coupled)


def _index(index: Any, n: int) -> Any:
    """Row numbers as an array; the concrete ones are checked, traced ones cannot be."""
    index = index if isinstance(index, (jax.Array, np.ndarray)) else np.asarray(index)
    if index.ndim != 1 or not index.size or not np.issubdtype(index.dtype, np.integer):
        raise ValueError(
            f"rows: idx must hold (b,) row numbers per term, b at least 1; got {index.dtype} of shape {index.shape}."
        )
    if not isinstance(index, Tracer) and not bool(np.all((np.asarray(index) >= 0) & (np.asarray(index) < n))):
        raise ValueError(f"rows: row numbers must lie in [0, {n}); got {index.min()} to {index.max()}.")
    return index


class Objective(eqx.Module):
    """Abstract scalar function of a parameter pytree, with declared structure."""

    @property
    def structure(self) -> Structure:
        """What this objective offers."""
        return Structure.VALUE

    @abc.abstractmethod
    def value(self, params: Params) -> Float[Array, ""]:
        """L(θ)."""

    @abc.abstractmethod
    def pull(self, lift: Callable[[Params], Params]) -> Objective:
        """The objective composed with `lift`: p ↦ L(lift(p)). All structure is kept."""

    def value_and_grad(self, params: Params) -> tuple[Float[Array, ""], Params]:
        """L(θ) and ∇L(θ) as a tree like `params`: one reverse sweep (3 in `records.WORK`)."""
        return eqx.filter_value_and_grad(lambda p: self.value(p))(params)

    def hvp(self, params: Params, v: Params) -> Params:
        """∇²L(θ) v as a tree like `params`, forward over reverse: the work of two gradients (6 in `records.WORK`)."""
        return jax.jvp(jax.grad(self.value), (params,), (v,))[1]

    def terms(self, params: Params) -> dict[str, Float[Array, ""]]:
        """The named contributions to the value; {} where there are none."""
        return {}


class _Pulled(eqx.Module):
    """fn ∘ lift for a term's function."""

    fn: Callable
    lift: Callable

    def __call__(self, params: Params, x: Any) -> Array:
        return self.fn(self.lift(params), x)


class _Terms(Objective):
    """Shared by LeastSquares and Composite: a sum over named terms, kept sorted by name as jit sorts them."""

    parts: eqx.AbstractVar[dict[str, Term]]
    offers: ClassVar[Structure] = Structure.VALUE | Structure.TERMS | Structure.COMPOSITE

    @property
    def structure(self) -> Structure:
        coupled = any(term.coupled for term in self.parts.values())
        return self.offers if coupled else self.offers | Structure.FINITE_SUM

    @property
    def sizes(self) -> dict[str, int]:
        """{term name: n_k}, the rows that `rows` draws from."""
        return {name: term.n for name, term in self.parts.items()}

    def rows(self, idx: Mapping[str, Any]) -> _Terms:
        """The same objective on the rows idx = {name: (b_k,) integers} of every term, w q scaled by n_k/b_k.

        E over uniform idx, with or without replacement, is L, in value, gradient and curvature. Sizes are static,
        indices may be traced (`finite_sum.draw`). Raises ValueError where a term is missing, unknown or coupled.
        """
        if set(idx) != set(self.parts):
            raise ValueError(f"rows: idx must name every term; got {sorted(idx)}, the terms are {sorted(self.parts)}.")
        coupled = sorted(name for name, term in self.parts.items() if term.coupled)
        if coupled:
            raise ValueError(f"rows: the coupled terms {coupled} have no rows to draw; they see all points at once.")
        return eqx.tree_at(lambda o: o.parts, self, {name: term.take(idx[name]) for name, term in self.parts.items()})

    @abc.abstractmethod
    def integrand(self, name: str, z: Float[Array, " c"], x: Any) -> Float[Array, ""]:
        """φ_name(z, x) for one point."""

    def contribution(self, name: str, z: Float[Array, "m c"]) -> Float[Array, ""]:
        """Σ_i w q_i φ(z_i, x_i) of one term, given its outputs."""
        term = self.parts[name]
        xs = None if term.coupled else term.points
        phi = jax.vmap(lambda zi, xi: self.integrand(name, zi, xi))(z, xs)
        return jnp.sum(term.measure(z.shape[0]) * phi)

    def terms(self, params: Params) -> dict[str, Float[Array, ""]]:
        return {name: self.contribution(name, term.outputs(params)) for name, term in self.parts.items()}

    def value(self, params: Params) -> Float[Array, ""]:
        return sum(self.terms(params).values(), start=jnp.zeros(()))

    def linearize(self, params: Params):
        """The local linear model at θ: residual or outputs, Jacobian, Gram, kernel (see `linearization`)."""
        from .linearization import Linearization

        return Linearization(self, params)

    def replace(self, **parts: Term) -> _Terms:
        """The same objective with some terms exchanged, by name. Raises ValueError for a name that no term has."""
        unknown = set(parts) - set(self.parts)
        if unknown:
            raise ValueError(f"replace: there is no term {sorted(unknown)}; the terms are {sorted(self.parts)}.")
        return eqx.tree_at(lambda o: o.parts, self, {**self.parts, **parts})

    def pull(self, lift: Callable[[Params], Params]) -> _Terms:
        parts = {k: eqx.tree_at(lambda t: t.fn, t, _Pulled(t.fn, lift)) for k, t in self.parts.items()}
        return eqx.tree_at(lambda o: o.parts, self, parts)


def _named(kind: str, terms: Any) -> dict[str, Term]:
    if isinstance(terms, Term):
        terms = {"residual": terms}
    if not isinstance(terms, Mapping) or not terms:
        raise TypeError(f"{kind}: give a dictionary of named terms, e.g. {kind}({{'pde': Term(fn, points)}}).")
    for name, term in terms.items():
        if not isinstance(name, str):
            raise TypeError(f"{kind}: the name of a term must be text; got {name!r}.")
        if not isinstance(term, Term):
            raise TypeError(f"{kind}: terms[{name!r}] must be a Term(fn, points); got {type(term).__name__}.")
    return dict(sorted(terms.items()))


class LeastSquares(_Terms):
    """L(θ) = ½ Σ_k Σ_i w_k q_ki |r_k(θ; x_i)|² over named terms.

    With q = 1/n this is half the weighted sum of mean squares. Provides RESIDUAL (rows r with L = ½‖r‖²).
    Raises TypeError unless given a non-empty dictionary of Terms (or a single Term).
    """

    parts: dict[str, Term]
    offers: ClassVar[Structure] = _Terms.offers | Structure.RESIDUAL

    def __init__(self, terms: Mapping[str, Term] | Term):
        self.parts = _named("LeastSquares", terms)

    def integrand(self, name: str, z: Float[Array, " c"], x: Any) -> Float[Array, ""]:
        return 0.5 * jnp.sum(z * z)

    def contribution(self, name: str, z: Float[Array, "m c"]) -> Float[Array, ""]:
        return 0.5 * jnp.sum(self.parts[name].measure(z.shape[0]) * jnp.sum(z * z, axis=1))


class Composite(_Terms):
    """L(θ) = Σ_k Σ_i w_k q_ki φ_k(z_k(θ; x_i), x_i) with φ_k(z, x) convex in z: Deep Ritz, logistic loss.

    `outer` maps a term's name to φ(z, x) -> scalar, z of shape (c,); a term without an entry uses ½|z|².
    Provides COMPOSITE: gradient Jᵀ W ∇φ and Gauss-Newton matrix Jᵀ Q J with Q = W ∇²φ, which must be positive
    semidefinite; this is checked when a run starts. Raises ValueError for an `outer` without a term.
    """

    parts: dict[str, Term]
    outer: dict[str, Callable]

    def __init__(self, terms: Mapping[str, Term] | Term, outer: Mapping[str, Callable] | Callable):
        self.parts = _named("Composite", terms)
        if callable(outer) and len(self.parts) == 1:
            outer = {next(iter(self.parts)): outer}
        if not isinstance(outer, Mapping):
            raise TypeError(f"Composite: outer must be a dictionary {{term: phi(z, x)}}; got {type(outer).__name__}.")
        unknown = sorted(set(outer) - set(self.parts))
        if unknown:
            raise ValueError(f"Composite: outer names {unknown}, but the terms are {sorted(self.parts)}.")
        self.outer = dict(sorted(outer.items()))

    def integrand(self, name: str, z: Float[Array, " c"], x: Any) -> Float[Array, ""]:
        phi = self.outer.get(name)
        return 0.5 * jnp.sum(z * z) if phi is None else jnp.reshape(phi(z, x), ())


def _wants_batch(fn: Callable) -> bool:
    """Whether a scalar objective takes (params, batch) rather than (params)."""
    try:
        inspect.signature(fn).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # no signature to read (a C function): the documented form
        return True
    return True


class Scalar(Objective):
    """L(θ) = fn(params, batch): anything that is neither a sum of squares nor a convex composite.

    `fn(params)` with one argument is accepted too. `batch` is any pytree of arrays, kept as leaves.
    """

    fn: Callable
    batch: Any

    def __init__(self, fn: Callable, batch: Any = None):
        if not callable(fn):
            raise TypeError(f"Scalar: fn must be callable as fn(params, batch); got {type(fn).__name__}.")
        self.fn = fn if _wants_batch(fn) else _NoBatch(fn)
        self.batch = jax.tree.map(_as_leaf, batch)

    def value(self, params: Params) -> Float[Array, ""]:
        return jnp.reshape(self.fn(params, self.batch), ())

    def pull(self, lift: Callable[[Params], Params]) -> Scalar:
        return eqx.tree_at(lambda o: o.fn, self, _Pulled(self.fn, lift))


class _NoBatch(eqx.Module):
    fn: Callable

    def __call__(self, params: Params, batch: Any) -> Array:
        return self.fn(params)
