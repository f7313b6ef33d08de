"""The local model of a least-squares or composite objective at one parameter vector θ.

    r(θ + s) ≈ r + J s,        L = ½‖r‖²,            ∇L = Jᵀr,          curvature  JᵀJ          (LeastSquares)
    z(θ + s) ≈ z + J s,        L = Σ w q φ(z),       ∇L = JᵀW∇φ,        curvature  Jᵀ(W∇²φ)J    (Composite)

Rows are scaled by √(weight·quadrature), terms stacked in sorted order of their names. A row is formed POINTWISE:
one reverse sweep of one point, vmapped over the points. It is never the reverse sweep of the stacked vector, which
would cost N sweeps over all points (measured on 1,020 rows and 129 parameters: 4 ms against 2,000 ms). Terms that
couple points use `jacrev` or `jacfwd` of the whole term, whichever needs fewer sweeps.

Everything is computed on first use and kept, so what a method does not call is not traced. A `Linearization` lives
inside one trace: it is not a pytree and is never state, and what an inner loop uses (`grad`, `gram()`, `jacobian()`,
`residual`) must have been asked for before the loop begins.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .linalg.symmetric import gram, outer_gram, psd_factor
from .objective import LeastSquares, Term
from .types import Counts, Params, Structure, counts

# J is kept whole up to this many bytes, beyond it Gram and kernel are accumulated over chunks of rows.
WHOLE_BYTES = 1 << 30
CHUNK_BYTES = 1 << 27


class Dims(NamedTuple):
    """Rows N (all outputs of all terms) and parameters P."""

    rows: int
    params: int


def dims(objective, params: Params) -> Dims:
    """(N, P) from shapes alone; nothing is computed."""
    outputs = [jax.eval_shape(term.outputs, params) for term in objective.parts.values()]
    size = sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(params))
    return Dims(sum(math.prod(z.shape) for z in outputs), size)


def more_sweeps(objective, params: Params) -> int:
    """Row evaluations that forming J takes beyond three a row, from shapes alone.

    A point with k rows takes k pull-backs, 1 + 2k evaluations of itself; a coupled term takes as many of all its points
    as it has rows, or as there are parameters, if these are fewer.
    """
    extra, size = 0, dims(objective, params).params
    for term in objective.parts.values():
        rows = math.prod(jax.eval_shape(term.outputs, params).shape)
        pulls = min(rows, size) if term.coupled else rows // term.n
        extra += 2 * (pulls - 1) * rows
    return extra


def dense_footprint(n: int, p: int, dual: bool = False) -> int:
    """Numbers held by a dense Gauss-Newton step: J or one chunk of it, the Gram or kernel matrix and two factors."""
    return min(n * p, WHOLE_BYTES // 8) + 3 * (n * n if dual else p * p)


def curvature_is_semidefinite(objective, params: Params) -> str | None:
    """None if every ∇²φ_k is positive semidefinite at the points for these parameters, else a sentence saying where.

    Host side, once before a run: convexity of φ in z is what makes Jᵀ(W∇²φ)J a usable curvature.
    """
    if Structure.RESIDUAL in objective.structure:
        return None
    local = Linearization(objective, params)
    for name in objective.parts:
        blocks = np.asarray(local.outer(name))
        if not np.all(np.isfinite(blocks)):  # says nothing of φ: the run ends with a status that says where
            continue
        eigenvalues = np.linalg.eigvalsh(blocks)
        lowest, largest = float(eigenvalues.min()), float(np.abs(eigenvalues).max())
        if lowest < -1e-10 * max(largest, np.finfo(float).tiny):
            row = int(np.argmin(eigenvalues.min(axis=-1)))
            return (
                f"outer[{name!r}] is not convex in z: its second derivative has the eigenvalue {lowest:.3g} at "
                f"row {row} (largest {largest:.3g}), so no Gauss-Newton curvature exists; make phi convex in z, or "
                f"give the whole energy as Scalar to a method that needs only VALUE, such as LBFGS or SSBroyden."
            )
    return None


class Linearization:
    """First- and second-order information of `objective` at `params`, flat: θ is (P,), rows are (N,).

    `whole_bytes`: largest J (bytes) that is kept in one piece. Raises TypeError for an objective without COMPOSITE.
    """

    def __init__(self, objective, params: Params, *, whole_bytes: int = WHOLE_BYTES):
        if Structure.COMPOSITE not in objective.structure:
            raise TypeError(f"linearize: {type(objective).__name__} has no rows; give a LeastSquares or a Composite.")
        self.objective = objective
        self.params = params
        self.theta, self.unravel = ravel_pytree(params)
        self.has_residual = isinstance(objective, LeastSquares)
        self.dims = dims(objective, params)
        row = max(1, self.dims.params) * self.theta.dtype.itemsize
        self.whole = self.dims.rows * row <= whole_bytes
        self.chunk = max(1, min(CHUNK_BYTES, whole_bytes) // row)

    # -- values ------------------------------------------------------------------------------------------------

    def _terms(self):
        return self.objective.parts.items()

    @cached_property
    def _z(self) -> dict[str, Float[Array, "m c"]]:
        return {name: term.outputs(self.params) for name, term in self._terms()}

    def _root(self, name: str) -> Float[Array, " m"]:
        return jnp.sqrt(self.objective.parts[name].measure(self._z[name].shape[0]))

    def _stack(self, z: dict[str, Float[Array, "m c"]]) -> Float[Array, " N"]:
        """Scaled rows of all terms in one vector."""
        return jnp.concatenate([(self._root(name)[:, None] * z[name]).reshape(-1) for name, _ in self._terms()])

    @cached_property
    def residual(self) -> Float[Array, " N"]:
        """√(weight·quadrature) r, so that L = ½‖residual‖². LeastSquares only."""
        if not self.has_residual:
            kind = type(self.objective).__name__
            raise TypeError(f"{kind} has no residual rows, only outputs z and an outer function; use `outputs`.")
        return self._stack(self._z)

    @cached_property
    def outputs(self) -> Float[Array, " N"]:
        """z of all terms, stacked and not scaled."""
        return jnp.concatenate([z.reshape(-1) for z in self._z.values()])

    @cached_property
    def value(self) -> Float[Array, ""]:
        """L(θ)."""
        if self.has_residual:
            return 0.5 * jnp.vdot(self.residual, self.residual)
        return sum((self.objective.contribution(k, z) for k, z in self._z.items()), start=jnp.zeros(()))

    @cached_property
    def grad(self) -> Float[Array, " P"]:
        """∇L(θ): Jᵀr where J has been formed, else one reverse sweep."""
        if self.has_residual and "_jacobian" in self.__dict__:
            return self.residual @ self._jacobian
        return ravel_pytree(jax.grad(self.objective.value)(self.params))[0]

    def work(self, *, kernel: bool = False, passes: Any = 1) -> Counts:
        """Counts of a gradient and of J, beyond the value. `kernel`: it is for `kernel()`, which above the cap sends
        each row forward through all points. `passes`: how often J is formed where it is above the cap.

        The gradient is a product where J is whole and holds the residual's rows.
        """
        passes = 1 if self.whole else passes
        return counts(
            jvp=self.dims.rows if kernel and not self.whole else 0,
            vjp=0 if self.has_residual and self.whole else 1,
            rows=passes * self.dims.rows,
            batch=passes * more_sweeps(self.objective, self.params),
        )

    # -- products with J ---------------------------------------------------------------------------------------

    def rows_at(self, theta: Float[Array, " P"]) -> Float[Array, " N"]:
        """`residual` (or `outputs`) at other parameters."""
        params = self.unravel(theta)
        z = {name: term.outputs(params) for name, term in self._terms()}
        return self._stack(z) if self.has_residual else jnp.concatenate([v.reshape(-1) for v in z.values()])

    def jvp(self, v: Float[Array, " P"]) -> Float[Array, " N"]:
        """J v (of `residual`, or of `outputs`): a matrix-vector product where J has been formed, else one forward
        sweep."""
        if self.has_residual and "_jacobian" in self.__dict__:
            return self._jacobian @ v
        return jax.jvp(self.rows_at, (self.theta,), (v,))[1]

    def vjp(self, w: Float[Array, " N"]) -> Float[Array, " P"]:
        """Jᵀ w (of `residual`, or of `outputs`): one reverse sweep."""
        return jax.vjp(self.rows_at, self.theta)[1](w)[0]

    def curve(self, v: Float[Array, " P"]) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        """(J v, r''[v, v]): first and second derivative of t ↦ rows(θ + t v) at 0, in one nested forward sweep."""

        def first(theta):
            return jax.jvp(self.rows_at, (theta,), (v,))[1]

        return jax.jvp(first, (self.theta,), (v,))

    def second(self, v: Float[Array, " P"]) -> Float[Array, " N"]:
        """r''[v, v] of the scaled rows: nested forward mode."""
        return self.curve(v)[1]

    def rows_times(self, v: Float[Array, " P"]) -> Float[Array, " N"]:
        """Q^{1/2}J v: a matrix-vector product where J has been formed, else one forward sweep."""
        return self._jacobian @ v if "_jacobian" in self.__dict__ else self.weigh(self.jvp(v))

    def weigh(self, change: Float[Array, " N"]) -> Float[Array, " N"]:
        """Q^{1/2} times a change of `rows_at`: itself for LeastSquares, whose rows are scaled already."""
        if self.has_residual:
            return change
        at, out = 0, []
        for seeds in self._seeds.values():
            m, _, c = seeds.shape
            out.append(jnp.einsum("mkc,mc->mk", seeds, change[at : at + m * c].reshape(m, c)).reshape(-1))
            at += m * c
        return jnp.concatenate(out)

    def rows_transposed(self, w: Float[Array, " N"]) -> Float[Array, " P"]:
        """JᵀQ^{1/2} w: a matrix-vector product where J has been formed, else one reverse sweep."""
        if "_jacobian" in self.__dict__:
            return w @ self._jacobian
        if self.has_residual:
            return self.vjp(w)
        at, out = 0, []
        for seeds in self._seeds.values():
            m, k, _ = seeds.shape
            out.append(jnp.einsum("mkc,mk->mc", seeds, w[at : at + m * k].reshape(m, k)).reshape(-1))
            at += m * k
        return self.vjp(jnp.concatenate(out))

    # -- curvature ---------------------------------------------------------------------------------------------

    def outer(self, name: str) -> Float[Array, "m c c"]:
        """W∇²φ of one term, one block per point (measure × identity for LeastSquares)."""
        term, z = self.objective.parts[name], self._z[name]
        if self.has_residual:
            hess = jnp.broadcast_to(jnp.eye(z.shape[1], dtype=z.dtype), (*z.shape, z.shape[1]))
        else:
            xs = None if term.coupled else term.points
            hess = jax.vmap(jax.hessian(lambda zi, xi: self.objective.integrand(name, zi, xi)))(z, xs)
        return term.measure(z.shape[0])[:, None, None] * hess

    @cached_property
    def _seeds(self) -> dict[str, Float[Array, "m k c"]]:
        """Cotangents whose pull-backs are the rows of Q^{1/2}J: Lᵀ for Q = LLᵀ, block by block."""
        if self.has_residual:
            return {
                name: self._root(name)[:, None, None] * jnp.eye(z.shape[1], dtype=z.dtype)
                for name, z in self._z.items()
            }
        return {name: jnp.swapaxes(psd_factor(self.outer(name)), 1, 2) for name in self._z}

    @cached_property
    def _jacobian(self) -> Float[Array, "N P"]:
        return jnp.concatenate([_rows(t, self.params, t.points, self._seeds[name]) for name, t in self._terms()])

    def jacobian(self) -> Float[Array, "N P"]:
        """Q^{1/2}J whole: for LeastSquares the scaled rows √(weight·quadrature) ∂r/∂θ. Memory 8NP bytes."""
        return self._jacobian

    def fold(self, function, carry):
        """Fold `function(carry, rows)` over blocks of rows of Q^{1/2}J: one block if J is whole, else chunks.

        Chunks of a term have a fixed number of rows; the last one is padded with zero rows.
        """
        if self.whole:
            return function(carry, self._jacobian)
        for name, term in self._terms():
            blocks = self._blocks(name)
            if blocks is None:
                carry = function(carry, _rows(term, self.params, term.points, self._seeds[name]))
                continue

            def body(carry, block, term=term):
                return function(carry, _rows(term, self.params, *block)), None

            carry = jax.lax.scan(body, carry, blocks)[0]
        return carry

    @cached_property
    def _gram(self) -> Float[Array, "P P"]:
        if self.whole:
            return gram(self._jacobian)
        p = self.dims.params
        return self.fold(lambda total, rows: total + gram(rows), jnp.zeros((p, p), self.theta.dtype))

    def gram(self) -> Float[Array, "P P"]:
        """JᵀQJ. Cost N P² flops on a CPU; memory P² and one block of rows."""
        return self._gram

    @cached_property
    def column_squares(self) -> Float[Array, " P"]:
        """diag(JᵀQJ): squared lengths of the columns of Q^{1/2}J."""
        if "_gram" in self.__dict__:
            return jnp.diagonal(self._gram)
        zero = jnp.zeros_like(self.theta)
        return self.fold(lambda total, rows: total + jnp.sum(rows * rows, axis=0), zero)

    def kernel(self, scale: Float[Array, " P"] | None = None) -> Float[Array, "N N"]:
        """Q^{1/2} J diag(scale) Jᵀ Q^{1/2} (scale 1 if None). Cost N² P flops; memory N² and J, or one block of J:
        above the cap each row is multiplied by J in one forward sweep, which costs the same order of flops."""
        if self.whole:
            rows = self._jacobian
            return outer_gram(rows if scale is None else rows * jnp.sqrt(scale))

        def products(rows):
            return jax.lax.map(self.rows_times, rows if scale is None else rows * scale, batch_size=8)

        return jnp.concatenate([self._map_rows(name, products) for name, _ in self._terms()])

    def _map_rows(self, name: str, function):
        """`function(rows)` of one term's rows of Q^{1/2}J, chunk by chunk, its outputs stacked."""
        term, seeds = self.objective.parts[name], self._seeds[name]
        m, k = seeds.shape[:2]
        blocks = self._blocks(name)
        if blocks is None:
            return function(_rows(term, self.params, term.points, seeds))
        out = jax.lax.map(lambda block: function(_rows(term, self.params, *block)), blocks)
        return out.reshape(-1, *out.shape[2:])[: m * k]

    def _blocks(self, name: str):
        """Points and seeds of one term cut into chunks of equal size, or None if the term is one chunk."""
        term, seeds = self.objective.parts[name], self._seeds[name]
        size = max(1, self.chunk // seeds.shape[1])
        if term.coupled or seeds.shape[0] <= size:
            return None
        points = jax.tree.map(lambda a: _blocked(jnp.asarray(a), size, a[:1]), term.points)
        return points, _blocked(seeds, size, jnp.zeros_like(seeds[:1]))


def _rows(term: Term, params: Params, points, seeds: Float[Array, "m k c"]) -> Float[Array, "mk P"]:
    """The pulled-back seeds as rows, flat in the order of `ravel_pytree`."""
    if term.coupled:
        return _coupled_rows(term, params, seeds)
    single = seeds.shape[1] == 1

    def one(x, s):
        pull = jax.vjp(lambda p: jnp.reshape(term.fn(p, x), (-1,)), params)[1]
        return pull(s[0])[0] if single else jax.vmap(lambda e: pull(e)[0])(s)

    m = seeds.shape[0] * seeds.shape[1]
    leaves = jax.tree.leaves(jax.vmap(one)(points, seeds))
    return jnp.concatenate([leaf.reshape(m, -1) for leaf in leaves], axis=1)


def _coupled_rows(term: Term, params: Params, seeds: Float[Array, "m k c"]) -> Float[Array, "mk P"]:
    theta, unravel = ravel_pytree(params)
    m, k, c = seeds.shape
    jac = (jax.jacrev if m * c <= theta.size else jax.jacfwd)(lambda t: term.outputs(unravel(t)))(theta)
    return jnp.einsum("mkc,mcp->mkp", seeds, jac).reshape(m * k, theta.size)


def _blocked(a: Array, size: int, fill: Array) -> Array:
    """(n, ...) as (blocks, size, ...), the last block filled up with the row `fill` (1, ...)."""
    blocks = -(-a.shape[0] // size)
    padding = jnp.broadcast_to(fill, (blocks * size - a.shape[0], *a.shape[1:]))
    return jnp.concatenate([a, padding]).reshape(blocks, size, *a.shape[1:])
