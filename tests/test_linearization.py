"""Rows, products and curvature against dense automatic differentiation of the stacked rows."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ravine.linearization import Linearization, curvature_is_semidefinite, dims
from ravine.objective import Composite, LeastSquares, Scalar, Term

jnp = jax.numpy
RNG = np.random.default_rng(0)
PARAMS = {"a": RNG.normal(size=(3, 4)), "b": RNG.normal(size=4), "c": (RNG.normal(size=4), np.asarray(0.3))}
THETA, UNRAVEL = ravel_pytree(PARAMS)
X, Y = RNG.normal(size=(11, 3)), RNG.normal(size=(7, 3))
DIRECTION, ROW_SCALE = jnp.asarray(RNG.normal(size=THETA.size)), jnp.asarray(RNG.uniform(0.5, 2, THETA.size))


def net(p, x):
    return jnp.tanh(x @ p["a"] + p["b"]) @ p["c"][0] + p["c"][1]


def pair(p, x):
    u = net(p, x)
    return jnp.stack([u, u**2 + x[0]])


def mean(p, xs):
    return jnp.mean(jax.vmap(lambda x: net(p, x))(xs))[None]


SQUARES = LeastSquares(
    {
        "pde": Term(pair, X, weight=2.0),
        "edge": Term(net, Y, weight=RNG.uniform(size=7), quadrature=RNG.uniform(size=7)),
        "mean": Term(mean, X, weight=3.0, coupled=True),
    }
)
ENERGY = Composite(
    {"energy": Term(pair, X, weight=2.0), "edge": Term(net, Y)},
    {"energy": lambda z, x: jnp.logaddexp(z[0], 2 * z[1]) + x[0] * z[0]},
)


def dense_rows(theta):
    """The scaled rows written out term by term, sorted by name."""
    p, rows = UNRAVEL(theta), []
    for name in ("edge", "mean", "pde"):
        term = SQUARES.parts[name]
        z = term.outputs(p)
        rows.append((jnp.sqrt(term.measure(z.shape[0]))[:, None] * z).ravel())
    return jnp.concatenate(rows)


@pytest.fixture(scope="module")
def oracle():
    first = jax.jacfwd(dense_rows)
    return dense_rows(THETA), first(THETA), jax.jacfwd(first)(THETA)


@pytest.fixture(scope="module", params=[1 << 30, 1000, 1], ids=["whole", "chunks", "single"])
def local(request):
    return Linearization(SQUARES, PARAMS, whole_bytes=request.param)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_chunking_is_what_the_parameters_say():
    sizes = [Linearization(SQUARES, PARAMS, whole_bytes=b) for b in (1 << 30, 1000, 1)]
    assert [s.whole for s in sizes] == [True, False, False]
    assert [s.chunk for s in sizes[1:]] == [1000 // (8 * THETA.size), 1]


def test_rows_and_jacobian(local, oracle):
    residual, jac, _ = oracle
    assert local.dims == dims(SQUARES, PARAMS) == (30, THETA.size)
    close(local.residual, residual)
    close(local.jacobian(), jac)
    close(local.value, SQUARES.value(PARAMS))
    close(local.value, 0.5 * residual @ residual)
    close(local.grad, jac.T @ residual)
    close(local.rows_at(THETA + DIRECTION), dense_rows(THETA + DIRECTION))


def test_curvature(oracle):
    _, jac, _ = oracle
    for whole_bytes in (1 << 30, 1000, 1):
        local = Linearization(SQUARES, PARAMS, whole_bytes=whole_bytes)
        close(local.gram(), jac.T @ jac)
        close(local.column_squares, jnp.sum(jac**2, axis=0))
        close(local.kernel(), jac @ jac.T)
        close(local.kernel(ROW_SCALE), (jac * ROW_SCALE) @ jac.T)


def test_products(local, oracle):
    residual, jac, hess = oracle
    close(local.jvp(DIRECTION), jac @ DIRECTION)
    close(local.vjp(residual), jac.T @ residual)
    close(local.rows_times(DIRECTION), jac @ DIRECTION)
    close(local.rows_transposed(residual), jac.T @ residual)
    close(local.second(DIRECTION), hess @ DIRECTION @ DIRECTION)
    close(local.curve(DIRECTION)[0], jac @ DIRECTION)


def test_reverse_rows_of_the_gradient_without_a_jacobian(oracle):
    residual, jac, _ = oracle
    local = Linearization(SQUARES, PARAMS)
    close(local.grad, jac.T @ residual)
    assert "_jacobian" not in local.__dict__, "a gradient alone must not form the Jacobian"


@pytest.mark.parametrize("whole_bytes", [1 << 30, 600])
def test_composite_curvature_is_that_of_the_outer_function(whole_bytes):
    local = Linearization(ENERGY, PARAMS, whole_bytes=whole_bytes)
    outputs = lambda t: Linearization(ENERGY, UNRAVEL(t)).outputs
    z, jac = outputs(THETA), jax.jacfwd(outputs)(THETA)

    def energy_of_outputs(z):
        edge, pairs = z[:7], z[7:].reshape(11, 2)
        phi = jnp.logaddexp(pairs[:, 0], 2 * pairs[:, 1]) + X[:, 0] * pairs[:, 0]
        return jnp.mean(0.5 * edge**2) + 2.0 * jnp.mean(phi)

    curvature = jax.hessian(energy_of_outputs)(z)
    close(local.outputs, z)
    close(local.value, energy_of_outputs(z))
    close(local.grad, jac.T @ jax.grad(energy_of_outputs)(z))
    close(local.gram(), jac.T @ curvature @ jac)
    rows = local.jacobian()
    close(rows.T @ rows, jac.T @ curvature @ jac)
    close(local.kernel(), rows @ rows.T)
    close(local.rows_times(DIRECTION), rows @ DIRECTION)
    close(local.rows_transposed(jnp.arange(rows.shape[0]) * 1.0), jnp.arange(rows.shape[0]) @ rows)


def test_composite_without_an_outer_function_is_least_squares():
    plain = Composite({"edge": Term(net, Y, weight=2.0)}, {})
    close(Linearization(plain, PARAMS).gram(), Linearization(LeastSquares(plain.parts), PARAMS).gram())


def test_work_is_that_of_the_sweeps_made():
    """Rows: pde 2 x n_x, edge 7, mean 1 (coupled: one sweep over all). A point of two rows takes 1 + 2 · 2 sweeps."""
    n = len(X)
    extra = 2 * (2 - 1) * 2 * n
    cases = [
        (Linearization(SQUARES, PARAMS), {}, (0, 0, 30, extra)),
        (Linearization(SQUARES, PARAMS, whole_bytes=1), {"kernel": True, "passes": 2}, (30, 1, 60, 2 * extra)),
        (Linearization(ENERGY, PARAMS), {}, (0, 1, 2 * n + 7, extra)),
    ]
    for local, options, (jvp, vjp, rows, batch) in cases:
        done = local.work(**options)
        assert tuple(map(int, (done.jvp, done.vjp, done.rows, done.batch))) == (jvp, vjp, rows, batch)


def test_wrong_requests_are_refused_in_words():
    with pytest.raises(TypeError, match=r"no residual rows.*outputs"):
        _ = Linearization(ENERGY, PARAMS).residual
    with pytest.raises(TypeError, match="Scalar has no rows"):
        Linearization(Scalar(lambda p: jnp.sum(p["b"])), PARAMS)


def test_curvature_check_before_a_run():
    assert curvature_is_semidefinite(SQUARES, PARAMS) is None
    assert curvature_is_semidefinite(ENERGY, PARAMS) is None
    saddle = Composite({"e": Term(pair, X)}, lambda z, x: z[0] ** 2 - z[1] ** 2)
    assert "outer['e'] is not convex" in curvature_is_semidefinite(saddle, PARAMS)
    broken = Composite({"e": Term(pair, X)}, lambda z, x: jnp.sqrt(z[0] - 100.0))
    assert curvature_is_semidefinite(broken, PARAMS) is None, "the run will say so"


def test_a_linearization_traces_only_what_is_asked():
    def program(attribute):
        return str(jax.make_jaxpr(lambda t: attribute(Linearization(SQUARES, UNRAVEL(t))))(THETA))

    assert "ffi_call" in program(lambda local: local.gram())
    assert "ffi_call" not in program(lambda local: local.grad)
    assert len(program(lambda local: local.value)) < 0.6 * len(program(lambda local: local.grad))
