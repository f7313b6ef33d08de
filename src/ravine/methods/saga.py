"""SAGA: every row remembers its last gradient, and the sum of what is remembered corrects each batch.

    v = Σ_k (n_k/b_k) Σ_{i ∈ B_k} (∇f_i(θ) − g_i) + Σ_i g_i,      g_i ← ∇f_i(θ) for i ∈ B,      θ⁺ = θ − αv

f_i = w q φ(z_i) is the share of row i. E v = ∇L(θ), the noise vanishes at the minimiser, and no step looks at all rows
after the first. For N rows and L = mean of terms convex, l-smooth and μ-strongly convex, α = 1/(2(μN + l)), b = 1:

    E|θ_k − θ*|² ≤ (1 − μ/(2(μN + l)))^k [|θ₀ − θ*|² + N/(μN + l) (L(θ₀) − ⟨∇L(θ*), θ₀ − θ*⟩ − L*)]   (Corollary 1)

What is stored: ∇f_i = w q J_iᵀ∇φ(z_i). "gradients": the P numbers of each row. "scalars": the c numbers ∇φ(z_i) of each
row; J_i is formed at θ, so this is right only where J_i does not depend on θ, that is, z is affine in θ (linear
regression, logistic regression). "auto" reads off the program of each derivative whether θ enters it, and takes scalars
where it does not; a program that hides it is taken for nonlinear.

Needs      FINITE_SUM.
Cost/step  one gradient over b rows (3 b); all rows once, in `init`, counted with the first step. Without a given α ten
           Hessian-vector products over all rows (60 N) there, and one over b rows (6 b) in every tenth step.
Memory     N c + N ("scalars") or n P + n ("gradients"), and 3 P.
Deviations (1) batches are stratified by term and drawn without replacement, so no row is stored twice in a step;
           (2) the table starts from the gradients at θ₀; (3) no proximal step; (4) row values are stored too, to
           estimate L; (5) by default α is a share of the inverse of the largest curvature met (`curvature_rate`).
Reference  Defazio, Bach & Lacoste-Julien (2014), NeurIPS 27, arXiv:1407.0202; Schmidt, Le Roux & Bach (2017), Math.
           Program. 162 (storing scalars).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import require_choice, require_count
from ..finite_sum import batch_sizes, draw, is_affine, term_gradients
from ..linearization import dims
from ..method import Method
from ..types import Info, Params, Status, Step, Structure, batch_work, counts
from .curvature_rate import PRODUCTS, at_start, looked, rate, require_rate

STORAGE = ("auto", "scalars", "gradients")


class SAGAState(NamedTuple):
    table: dict[str, Float[Array, "n w"]]  # w = c ("scalars": ∇φ) or P ("gradients": ∇f)
    values: dict[str, Float[Array, " n"]]  # f_i where the table was written
    grad: Float[Array, " P"]  # Σ g_i
    value: Float[Array, ""]  # Σ of the stored f_i
    unpaid: Int[Array, ""]  # 1 where all rows were looked at and nobody counted it
    steps: Int[Array, ""]
    smoothness: Float[Array, ""]  # ℓ, 0 where the step length is given


class SAGA(Method):
    """SAGA: batch gradients corrected by a table of the last gradient of every row.

    `learning_rate`: α, None for `share`/ℓ with the largest curvature ℓ met so far. `batch`: b, rows of one step in all
    terms. `storage`: "auto", "scalars" or "gradients". Raises ValueError or TypeError for options out of range, and at
    the start for "scalars" on a term not affine in θ.
    """

    learning_rate: float | None = None
    share: float = 0.2
    batch: int = eqx.field(static=True, default=8)
    storage: str = eqx.field(static=True, default="auto")

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_rate(self)
        require_count(self, "batch", 1)
        require_choice(self, "storage", STORAGE)

    def footprint(self, n: int, p: int) -> int:
        """The table of gradients, unless scalars were asked for: that a model is affine is seen only at the start."""
        return 8 * p + (2 * n if self.storage == "scalars" else n * (p + 1))

    def init(self, objective, params, *, key):
        scalars = {name: self._stores_scalars(name, term, params) for name, term in objective.parts.items()}
        grads, values, table = {}, {}, {}
        for name, whole in scalars.items():
            grads[name], values[name], table[name] = _look(objective, name, params, whole, None)
        grad = jnp.sum(jnp.stack(list(grads.values())), axis=0)
        value = jnp.sum(jnp.stack([jnp.sum(v) for v in values.values()]))
        one = jnp.ones((), jnp.int32)
        smoothness = jnp.zeros((), grad.dtype)
        if self.learning_rate is None:
            smoothness = at_start(objective, params, ravel_pytree(params)[0], key)
        return SAGAState(table, values, grad, value, one, 0 * one, smoothness)

    def refresh(self, objective, params, state):
        return self.init(objective, params, key=None)

    def _stores_scalars(self, name: str, term, params: Params) -> bool:
        if self.storage == "gradients":
            return False
        affine = is_affine(term, params)
        if self.storage == "scalars" and not affine:
            raise ValueError(
                f"SAGA: storage='scalars' needs outputs affine in the parameters, and those of the term {name!r} are "
                "not (or cannot be seen to be); use storage='gradients' or 'auto'."
            )
        return affine

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        sizes, shares = objective.sizes, batch_sizes(objective.sizes, self.batch)
        idx = draw(key, sizes, shares)
        batch = objective.rows(idx)
        value, v, value_all, grad_all = state.value, state.grad, state.value, state.grad
        table, values = {}, {}
        for name, rows in idx.items():
            # What the width of the table says was decided in `init`.
            scalars = self.storage != "gradients" and is_affine(objective.parts[name], params)
            old, old_values = state.table[name][rows], state.values[name][rows]
            part = shares[name] / sizes[name]
            found, f, new = _look(batch, name, params, scalars, old, 1 / part)
            f, new = part * f, new if scalars else part * new
            change = jnp.sum(f - old_values)
            value, v = value + change / part, v + found
            value_all, grad_all = value_all + change, grad_all + part * found
            # Added, not set: what is written then waits for what is read, and nothing copies the tables.
            table[name] = state.table[name].at[rows].add(new - old)
            values[name] = state.values[name].at[rows].add(f - old_values)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(v))
        if self.learning_rate is None:
            smoothness, looks = looked(batch, params, v, state.smoothness, state.steps)
            length = rate(self.share, smoothness, v)
        else:
            smoothness, looks, length = state.smoothness, 0, self.learning_rate
        move = jnp.where(finite, -length * v, 0.0)
        info = Info(
            value=value,
            grad_norm=jnp.linalg.norm(v),
            step_norm=jnp.linalg.norm(move),
            status=jnp.where(finite, Status.OK, Status.NONFINITE).astype(jnp.int32),
            counts=counts(
                residual=state.unpaid,
                vjp=state.unpaid,
                hvp=PRODUCTS * state.unpaid if self.learning_rate is None else 0,
                batch=batch_work(dims(batch, params).rows, value=1, vjp=1, hvp=looks),
            ),
            scalars={"step_size": jnp.asarray(length, theta.dtype)},
        )
        paid = jnp.zeros_like(state.unpaid)
        after = SAGAState(table, values, grad_all, value_all, paid, state.steps + 1, smoothness)
        return Step(unravel(theta + move), after, info)


def _look(
    objective, name: str, params: Params, scalars: bool, old: Array | None, scale: float = 1.0
) -> tuple[Array, Array, Array]:
    """(Σ of the rows' gradients less scale times what `old` says of them, their shares of the value, new entries)."""
    if not scalars:
        f, grads = term_gradients(objective, name, params)
        total = jnp.sum(grads, axis=0)
        return (total if old is None else total - scale * jnp.sum(old, axis=0)), f, grads
    term = objective.parts[name]
    z, pull = jax.vjp(lambda p: term.outputs(p), params)
    phi, slope = jax.vmap(jax.value_and_grad(lambda zi, xi: objective.integrand(name, zi, xi)))(z, term.points)
    measure = term.measure(term.n)
    change = slope if old is None else slope - old
    return ravel_pytree(pull(measure[:, None] * change)[0])[0], measure * phi, slope
