"""Batches of a finite sum: how many rows of each term, and which.

    L(θ) = Σ_k Σ_i m_ki φ_k(z_ki)       ≈ Σ_k (n_k/b_k) Σ_{i ∈ B_k} m_ki φ_k(z_ki),   B_k uniform, b_k rows of term k

Draws are stratified: every term gives at least one row, so no batch is without its boundary or its data. The mean over
all draws is L. The variance of the gradient is Σ_k (n_k²/b_k) S_k² with replacement, and (n_k − b_k)/(n_k − 1) times
that, term by term, without, for S_k² the variance of a uniformly drawn m_ki ∇φ_ki.
Reference  Cochran (1977), Sampling Techniques, ch. 2 and 5 (stratified sampling); Bentley & Floyd (1987), Comm. ACM
           30(9) (a subset without a permutation).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .objective import Term
from .types import Params

# A subset is drawn in b² comparisons instead of by a permutation of n where that is less work.
_COMPARISONS_PER_ROW = 16


def batch_sizes(sizes: Mapping[str, int], batch: int) -> dict[str, int]:
    """{term: b_k}: `batch` rows shared out in proportion to n_k, at least one and at most n_k each.

    The sum is `batch` where that can be: at least one row a term, at most all. Raises ValueError for batch < 1.
    """
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise ValueError(f"batch={batch!r}: must be a positive whole number of rows.")
    total = sum(sizes.values())
    batch = min(max(int(batch), len(sizes)), total)
    exact = {name: batch * n / total for name, n in sizes.items()}
    share = {name: max(1, int(b)) for name, b in exact.items()}
    # Largest remainders get what is left; where the floor of one row took too much, the largest shares give it back.
    while (left := batch - sum(share.values())) != 0:
        if left > 0:
            name = max((k for k in share if share[k] < sizes[k]), key=lambda k: (exact[k] - share[k], k))
        else:
            name = max((k for k in share if share[k] > 1), key=lambda k: (share[k] - exact[k], k))
        share[name] += 1 if left > 0 else -1
    return share


def not_as_asked(batch: int, sizes: Mapping[str, int]) -> str | None:
    """What `batch_sizes` makes of a number of rows that cannot be had, for the record of a run; None where it can."""
    rows = sum(sizes.values())
    if batch > rows:
        return f"there are {rows} rows, so a batch has {rows}"
    if batch < len(sizes):
        return f"each of {len(sizes)} terms gives a row, so a batch has {len(sizes)}"
    return None


def draw(
    key: PRNGKeyArray, sizes: Mapping[str, int], batch: int | Mapping[str, int], replace: bool = False
) -> dict[str, Int[Array, " b"]]:
    """{term: (b_k,) row numbers}, uniform over [0, n_k), for `objective.rows`. Pure, jittable, sizes static.

    `batch`: rows in all, shared out by `batch_sizes`, or {term: b_k}. `replace=False`: no row twice in one batch, every
    subset equally likely, but not in every order: for a part of a batch see `draw_part`. Cost b, or min(b², n log n)
    without replacement. Raises ValueError where more rows are wanted than there are, or `batch` names other terms.
    """
    shares = batch if isinstance(batch, Mapping) else batch_sizes(sizes, batch)
    if set(shares) != set(sizes):
        raise ValueError(f"draw: batch must name every term; got {sorted(shares)}, the terms are {sorted(sizes)}.")
    keys = jr.split(key, len(sizes))
    return {name: _rows(k, n, shares[name], replace, name) for k, (name, n) in zip(keys, sizes.items(), strict=True)}


def draw_part(
    key: PRNGKeyArray, rows: Mapping[str, Int[Array, " b"]], batch: int | Mapping[str, int]
) -> dict[str, Int[Array, " c"]]:
    """A uniform part of rows that were drawn, `batch` as in `draw`: {term: (c_k,) row numbers}.

    Not the first ones: the subsets of `draw` are uniform as sets, and the last rows of a term come late in them.
    """
    places = draw(key, {name: index.shape[0] for name, index in rows.items()}, batch)
    return {name: index[places[name]] for name, index in rows.items()}


def term_gradients(objective, name: str, params: Params) -> tuple[Float[Array, " n"], Float[Array, "n P"]]:
    """(m_i φ(z_i), m_i J_iᵀ∇φ(z_i)) of one term, each row's share of the value and of the gradient.

    One reverse sweep of one point, vmapped. Memory n P: give it `objective.rows(idx)` where n is large.
    """
    term = objective.parts[name]
    values, grads = jax.vmap(lambda x: row_gradient(objective, name, params, x))(term.points)
    measure = term.measure(term.n)
    return measure * values, measure[:, None] * grads


def row_gradient(objective, name: str, params: Params, x: Any) -> tuple[Float[Array, ""], Float[Array, " P"]]:
    """(φ(z), Jᵀ∇φ(z)) of one row x of a term, without its mass m: one reverse sweep."""
    term = objective.parts[name]

    def row(p: Params) -> Array:
        return objective.integrand(name, jnp.reshape(term.fn(p, x), (-1,)), x)

    value, grad = jax.value_and_grad(row)(params)
    return value, ravel_pytree(grad)[0]


def row_gradients(objective, params: Params) -> dict[str, tuple[Float[Array, " n"], Float[Array, "n P"]]]:
    """`term_gradients` of every term: the sums over all rows are L and ∇L."""
    return {name: term_gradients(objective, name, params) for name in objective.parts}


def is_affine(term: Term, params: Params) -> bool:
    """Whether the outputs of a row are seen to be affine in θ: no operation of their derivative reads θ.

    Exact where it says yes. It says no for a program that computes with θ and does not use the result in a way that can
    be seen (`jnp.where` on a sign of θ). Nothing is evaluated.
    """
    row = jax.tree.map(lambda a: jnp.asarray(a)[0], term.points)

    def slope(p: Params, v: Params) -> Array:
        return jax.jvp(lambda q: term.fn(q, row), (p,), (v,))[1]

    program = jax.make_jaxpr(slope)(params, params).jaxpr
    _, used = dce_jaxpr(program, [True] * len(program.outvars))
    return not any(used[: len(jax.tree.leaves(params))])


def _rows(key: PRNGKeyArray, n: int, b: int, replace: bool, name: str) -> Int[Array, " b"]:
    if replace or b == 1:
        return jr.randint(key, (b,), 0, n)
    if b > n:
        raise ValueError(f"term {name!r} has {n} rows, {b} different ones cannot be drawn; use replace=True or fewer.")
    if b == n:
        return jnp.arange(n)
    if b * b <= _COMPARISONS_PER_ROW * n:
        return _subset(key, n, b)
    return jr.permutation(key, n)[:b]


def _subset(key: PRNGKeyArray, n: int, b: int) -> Int[Array, " b"]:
    """Floyd's subset: for j = n−b..n−1 take a uniform t ≤ j, or j itself where t has been taken."""
    last = jnp.arange(n - b, n)
    wanted = jr.randint(key, (b,), 0, last + 1)

    def place(i: Any, chosen: Array) -> Array:
        return chosen.at[i].set(jnp.where(jnp.any(chosen == wanted[i]), last[i], wanted[i]))

    return jax.lax.fori_loop(0, b, place, jnp.full(b, -1, last.dtype))
