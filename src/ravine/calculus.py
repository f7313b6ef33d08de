"""Derivatives of fields u: (d,) -> (c,) in space and time, cheap under reverse mode in the parameters.

    taylor(u, x, V, a) = ( u,  u'[v_k],  Σ_k u''[v_k, v_k] + u'[a] )            one sweep of |V| + 2 streams

Everything is a case of it. V = I gives value, gradient and Laplacian. The second derivative along the curve
x + s v + s² a/2 is u''[v, v] + u'[a], so v = e_x, a = -e_t/ν makes u_xx - u_t/ν one stream.

The sweep walks the operations of u once and carries (value, slopes, bend) through each, as a forward Laplacian does;
nested jvp carries u' twice, and reverse mode then pays for both. Operations without a rule of their own are carried
by nested jvp of that one operation, so every JAX function works. `method="nested"` is plain nested jvp throughout.

Milliseconds on one core (x86-64, jax 0.10.2, float64, 4000 points, tanh 2-20-20-20-1, 921 parameters; compiled loop,
best of 5): gradient of the loss; Jᵀw with the rows of J formed in chunks of 500; the same in one piece.

                            Poisson: Laplacian          Burgers: u, u_x, ν u_xx - u_t      the same, u_t apart
    sweep (default)         4.7   11.4   26             3.8    9.6   26                    6.2   14.1   29
    written by hand         4.7   10.6   28             3.4    8.4   24                    5.5   11.8   30
    folx                    7.3   10.7   28             5.0   11.9   27                    7.8   15.5   28
    jvp(grad)              11.6   16.3   33             6.5   10.7   28                    8.1   12.0   29
    nested jvp              8.3   14.8   31             6.3   12.1   28                    6.4   12.1   27
    nested jvp, vmapped    16.3   17.7   41             7.1   15.2   31                    8.6   14.8   32
    jax.experimental.jet   11.8   25.3   43             7.6   17.6   31                   10.5   20.0   40

The Jacobian in one piece (29 MB) is bound by memory. Timings vary by about a tenth between runs.

Reference  Griewank & Walther, Evaluating Derivatives, SIAM 2008, ch. 13; Li et al., Nat. Mach. Intell. 6 (2024),
arXiv:2307.08214 (forward Laplacian).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array, Float

Field = Callable[[Any], Array]

_METHODS = ("sweep", "nested")
# Up to this many directions each slope is an array of its own, which XLA fuses best; beyond, one stacked array.
_UNROLL = 8


def taylor(
    u: Field, x: Float[Array, " d"], directions: Any, curve: Any = None, method: str = "sweep"
) -> tuple[Float[Array, " c"], Float[Array, "k c"], Float[Array, " c"]]:
    """(u, u'[v_k] for every row v_k of `directions`, Σ_k u''[v_k, v_k] + u'[curve]) at x.

    `directions` (k, d) and `curve` (d,) are arrays or nested lists. Cost: k + 2 evaluations of u. Raises ValueError
    for an unknown method.
    """
    if method not in _METHODS:
        raise ValueError(f"taylor: there is no method {method!r}; choose one of {', '.join(_METHODS)}.")
    x = jnp.asarray(x)
    vs = jnp.asarray(directions, x.dtype)
    a = None if curve is None else jnp.asarray(curve, x.dtype)
    if method == "nested":
        return _nested(u, x, vs, a)
    closed = jax.make_jaxpr(u)(x)
    slopes = tuple(vs) if len(vs) <= _UNROLL else vs
    (out,) = _walk(closed.jaxpr, closed.consts, [_Stream(x, slopes, a)])
    if not isinstance(out, _Stream):  # u does not depend on x
        out = jnp.asarray(out)
        return out, jnp.zeros((len(vs), *out.shape), out.dtype), jnp.zeros_like(out)
    bend = jnp.zeros_like(out.value) if out.bend is None else out.bend
    return out.value, jnp.stack(out.slopes), bend


def gradient(u: Field, x: Float[Array, " d"]) -> Float[Array, "c d"]:
    """The Jacobian of u in x: d forward sweeps, no second derivatives."""
    x = jnp.asarray(x)
    columns = [directional(u, x, v) for v in jnp.eye(x.shape[0], dtype=x.dtype)]
    return jnp.stack(columns, axis=-1)


def directional(u: Field, x: Float[Array, " d"], v: Any) -> Float[Array, " c"]:
    """u'(x)[v], one forward sweep."""
    x = jnp.asarray(x)
    return jax.jvp(u, (x,), (jnp.asarray(v, x.dtype),))[1]


def laplacian(u: Field, x: Float[Array, " d"], method: str = "sweep") -> Float[Array, " c"]:
    """Σ_i ∂²u/∂x_i² at x, one sweep of d + 2 streams."""
    x = jnp.asarray(x)
    return taylor(u, x, jnp.eye(x.shape[0], dtype=x.dtype), method=method)[2]


def second(u: Field, x: Float[Array, " d"], v: Any, w: Any = None) -> Float[Array, " c"]:
    """u''(x)[v, w]; w = v when it is not given."""
    x = jnp.asarray(x)
    v = jnp.asarray(v, x.dtype)
    if w is None:
        return taylor(u, x, v[None])[2]
    return jax.jvp(lambda y: directional(u, y, w), (x,), (v,))[1]


def _nested(u: Field, x: Array, vs: Array, a: Array | None) -> tuple[Array, Array, Array]:
    slopes, bends = [], []
    for v in vs:
        slope, bend = jax.jvp(lambda y, v=v: jax.jvp(u, (y,), (v,))[1], (x,), (v,))
        slopes.append(slope)
        bends.append(bend)
    if a is not None:
        bends.append(jax.jvp(u, (x,), (a,))[1])
    return u(x), jnp.stack(slopes), sum(bends[1:], bends[0])


class _Stream(NamedTuple):
    """One intermediate along all directions. slopes: a tuple of k arrays, or one (k, ...); bend None means zero."""

    value: Array
    slopes: Any
    bend: Array | None


def _each(fn: Callable, *slopes: Any) -> Any:
    if isinstance(slopes[0], tuple):
        return tuple(fn(*s) for s in zip(*slopes, strict=True))
    return jax.vmap(fn)(*slopes)


def _total(slopes: Any) -> Array:
    return sum(slopes[1:], slopes[0]) if isinstance(slopes, tuple) else jnp.sum(slopes, axis=0)


def _plus(*terms: Array | None) -> Array | None:
    present = [t for t in terms if t is not None]
    return sum(present[1:], present[0]) if present else None


def _walk(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Evaluate a jaxpr on arguments of which some are streams."""
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env |= dict(zip(jaxpr.invars, args, strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, core.Literal) else env[v]

    for eqn in jaxpr.eqns:
        env.update(zip(eqn.outvars, _carry(eqn, [read(v) for v in eqn.invars]), strict=True))
    return [read(v) for v in jaxpr.outvars]


def _carry(eqn: core.JaxprEqn, ins: list[Any]) -> Sequence[Any]:
    """Carry the streams among `ins` through one operation: by a rule where there is one, else by nested jvp."""
    name = eqn.primitive.name
    moving = [i for i, v in enumerate(ins) if isinstance(v, _Stream)]
    if not moving or not any(_moves(v.aval) for v in eqn.outvars):
        return _one(eqn)(*(v.value if isinstance(v, _Stream) else v for v in ins))
    if name in ("jit", "pjit"):
        return _walk(eqn.params["jaxpr"].jaxpr, eqn.params["jaxpr"].consts, ins)

    def run(*operands: Any) -> Array:
        return eqn.primitive.bind(*operands, **eqn.params)

    if name in _CURVES:
        return [_unary(ins[0], *_CURVES[name](ins[0].value))]
    if name == "integer_pow":
        return [_unary(ins[0], *_power(ins[0].value, eqn.params["y"]))]
    if name in ("mul", "dot_general"):
        return [_bilinear(run, *ins) if len(moving) == 2 else _linear(run, ins, moving[0])]
    if name in ("add", "sub", "add_any"):
        return [_sum(run, ins, -1 if name == "sub" else 1)]
    if moving == [0] and name in _LINEAR:
        return [_linear(run, ins, 0)]
    return _general(_one(eqn), ins, moving)


def _moves(value: Any) -> bool:
    """Whether values of this type have derivatives: integers and booleans do not."""
    return jnp.issubdtype(getattr(value, "dtype", jnp.int32), jnp.inexact)


def _one(eqn: core.JaxprEqn) -> Callable[..., list[Any]]:
    """The operation as a function of all its operands, sub-functions and custom rules included."""
    places = [i for i, v in enumerate(eqn.invars) if not isinstance(v, core.Literal)]
    names: list[Any] = list(dict.fromkeys(eqn.invars[i] for i in places))
    kept = [i for i, v in enumerate(eqn.outvars) if not isinstance(v, core.DropVar)]
    outs = [eqn.outvars[i] for i in kept]
    info = core.DebugInfo("taylor", eqn.primitive.name, ("",) * len(names), ("",) * len(outs))
    jaxpr = core.Jaxpr((), names, outs, [eqn], eqn.effects, debug_info=info)
    call = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, ()))

    def run(*operands: Any) -> list[Any]:
        values = {eqn.invars[i]: operands[i] for i in places}
        outs: list[Any] = [None] * len(eqn.outvars)
        for i, out in zip(kept, call(*(values[v] for v in names)), strict=True):
            outs[i] = out
        return outs

    return run


def _unary(s: _Stream, value: Array, d1: Array, d2: Array) -> _Stream:
    """f(s) elementwise: slope f' s_k, bend f' b + f'' Σ s_k²."""
    bend = d2 * _total(_each(lambda p: p * p, s.slopes))
    return _Stream(value, _each(lambda p: d1 * p, s.slopes), _plus(None if s.bend is None else d1 * s.bend, bend))


def _linear(run: Callable, ins: list[Any], place: int) -> _Stream:
    """An operation linear in one operand, the others constant: every stream goes through it alone."""

    def at(operand: Any) -> Array:
        return run(*(operand if i == place else v for i, v in enumerate(ins)))

    s = ins[place]
    return _Stream(at(s.value), _each(at, s.slopes), None if s.bend is None else at(s.bend))


def _bilinear(run: Callable, s: _Stream, t: _Stream) -> _Stream:
    """B(s, t): slope B(s_k, t) + B(s, t_k), bend B(s'', t) + B(s, t'') + 2 Σ B(s_k, t_k)."""
    slopes = _each(lambda p, q: run(p, t.value) + run(s.value, q), s.slopes, t.slopes)
    cross = 2 * _total(_each(run, s.slopes, t.slopes))
    left = None if s.bend is None else run(s.bend, t.value)
    right = None if t.bend is None else run(s.value, t.bend)
    return _Stream(run(s.value, t.value), slopes, _plus(cross, left, right))


def _sum(run: Callable, ins: list[Any], sign: int) -> _Stream:
    """s + t or s - t; a constant operand leaves the derivatives as they are."""
    value = run(*(v.value if isinstance(v, _Stream) else v for v in ins))
    s, t = ins
    if isinstance(s, _Stream) and isinstance(t, _Stream):
        right = t.bend if sign > 0 or t.bend is None else -t.bend
        return _Stream(value, _each(run, s.slopes, t.slopes), _plus(s.bend, right))
    stream, factor = (s, 1) if isinstance(s, _Stream) else (t, sign)

    def spread(p: Array) -> Array:
        p = p if factor > 0 else -p
        return p if p.shape == value.shape else jnp.broadcast_to(p, value.shape)

    return _Stream(value, _each(spread, stream.slopes), None if stream.bend is None else spread(stream.bend))


def _general(run: Callable[..., list[Any]], ins: list[Any], moving: list[int]) -> list[Any]:
    """Any operation, by nested jvp of it alone."""
    streams = [ins[i] for i in moving]

    def at(*operands: Array) -> list[Any]:
        full = [v.value if isinstance(v, _Stream) else v for v in ins]
        for i, operand in zip(moving, operands, strict=True):
            full[i] = operand
        return run(*full)

    values = tuple(s.value for s in streams)

    def first(*tangents: Array) -> list[Any]:
        return jax.jvp(at, values, tangents)[1]

    def both(*tangents: Array) -> tuple[list[Any], list[Any]]:
        return jax.jvp(lambda *p: jax.jvp(at, p, tangents)[1], values, tangents)

    pairs = _each(both, *(s.slopes for s in streams))
    unrolled = isinstance(streams[0].slopes, tuple)
    lifted = None
    if any(s.bend is not None for s in streams):
        lifted = first(*(jnp.zeros_like(s.value) if s.bend is None else s.bend for s in streams))
    outs: list[Any] = []
    for i, value in enumerate(at(*values)):
        if value is None or not _moves(value):
            outs.append(value)
            continue
        slopes = tuple(p[0][i] for p in pairs) if unrolled else pairs[0][i]
        bend = _total(tuple(p[1][i] for p in pairs) if unrolled else pairs[1][i])
        outs.append(_Stream(value, slopes, _plus(bend, None if lifted is None else lifted[i])))
    return outs


def _tanh(x: Array) -> tuple[Array, Array, Array]:
    y = jnp.tanh(x)
    d = 1 - y * y
    return y, d, -2 * y * d


def _logistic(x: Array) -> tuple[Array, Array, Array]:
    y = jax.nn.sigmoid(x)
    d = y * (1 - y)
    return y, d, d * (1 - 2 * y)


def _sin(x: Array) -> tuple[Array, Array, Array]:
    y = jnp.sin(x)
    return y, jnp.cos(x), -y


def _cos(x: Array) -> tuple[Array, Array, Array]:
    y = jnp.cos(x)
    return y, -jnp.sin(x), -y


def _exp(x: Array) -> tuple[Array, Array, Array]:
    y = jnp.exp(x)
    return y, y, y


def _power(x: Array, n: int) -> tuple[Array, Array, Array]:
    second = jnp.full_like(x, 2.0) if n == 2 else n * (n - 1) * x ** (n - 2)
    return x**n, n * x ** (n - 1), second


# f, f', f'' of elementwise functions.
_CURVES: dict[str, Callable[[Array], tuple[Array, Array, Array]]] = {
    "tanh": _tanh,
    "logistic": _logistic,
    "sin": _sin,
    "cos": _cos,
    "exp": _exp,
    "square": lambda x: _power(x, 2),
}

# Linear in the first operand; the others, where there are any, are indices.
_LINEAR = {"neg", "reshape", "broadcast_in_dim", "transpose", "reduce_sum", "squeeze", "expand_dims", "slice", "rev"}
_LINEAR |= {"convert_element_type", "copy", "copy_p", "cumsum", "gather", "dynamic_slice", "real", "imag"}
