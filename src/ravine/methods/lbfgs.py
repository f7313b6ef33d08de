"""Limited-memory BFGS: the inverse Hessian as γI updated by the last m pairs (s, y).

    d = −Hg,   θ⁺ = θ + t d  (t by a strong Wolfe search),   s = θ⁺ − θ,   y = g⁺ − g

The two-loop recursion is two triangular solves with R = triu(SᵀY), oldest pair first, D its diagonal:

    R α = Sᵀg,    r = γ (g − Yα),    Rᵀ δ = Dα − Yᵀr,    Hg = r + Sδ

so a product is four passes over m vectors and nothing runs vector by vector. S and Y are ring buffers written in
place; R is kept in order of age, its unused part the identity. γ = sᵀy/(yᵀy) of the newest pair; with `rescale=False`
of the first pair after a start, which with m ≥ the number of steps is BFGS.

Needs      VALUE.
Cost/step  one value and gradient per trial of the search (about 1.1 trials); 10 m P flops.
Memory     2 m P + m².
Deviations 1. A pair is skipped unless sᵀy > ulp |s||y|. 2. Where −Hg is no descent direction, in the step after a
           failed search (status REJECTED), and after `refresh`, the memory is empty and the step is along −g; only a
           search that fails there gives NO_DESCENT. 3. m = 50, where the papers take 3 to 20: 20 s of the seven
           differential equations end 1.4 to 6 times lower than with m = 20 (seed 0).
Reference  Nocedal (1980), Math. Comp. 35; Liu & Nocedal (1989), Math. Program. 45;
           Byrd, Nocedal & Schnabel (1994), Math. Program. 63 (compact form).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int

from ..checks import require_count
from ..globalize.wolfe import along, check_search, first_trial, flat_gradient, search_status, strong_wolfe
from ..method import Method
from ..types import Info, Step, counts


class Memory(NamedTuple):
    """The last pairs. Row (head + i) mod m of S and Y is the i-th in order of age; the last `count` are in use."""

    s: Float[Array, "m P"]
    y: Float[Array, "m P"]
    r: Float[Array, "m m"]  # triu(SᵀY) in order of age
    gamma: Float[Array, ""]
    head: Int[Array, ""]
    count: Int[Array, ""]


class LBFGSState(NamedTuple):
    value: Float[Array, ""]
    decrease: Float[Array, ""]  # value − the value before; 0 where that is not known
    grad: Float[Array, " P"]
    memory: Memory


def empty_memory(size: int, memory: int, dtype) -> Memory:
    """No pairs: H = I."""
    zeros, zero = jnp.zeros((memory, size), dtype), jnp.zeros((), jnp.int32)
    return Memory(zeros, zeros, jnp.eye(memory, dtype=dtype), jnp.ones((), dtype), zero, zero)


def _by_age(memory: Memory, x: Array) -> Array:
    """Entries of x (m), one per row of the ring, in order of age; those not in use are zero."""
    m = x.shape[0]
    age = jnp.arange(m)
    return jnp.where(age >= m - memory.count, x[(age + memory.head) % m], 0.0)


def _by_row(memory: Memory, x: Array) -> Array:
    """The inverse of `_by_age`."""
    m = x.shape[0]
    return x[(jnp.arange(m) - memory.head) % m]


def apply_inverse(memory: Memory, g: Array) -> Array:
    """Hg."""
    alpha = solve_triangular(memory.r, _by_age(memory, memory.s @ g))
    r = memory.gamma * (g - _by_row(memory, alpha) @ memory.y)
    right = jnp.diagonal(memory.r) * alpha - _by_age(memory, memory.y @ r)
    delta = solve_triangular(memory.r, right, trans=1)
    return r + _by_row(memory, delta) @ memory.s


def apply_direct(memory: Memory, v: Array) -> Array:
    """H⁻¹v, by the compact form of B = H⁻¹: σ = 1/γ, L the strictly lower triangle of SᵀY,

        B = σI − [σS Y] [σSᵀS L; Lᵀ −D]⁻¹ [σS Y]ᵀ                (Byrd, Nocedal & Schnabel 1994, theorem 2.3)

    Cost 2 m² P flops for SᵀS and SᵀY, and (2m)³ for the solve.
    """
    m, sigma = memory.r.shape[0], 1 / memory.gamma
    order = (jnp.arange(m) + memory.head) % m
    used = jnp.arange(m) >= m - memory.count
    s, y = jnp.where(used[:, None], memory.s[order], 0.0), jnp.where(used[:, None], memory.y[order], 0.0)
    sy, unused = s @ y.T, jnp.diag(jnp.where(used, 0.0, 1.0))
    lower = jnp.tril(sy, -1)
    middle = jnp.block([[sigma * (s @ s.T) + unused, lower], [lower.T, -jnp.diag(jnp.diagonal(sy)) - unused]])
    weights = jnp.linalg.solve(middle, jnp.concatenate([sigma * (s @ v), y @ v]))
    return sigma * v - sigma * (weights[:m] @ s) - weights[m:] @ y


def push(memory: Memory, s: Array, y: Array, usable: Bool[Array, ""], rescale: bool) -> Memory:
    """The memory with one more pair, the oldest dropped if it is full; unchanged where not usable."""
    m, sy, yy = memory.r.shape[0], s @ y, y @ y
    column = _by_age(memory, memory.s @ y)
    older = memory.r[1:, 1:] if m > 1 else jnp.zeros((0, 0), s.dtype)
    r = jnp.zeros_like(memory.r).at[:-1, :-1].set(older).at[:-1, -1].set(column[1:]).at[-1, -1].set(sy)
    row = memory.head
    set_gamma = usable & (rescale | (memory.count == 0))
    return Memory(
        s=memory.s.at[row].set(jnp.where(usable, s, memory.s[row])),
        y=memory.y.at[row].set(jnp.where(usable, y, memory.y[row])),
        r=jnp.where(usable, r, memory.r),
        gamma=jnp.where(set_gamma, sy / jnp.where(usable, yy, 1.0), memory.gamma),
        head=jnp.where(usable, (row + 1) % m, row),
        count=jnp.where(usable, jnp.minimum(memory.count + 1, m), memory.count),
    )


def forget(memory: Memory, when: Array) -> Memory:
    """The empty memory where `when`: only the small arrays are touched."""
    eye = jnp.eye(memory.r.shape[0], dtype=memory.r.dtype)
    return memory._replace(
        r=jnp.where(when, eye, memory.r),
        gamma=jnp.where(when, 1.0, memory.gamma),
        count=jnp.where(when, 0, memory.count),
    )


class LBFGS(Method):
    """See module docstring. The first trial move after a start is at most `first_step` long. Raises ValueError for
    options out of range."""

    memory: int = eqx.field(static=True, default=50)
    rescale: bool = eqx.field(static=True, default=True)
    first_trial: str = eqx.field(static=True, default="unit")
    first_step: float = 1.0
    c1: float = 1e-4
    c2: float = 0.9
    max_trials: int = eqx.field(static=True, default=25)

    second_order: ClassVar[bool] = True
    batchable: ClassVar[bool] = False  # its memory is of one batch

    def __check_init__(self):
        require_count(self, "memory", 1)
        check_search(self)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        return LBFGSState(value, jnp.zeros_like(value), grad, empty_memory(theta.size, self.memory, theta.dtype))

    def refresh(self, objective, params, state):
        value, grad = flat_gradient(objective, params, state.grad.dtype)
        return LBFGSState(value, jnp.zeros_like(value), grad, forget(state.memory, jnp.ones((), bool)))

    def footprint(self, n: int, p: int) -> int:
        return 2 * self.memory * p + 8 * p

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        value, grad = state.value, state.grad
        direction = -apply_inverse(state.memory, grad)
        slope = direction @ grad
        useless = ~((slope < 0) & (slope > -jnp.inf))
        memory = forget(state.memory, useless)
        fresh = memory.count == 0
        direction = jnp.where(useless, -grad, direction)
        slope = jnp.where(useless, -(grad @ grad), slope)

        grad_norm = jnp.linalg.norm(grad)
        size = jnp.linalg.norm(theta)
        first = first_trial(self.first_trial, self.first_step, fresh, size, grad_norm, state.decrease, slope)
        evaluate = along(objective, unravel, theta, direction)
        found = strong_wolfe(evaluate, value, slope, grad, first, c1=self.c1, c2=self.c2, max_trials=self.max_trials)

        s, y = found.t * direction, found.grad - grad
        curvature, ulp = s @ y, jnp.finfo(theta.dtype).eps
        usable = curvature > ulp * jnp.linalg.norm(s) * jnp.linalg.norm(y)
        memory = forget(push(memory, s, y, usable, self.rescale), ~found.moved)

        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(s),
            status=search_status(value, grad_norm, found.moved, fresh),
            counts=counts(residual=found.trials, vjp=found.trials),
            scalars={
                "step_size": found.t,
                "trials": found.trials.astype(theta.dtype),
                "curvature": jnp.where(usable, curvature / jnp.where(usable, s @ s, 1.0), 0.0),
                "pairs": memory.count.astype(theta.dtype),
            },
        )
        return Step(unravel(theta + s), LBFGSState(found.value, found.value - value, found.grad, memory), info)
