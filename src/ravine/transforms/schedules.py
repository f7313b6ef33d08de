"""Step sizes that change with the step t = 0, 1, ...: callables that Optax takes as schedules, also written as text.

    constant:VALUE                          VALUE
    exponential:START,FACTOR,STEPS          START · FACTOR^(t/STEPS)
    step:START,FACTOR,STEPS                 START · FACTOR^⌊t/STEPS⌋
    cosine:START,END,STEPS                  END + (START − END)(1 + cos πτ)/2,  τ = min(t/STEPS, 1)
    warmup:VALUE,WARMUP                     VALUE · min(t/WARMUP, 1)
    warmup-cosine:PEAK,END,WARMUP,STEPS     PEAK · t/WARMUP, then the cosine from PEAK to END, reached at t = STEPS
    inverse-sqrt:START,STEPS                START/√(1 + t/STEPS)
    piecewise:VALUE,T,VALUE,T,VALUE...      each VALUE up to, not including, the next T

On the command line: `--set adam.learning_rate=cosine:1e-2,1e-5,20000`. All numbers are array leaves, so another
schedule of the same kind compiles nothing. A warm-up starts with a step of length zero, as Optax's do.

Reference  Loshchilov & Hutter (2017), SGDR, ICLR, arXiv:1608.03983 (cosine); Goyal et al. (2017), arXiv:1706.02677
           (warm-up).
"""

from __future__ import annotations

import abc
import itertools
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..checks import Check, nearest, nonnegative, positive, require


def _real(x: Any) -> Any:
    """Whole numbers become floats: an integer leaf would be part of the compiled program."""
    return float(x) if isinstance(x, int) and not isinstance(x, bool) else x


def _number() -> Any:
    return eqx.field(converter=_real)


class Schedule(eqx.Module):
    """Abstract: a callable from the step count to a step size."""

    def __call__(self, count: Any) -> Array:
        # JAX divides an int32 by a Python number in float32, also where floats are float64.
        return self.at(jnp.asarray(count, jnp.result_type(float)))

    @abc.abstractmethod
    def at(self, t: Array) -> Array:
        """The step size at step t, a float."""

    @staticmethod
    def from_text(text: str) -> Schedule:
        """The schedule that a text such as `cosine:1e-2,1e-5,20000` means. Raises ValueError, one sentence."""
        kind, colon, rest = text.partition(":")
        if not colon:
            raise ValueError(f"must be a number, or a schedule such as {_EXAMPLE}; kinds are {', '.join(KINDS)}.")
        kind = kind.strip().lower()
        if kind not in KINDS:
            raise ValueError(f"there is no schedule {kind!r}; {nearest(kind, KINDS)}")
        cls, form = KINDS[kind]
        try:
            numbers = [float(part) for part in rest.split(",")]
        except ValueError:
            numbers = []
        if (len(numbers) % 2 != 1) if cls is Piecewise else (len(numbers) != form.count(",") + 1):
            raise ValueError(f"write {kind}:{form}, all of them numbers.")
        return cls(numbers[::2], numbers[1::2]) if cls is Piecewise else cls(*numbers)


def _above(value: Any, least: Any) -> Check:
    return value, lambda v: not isinstance(least, (int, float)) or v > least, f"greater than {least!r}"


class Constant(Schedule):
    """The same value at every step."""

    value: float = _number()

    def __check_init__(self):
        require("constant schedule", value=positive(self.value))

    def at(self, t):
        return jnp.asarray(self.value)


class Exponential(Schedule):
    """start · factor^(t/steps)"""

    start: float = _number()
    factor: float = _number()
    steps: float = _number()

    def __check_init__(self):
        numbers = {"start": positive(self.start), "factor": positive(self.factor), "steps": positive(self.steps)}
        require("exponential schedule", **numbers)

    def at(self, t):
        return self.start * jnp.asarray(self.factor) ** (t / self.steps)


class Staircase(Schedule):
    """start · factor^⌊t/steps⌋"""

    start: float = _number()
    factor: float = _number()
    steps: float = _number()

    def __check_init__(self):
        numbers = {"start": positive(self.start), "factor": positive(self.factor), "steps": positive(self.steps)}
        require("step schedule", **numbers)

    def at(self, t):
        return self.start * jnp.asarray(self.factor) ** jnp.floor(t / self.steps)


def _cosine(start: Any, end: Any, fraction: Any) -> Array:
    return end + (start - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(fraction, 1.0)))


class Cosine(Schedule):
    """end + (start − end)(1 + cos πτ)/2 with τ = min(t/steps, 1)"""

    start: float = _number()
    end: float = _number()
    steps: float = _number()

    def __check_init__(self):
        numbers = {"start": positive(self.start), "end": nonnegative(self.end), "steps": positive(self.steps)}
        require("cosine schedule", **numbers)

    def at(self, t):
        return _cosine(self.start, self.end, t / self.steps)


class Warmup(Schedule):
    """value · min(t/warmup, 1)"""

    value: float = _number()
    warmup: float = _number()

    def __check_init__(self):
        require("warmup schedule", value=positive(self.value), warmup=positive(self.warmup))

    def at(self, t):
        return self.value * jnp.minimum(t / self.warmup, 1.0)


class WarmupCosine(Schedule):
    """peak · t/warmup up to t = warmup, then the cosine from peak to end, reached at t = steps"""

    peak: float = _number()
    end: float = _number()
    warmup: float = _number()
    steps: float = _number()

    def __check_init__(self):
        numbers = {"peak": positive(self.peak), "end": nonnegative(self.end), "warmup": positive(self.warmup)}
        require("warmup-cosine schedule", **numbers, steps=_above(self.steps, self.warmup))

    def at(self, t):
        after = _cosine(self.peak, self.end, (t - self.warmup) / (self.steps - self.warmup))
        return jnp.where(t < self.warmup, self.peak * t / self.warmup, after)


class InverseSqrt(Schedule):
    """start/√(1 + t/steps)"""

    start: float = _number()
    steps: float = _number()

    def __check_init__(self):
        require("inverse-sqrt schedule", start=positive(self.start), steps=positive(self.steps))

    def at(self, t):
        return self.start / jnp.sqrt(1.0 + t / self.steps)


def _reals(xs: Any) -> tuple:
    return tuple(map(_real, xs))


class Piecewise(Schedule):
    """values[0] while t < boundaries[0], then values[1] while t < boundaries[1], and so on"""

    values: tuple[float, ...] = eqx.field(converter=_reals)
    boundaries: tuple[float, ...] = eqx.field(converter=_reals)

    def __check_init__(self):
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"piecewise schedule: {len(self.values)} values need {len(self.values) - 1} boundaries between them; "
                f"got {len(self.boundaries)}."
            )
        for value in self.values:
            require("piecewise schedule", value=positive(value))
        for before, after in itertools.pairwise((0.0, *self.boundaries)):
            require("piecewise schedule", boundary=_above(after, before))

    def at(self, t):
        passed = [jnp.asarray(t >= b, jnp.int32) for b in self.boundaries]
        return jnp.stack([jnp.asarray(v) for v in self.values])[sum(passed, start=jnp.zeros((), jnp.int32))]


KINDS: dict[str, tuple[type[Schedule], str]] = {
    "constant": (Constant, "VALUE"),
    "exponential": (Exponential, "START,FACTOR,STEPS"),
    "step": (Staircase, "START,FACTOR,STEPS"),
    "cosine": (Cosine, "START,END,STEPS"),
    "warmup": (Warmup, "VALUE,WARMUP"),
    "warmup-cosine": (WarmupCosine, "PEAK,END,WARMUP,STEPS"),
    "inverse-sqrt": (InverseSqrt, "START,STEPS"),
    "piecewise": (Piecewise, "VALUE,T,VALUE,T,VALUE..."),
}
_EXAMPLE = "cosine:1e-2,1e-5,20000"
