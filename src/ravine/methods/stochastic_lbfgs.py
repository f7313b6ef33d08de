"""Stochastic L-BFGS: the inverse Hessian from pairs that noise does not spoil, and steps without a search.

    θ⁺ = θ − α H ∇F_S(θ),     S a sample of the rows, new in every step;  H as in `lbfgs`, from the last m pairs (s, y)

    overlap   S = O₋ ∪ fresh rows, of which the next sample keeps a part O.  s = θ⁺ − θ,
              y = ∇F_O(θ⁺) − ∇F_O(θ): a difference of gradients on the SAME rows
    sqn       s = w − w₋, w the mean of the iterates since the last pair,  y = ∇²F_T(w) s, T a sample of its own

A difference of gradients on two samples would be their noise divided by a short step. Either remedy makes y = As with A
symmetric, the (mean) Hessian of a sample, but A need not be definite, so pairs are always damped (Powell):

    y ← κy + (1 − κ)Bs,   κ the largest in [0, 1] with sᵀy ≥ 0.2 sᵀBs,       B = H⁻¹ by the compact form

How it stays sound on changing samples: no two values of the objective are compared anywhere. α is fixed, so on rows
that do not agree the iterates end in a neighbourhood of the minimum whose size is in proportion to α and to 1/`batch`.
A pair from few rows can be short by orders of magnitude in directions those rows do not see. So with overlap a step is
taken back (REJECTED) where it leaves |∇F_O| more than `GROSS` times as large, on the rows that make the pair anyway;
the pair is kept, and with it the curvature that was missing.

Needs      FINITE_SUM.
Cost/step  a gradient on `batch` rows and, where a pair is due, two on `pair_batch` rows (overlap) or a Hessian-vector
           product on them (sqn: as much). 10 m P and, for a pair, 2 m² P flops.
Memory     2 m P + 6 P.
Deviations (1) damping with the whole B, where the papers skip pairs or scale the identity; (2) until there is a pair a
           step is at most `first_step` long; (3) overlap: where S is all rows, O is drawn from them; (4) a gradient
           that is not finite moves nothing (NONFINITE), and a pair that is not finite is left out; (5) steps that are
           taken back: without them 2 s at the defaults diverge on poisson5d and burgers1d, and with them on no
           problem that was tried; sqn has no such look, and wants its α chosen.
Reference  Berahas, Nocedal & Takáč (2016), NeurIPS, arXiv:1605.06049 (overlap); Byrd, Hansen, Nocedal & Singer (2016),
           SIAM J. Optim. 26(2), arXiv:1401.7020 (sqn); Powell (1978), Lect. Notes Math. 630 (damping); Wang, Ma,
           Goldfarb & Liu (2017), SIAM J. Optim. 27(2), arXiv:1607.01231 (damping of stochastic pairs).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import require_choice, require_count, require_real
from ..finite_sum import batch_sizes, draw, draw_part
from ..globalize.wolfe import flat_gradient, flat_hvp
from ..linearization import dims
from ..method import Method
from ..types import Info, Status, Step, Structure, batch_work, counts
from .lbfgs import Memory, apply_direct, apply_inverse, empty_memory, forget, push

PAIRS = ("overlap", "sqn")
GROSS = 4.0  # a step that lets the gradient on the rows of the pair grow by more is taken back
ENOUGH = 0.2  # of sᵀBs, the least sᵀy (Powell 1978)


class StochasticLBFGSState(NamedTuple):
    steps: Int[Array, ""]
    memory: Memory
    kept: dict[str, Int[Array, " o"]]  # overlap: O₋
    total: Float[Array, " P"]  # sqn: the sum of the iterates of this stretch
    mean: Float[Array, " P"]  # sqn: w₋, NaN before the first stretch has ended


def damped(memory: Memory, s: Array, y: Array) -> tuple[Array, Array]:
    """(y after Powell's damping, κ). Where there is no pair yet B is (|y|/|s|) I: nothing else has the right unit."""
    ss, yy = s @ s, y @ y
    own = jnp.sqrt(ss / jnp.where(yy > 0, yy, 1.0))
    bs = apply_direct(memory._replace(gamma=jnp.where((memory.count == 0) & (own > 0), own, memory.gamma)), s)
    sbs, sy = s @ bs, s @ y
    enough = sy >= ENOUGH * sbs
    kappa = jnp.where(enough, 1.0, (1 - ENOUGH) * sbs / jnp.where(enough, 1.0, sbs - sy))
    return kappa * y + (1 - kappa) * bs, kappa


class StochasticLBFGS(Method):
    """Stochastic L-BFGS: damped pairs from overlapping samples or from Hessian-vector products, fixed step length.

    `pairs`: "overlap" or "sqn". `learning_rate`: α. `batch`: rows of S, all where there are not so many ("overlap": at
    least two of a term). `pair_batch`: rows of O (at most half of S) or of T. `every`: steps from pair to pair, None
    for 1 (overlap) or 10 (sqn). `memory`: m. `first_step`: the longest step before the first pair. Raises ValueError or
    TypeError for options out of range.
    """

    pairs: str = eqx.field(static=True, default="overlap")
    learning_rate: float = 0.1
    batch: int = eqx.field(static=True, default=256)
    pair_batch: int = eqx.field(static=True, default=64)
    every: int | None = eqx.field(static=True, default=None)
    memory: int = eqx.field(static=True, default=10)
    first_step: float = 0.1

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    second_order: ClassVar[bool] = True
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_choice(self, "pairs", PAIRS)
        require_real(self, "learning_rate", 0.0, float("inf"), why="it is a step length")
        require_real(self, "first_step", 0.0, float("inf"), why="it is a length")
        for name in ("batch", "pair_batch", "memory", *(() if self.every is None else ("every",))):
            require_count(self, name, 1)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        return StochasticLBFGSState(
            jnp.zeros((), jnp.int32),
            empty_memory(theta.size, self.memory, theta.dtype),
            draw(key, objective.sizes, self._kept_sizes(objective)) if self.pairs == "overlap" else {},
            jnp.zeros_like(theta),
            jnp.full_like(theta, jnp.nan),
        )

    def refresh(self, objective, params, state):
        """Points moved: pairs of the old ones are dropped, averages go on. Of terms of another size other rows are
        kept, the same whenever that happens: they are a random part of all rows, and no key is at hand."""
        state = state._replace(memory=forget(state.memory, jnp.ones((), bool)))
        sizes = self._kept_sizes(objective)
        if any(rows.shape[0] != sizes[name] for name, rows in state.kept.items()):
            state = state._replace(kept=draw(jax.random.key(0), objective.sizes, sizes))
        return state

    def footprint(self, n: int, p: int) -> int:
        return (2 * self.memory + 8) * p + n

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        rows, kept = self._sample(objective, state.kept, key)
        sample = objective.rows(rows)
        value, grad = flat_gradient(sample, params, theta.dtype)
        grad_norm = jnp.linalg.norm(grad)
        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)

        direction = self.learning_rate * apply_inverse(state.memory, grad)
        length = jnp.linalg.norm(direction)
        shorter = jnp.minimum(1.0, self.first_step / jnp.where(length > 0, length, 1.0))
        scale = jnp.where(state.memory.count == 0, shorter, 1.0)
        move = jnp.where(finite, -scale * direction, 0.0)
        there = theta + move
        after, kappa, stays, work = self._pair(objective, theta, there, unravel, state, kept, key)
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
        went = jnp.where(stays, Status.OK, Status.REJECTED)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.where(stays, jnp.linalg.norm(move), 0.0),
            status=jnp.where(finite, went, Status.NONFINITE).astype(jnp.int32),
            counts=counts(batch=batch_work(dims(sample, params).rows, value=1, vjp=1) + work),
            scalars={"pairs": after.memory.count.astype(theta.dtype), "damping": kappa},
        )
        return Step(unravel(jnp.where(stays, there, theta)), after, info)

    def _period(self) -> int:
        return self.every or (1 if self.pairs == "overlap" else 10)

    def _kept_sizes(self, objective) -> dict[str, int]:
        """Rows of O, term by term: at most half of S, so that the other half is fresh."""
        shares, wanted = (batch_sizes(objective.sizes, b) for b in (self.batch, self.pair_batch))
        whole = shares == objective.sizes
        return {name: wanted[name] if whole else max(1, min(wanted[name], b // 2)) for name, b in shares.items()}

    def _sample(self, objective, before, key):
        """(S, O): the rows of this step, and those whose gradients make the pair (the next step keeps them)."""
        sizes = objective.sizes
        shares = batch_sizes(sizes, self.batch)
        if self.pairs == "sqn":
            return draw(key, sizes, shares), {}
        kept = self._kept_sizes(objective)
        if shares == sizes:
            return draw(key, sizes, shares), draw(key, sizes, kept)
        fresh = draw(key, sizes, {name: max(1, b - kept[name]) for name, b in shares.items()})
        rows = {name: jnp.concatenate([before[name], fresh[name]]) for name in fresh}
        return rows, draw_part(jax.random.fold_in(key, 2), fresh, kept)

    def _pair(self, objective, theta, there, unravel, state, kept, key):
        """(the state with a new pair where one is due, κ of the damping, whether the step stays, work in rows)."""
        steps, yes = state.steps + 1, jnp.ones((), bool)
        due, skip = steps % self._period() == 0, lambda: (state.memory, jnp.ones((), theta.dtype), yes)
        if self.pairs == "overlap":
            both = objective.rows(kept)

            def pair():
                here, new = (flat_gradient(both, unravel(x), theta.dtype)[1] for x in (theta, there))
                memory, kappa = _remember(state.memory, there - theta, new - here, due)
                stays = jnp.linalg.norm(new) <= GROSS * jnp.linalg.norm(here)  # not where one of them is NaN
                return forget(memory, ~jnp.all(jnp.isfinite(new))), kappa, stays  # no pair to learn from: a short step

            memory, kappa, stays = jax.lax.cond(due, pair, skip)
            work = 2 * due * batch_work(dims(both, unravel(theta)).rows, value=1, vjp=1)
            return state._replace(steps=steps, memory=memory, kept=kept), kappa, stays, work

        total = state.total + there
        mean = total / self._period()
        curved = objective.rows(draw(jax.random.fold_in(key, 1), objective.sizes, self.pair_batch))

        def product():
            s = mean - state.mean
            y = flat_hvp(curved, unravel(mean), s)
            return *_remember(state.memory, s, y, jnp.all(jnp.isfinite(state.mean))), yes

        memory, kappa, _ = jax.lax.cond(due, product, skip)
        total, mean = jnp.where(due, 0.0, total), jnp.where(due, mean, state.mean)
        after = state._replace(steps=steps, memory=memory, total=total, mean=mean)
        return after, kappa, yes, due * batch_work(dims(curved, unravel(theta)).rows, hvp=1)


def _remember(memory: Memory, s: Array, y: Array, known: Array) -> tuple[Memory, Array]:
    """The memory with the damped pair; unchanged where it is not known, not finite, or rounding."""
    known &= (memory.count > 0) | (y @ y > 0)
    y, kappa = damped(memory, s, y)
    ulp = jnp.finfo(s.dtype).eps
    usable = known & (s @ y > ulp * jnp.linalg.norm(s) * jnp.linalg.norm(y)) & jnp.isfinite(y @ y)
    return push(memory, s, y, usable, rescale=True), jnp.where(usable, kappa, 1.0)
