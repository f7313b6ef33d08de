"""The compiled loop: one program per (objective, method, shapes) that takes any number of steps.

`advance` is a while loop with a traced step count and stop test, so the host decides how far a device call goes
without recompiling, and a call of zero steps compiles it before the clock starts. Functions and sizes are the
static key: a second run with the same functions and shapes compiles nothing. Every step k uses the key
fold_in(run key, k), and the body is the same program however the calls are cut, so the cuts change no digit.

With `batches` (a sampler's) every step sees its own batch of rows, frozen for the whole step: batch k is drawn from the
key of step k, the state is refreshed on it, and the step is made on it; its work is counted in rows.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..linearization import dims
from ..static import Frozen, join, split
from ..types import Counts, Info, Params, State, Status, Step, batch_work, counts

MAX_REJECTED = 20  # consecutive steps in which every trial was rejected
MAX_NO_DESCENT = 3  # consecutive failed line searches
MAX_TINY = 20  # consecutive steps below rounding of the parameters
_BATCH = 0x6261  # the stream of a step's key that draws its batch, apart from what the method draws
_ROUNDINGS = 100  # a gradient is a sum of products that cancel: it is known to far less than an ulp of its terms

traces: list[str] = []  # one entry per trace of `advance`, the method's name; read by tests


Number = Float[Array | np.ndarray, ""]


class Limits(NamedTuple):
    """Traced stop tests, so that changing them recompiles nothing."""

    loss: Number  # stop once a step entered at or below this loss
    grad_norm: Number  # likewise for the gradient norm
    first_grad: Number  # gradient norm at step 0, 0 until it is known: the scale of `vanishes`


class Streaks(NamedTuple):
    """Consecutive steps of a kind, carried over device calls."""

    rejected: Int[Array, ""]
    no_descent: Int[Array, ""]
    tiny: Int[Array, ""]


def fresh_streaks() -> Streaks:
    zero = jnp.zeros((), jnp.int32)
    return Streaks(zero, zero, zero)


class Flight(NamedTuple):
    """The loop's carry, and its result: position, the first and last step's info, summed counts."""

    k: Int[Array, ""]
    params: Params
    state: State
    first: Info
    last: Info
    totals: Counts
    streaks: Streaks
    go: Bool[Array, ""]


def norm(tree: Params) -> Float[Array, ""]:
    return jnp.sqrt(sum((jnp.sum(x * x) for x in jax.tree.leaves(tree)), start=jnp.zeros(())))


def _next_streaks(s: Streaks, info: Info, scale: Float[Array, ""]) -> Streaks:
    one = lambda flag, n: jnp.where(flag, n + 1, 0).astype(jnp.int32)
    failed = (info.status == Status.REJECTED) | (info.status == Status.LINEAR_SOLVE)
    tiny = (info.status == Status.OK) & (info.step_norm <= 2 * jnp.finfo(scale.dtype).eps * scale)
    no_descent = info.status == Status.NO_DESCENT
    return Streaks(one(failed, s.rejected), one(no_descent, s.no_descent), one(tiny, s.tiny))


def vanishes(value, grad_norm, size, first_grad) -> Bool[Array, ""]:
    """Whether a gradient is rounding at parameters of norm `size`; unchanged when the loss or theta is scaled.

        |g| |theta| <= 100 eps |L|  and  |g| <= sqrt(eps) |g_0|,   or   |g| <= eps^2 |g_0|

    The first: a move as long as the parameters themselves would not show in the loss. It holds at small parameters
    too, hence the second. A small |g| / |g_0| alone says little: where residuals can vanish, the loss falls with the
    square of the gradient, past eps |g_0|, and such a run ends when its steps or their gains are rounding. Only an
    exact solution falls to the third; a gradient of zero always counts.
    """
    eps = jnp.finfo(grad_norm.dtype).eps
    invisible = grad_norm * size <= _ROUNDINGS * eps * jnp.abs(value)
    return (invisible & (grad_norm <= jnp.sqrt(eps) * first_grad)) | (grad_norm <= eps**2 * first_grad)


def _goes_on(info: Info, s: Streaks, limits: Limits, size: Float[Array, ""], noisy: bool) -> Bool[Array, ""]:
    if noisy:  # a lucky batch is no optimum, and a batch without slope no end: the host decides, from all rows
        failing = (s.rejected >= MAX_REJECTED) | (s.no_descent >= MAX_NO_DESCENT)
        return ~(failing | (info.status == Status.NONFINITE))
    met = (info.value <= limits.loss) | (info.grad_norm <= limits.grad_norm)
    met |= vanishes(info.value, info.grad_norm, size, limits.first_grad)
    stuck = (s.rejected >= MAX_REJECTED) | (s.no_descent >= MAX_NO_DESCENT) | (s.tiny >= MAX_TINY)
    return ~(met | stuck | (info.status == Status.NONFINITE))


@partial(jax.jit, static_argnums=0)
def _start(frozen: Frozen, arrays: list, params: Params, key: Array, k: Array) -> State:
    objective, method, batches = join(frozen, arrays)
    own = jr.fold_in(key, k)
    return method.init(_batch(objective, batches, own, k), params, key=own)


def _batch(objective, batches, key: Array, k: Array):
    return objective if batches is None else batches.draw(objective, jr.fold_in(key, _BATCH), k)


def _step(objective, method, batches, params: Params, state: State, key: Array, k: Array) -> Step:
    if batches is None:
        return method.step(objective, params, state, key=key)
    batch = _batch(objective, batches, key, k)
    fresh = method.refresh(batch, params, state)
    step = method.step(batch, params, fresh, key=key)
    # A state that is handed through cost nothing; one that was made anew holds a value and a gradient of this batch.
    pairs = zip(jax.tree.leaves(fresh), jax.tree.leaves(state), strict=True)
    anew = int(any(a is not b for a, b in pairs))
    return step._replace(info=step.info._replace(counts=_in_rows(step.info.counts, dims(batch, params).rows, anew)))


def _in_rows(c: Counts, rows: int, gradients: int) -> Counts:
    """The work of a step on a batch of so many residual rows, and of some gradients more, as counts of single rows."""
    work = c.batch + batch_work(rows, c.residual + gradients, c.jvp, c.vjp + gradients, c.hvp)
    return counts(rows=c.rows, solves=c.solves, batch=work)


@partial(jax.jit, static_argnums=0)
def _exact(frozen: Frozen, arrays: list, params: Params) -> tuple[Array, Array]:
    value, grad = join(frozen, arrays)[0].value_and_grad(params)
    return value, norm(grad)


@partial(jax.jit, static_argnums=0)
def _refresh(frozen: Frozen, arrays: list, params: Params, state: State) -> State:
    objective, method, _ = join(frozen, arrays)
    return method.refresh(objective, params, state)


@partial(jax.jit, static_argnums=0)
def _readout(frozen: Frozen, arrays: list, params: Params, state: State) -> Params:
    _, method, _ = join(frozen, arrays)
    return method.readout(params, state)


@partial(jax.jit, static_argnums=0)
def _advance(frozen: Frozen, arrays: list, params, state, streaks, limits, key, start, stop) -> Flight:
    objective, method, batches = join(frozen, arrays)
    traces.append(type(method).__name__)
    noisy = method.noisy or batches is not None

    def one(k, params, state):
        return _step(objective, method, batches, params, state, jr.fold_in(key, k), k)

    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), eqx.filter_eval_shape(one, start, params, state).info)

    def body(f: Flight) -> Flight:
        new, state, info = one(f.k, f.params, f.state)
        # The run ends there; what it returns is the point it was at, not a move made of NaN.
        new = jax.tree.map(lambda a, b: jnp.where(info.status == Status.NONFINITE, b, a), new, f.params)
        first = jax.tree.map(lambda a, b: jnp.where(f.k == start, a, b), info, f.first)
        totals = jax.tree.map(jnp.add, f.totals, info.counts)
        size = norm(f.params)
        streaks = _next_streaks(f.streaks, info, size)
        return Flight(f.k + 1, new, state, first, info, totals, streaks, _goes_on(info, streaks, limits, size, noisy))

    def goes(f: Flight):
        return f.go & (f.k < stop)

    flight = Flight(start, params, state, blank, blank, counts(), streaks, jnp.array(True))
    return jax.lax.while_loop(goes, body, flight)


class Engine:
    """One method on one objective, compiled. The objective's leaves may be exchanged at any time.

    `batches`: what draws the rows of each step, None for all of them. Other sizes are another program.
    """

    def __init__(self, objective, method):
        self.method = method
        self.set_objective(objective)

    def set_objective(self, objective, batches=None) -> None:
        self.objective, self.batches = objective, batches
        self.frozen, self.arrays = split((objective, self.method, batches))

    @property
    def noisy(self) -> bool:
        """Whether a step's value and gradient norm are estimates."""
        return self.method.noisy or self.batches is not None

    def stuck(self, streaks: Streaks) -> str | None:
        """Which of the streaks that end a run is full, by name: "rejected", "no_descent" or "tiny"; None if none is."""
        full = {
            "rejected": int(streaks.rejected) >= MAX_REJECTED,
            "no_descent": int(streaks.no_descent) >= MAX_NO_DESCENT,
            "tiny": int(streaks.tiny) >= MAX_TINY and not self.noisy,
        }
        return next((name for name, fired in full.items() if fired), None)

    def start(self, params: Params, key: Array, k: int = 0) -> State:
        """The method's state before step k. Blocks until done."""
        state = _start(self.frozen, self.arrays, params, key, np.int32(k))
        return jax.block_until_ready(state)

    def exact(self, params: Params) -> dict[str, float]:
        """Loss and gradient norm over all rows."""
        value, grad_norm = _exact(self.frozen, self.arrays, params)
        return {"loss": float(value), "grad_norm": float(grad_norm)}

    def refresh(self, params: Params, state: State) -> State:
        """The state on changed points; with batches every step does this on its own."""
        if self.batches is not None:
            return state
        return _refresh(self.frozen, self.arrays, params, state)

    def readout(self, params: Params, state: State) -> Params:
        return _readout(self.frozen, self.arrays, params, state)

    def advance(self, params, state, streaks: Streaks, limits: Limits, key, start: int, stop: int) -> Flight:
        """Steps start..stop-1, fewer if a stop test ends it. Blocks until done."""
        a, b = np.int32(start), np.int32(stop)  # no device work to place two numbers
        flight = _advance(self.frozen, self.arrays, params, state, streaks, limits, key, a, b)
        return jax.block_until_ready(flight)
