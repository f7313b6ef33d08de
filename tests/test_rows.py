"""Objectives as finite sums: batches are exact on the average, in value, gradient and rows of the Jacobian."""

import itertools

import jax
import numpy as np
import pytest

from ravine.finite_sum import batch_sizes, draw, draw_part, row_gradients
from ravine.method import Method, refusal
from ravine.objective import Composite, LeastSquares, Scalar, Structure, Term
from ravine.records import evaluations
from ravine.types import Counts, batch_work, counts
from ravine.views import Bind, bounds_on

jnp = jax.numpy
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(5, 2)), RNG.normal(size=4)
PARAMS = {"a": np.array([0.3, -0.7]), "b": np.asarray(0.4)}


def wave(p, x):
    return jnp.stack([jnp.sin(p["a"] @ x) + p["b"], p["b"] * x[0]])


def line(p, y):
    return p["a"][0] * y - p["b"] ** 2


def squares():
    """Five weighted rows of two outputs with quadrature, four plain ones of one."""
    first = Term(wave, X, weight=RNG.uniform(1, 2, 5), quadrature=RNG.uniform(0.1, 1, 5))
    return LeastSquares({"wave": first, "line": Term(line, Y, weight=3.0)})


def energy():
    own = squares()
    return Composite(own.parts, outer={"wave": lambda z, x: jnp.log(jnp.sum(jnp.exp(z))) + x[1]})


def batches(sizes, shares, replace):
    """All equally likely batches."""

    def subsets(n, b):
        return itertools.product(range(n), repeat=b) if replace else itertools.permutations(range(n), b)

    lists = [[np.array(i) for i in subsets(n, shares[name])] for name, n in sizes.items()]
    return [dict(zip(sizes, chosen, strict=True)) for chosen in itertools.product(*lists)]


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("make", [squares, energy])
def test_the_mean_over_all_batches_is_the_whole(make, replace):
    objective = make()
    each = jax.jit(lambda idx: objective.rows(idx).value_and_grad(PARAMS))
    found = [each(idx) for idx in batches(objective.sizes, {"line": 1, "wave": 2}, replace)]
    assert len(found) == 4 * (25 if replace else 20)
    value, grad = objective.value_and_grad(PARAMS)
    np.testing.assert_allclose(np.mean([v for v, _ in found]), value, rtol=1e-14)
    np.testing.assert_allclose(np.mean([flat(g) for _, g in found], axis=0), flat(grad), rtol=1e-12, atol=1e-15)
    assert np.std([v for v, _ in found]) > 0.01 * abs(value)


@pytest.mark.parametrize("make", [squares, energy])
def test_all_rows_in_any_order_are_the_objective(make):
    objective = make()
    whole = objective.rows({"line": [2, 0, 3, 1], "wave": [4, 1, 0, 3, 2]})
    assert type(whole) is type(objective) and whole.structure == objective.structure and whole.sizes == objective.sizes
    np.testing.assert_allclose(whole.value(PARAMS), objective.value(PARAMS), rtol=1e-14)
    hessian = [flat(o.hvp(PARAMS, PARAMS)) for o in (whole, objective)]
    np.testing.assert_allclose(*hessian, rtol=1e-12)
    np.testing.assert_allclose(whole.linearize(PARAMS).gram(), objective.linearize(PARAMS).gram(), rtol=1e-12)


def test_rows_of_the_jacobian_agree():
    objective = squares()
    idx = {"line": np.array([1, 3]), "wave": np.array([4, 0, 2])}
    local, batch = objective.linearize(PARAMS), objective.rows(idx).linearize(PARAMS)
    rows = np.concatenate([idx["line"], *[4 + 2 * i + np.arange(2) for i in idx["wave"]]])
    scale = np.sqrt(np.repeat([4 / 2, 5 / 3], [2, 6]))
    np.testing.assert_allclose(batch.jacobian(), scale[:, None] * local.jacobian()[rows], rtol=1e-13)
    np.testing.assert_allclose(batch.residual, scale * local.residual[rows], rtol=1e-13)


@pytest.mark.parametrize("make", [squares, energy])
def test_row_gradients_add_up(make):
    objective = make()
    shares = row_gradients(objective, PARAMS)
    value, grad = objective.value_and_grad(PARAMS)
    np.testing.assert_allclose(sum(np.sum(v) for v, _ in shares.values()), value, rtol=1e-13)
    np.testing.assert_allclose(sum(np.sum(g, axis=0) for _, g in shares.values()), flat(grad), rtol=1e-12, atol=1e-15)
    one = objective.rows({"line": [2], "wave": [3]}).value_and_grad(PARAMS)[1]
    np.testing.assert_allclose(4 * shares["line"][1][2] + 5 * shares["wave"][1][3], flat(one), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("make", [squares, energy])
def test_views_keep_the_rows(make):
    objective, params = make(), jax.tree.map(jnp.asarray, PARAMS)
    box = bounds_on([(-1.0, 1.0), None], [params["a"], params["b"]], ["a", "b"], "float64")
    free = box.inverse(params)
    frozen = objective.pull(Bind({"a": None, "b": params["b"]}))
    idx = {"line": [1, 2], "wave": [0, 3]}
    want = objective.rows(idx).value(params)
    for pulled, at in ((objective.pull(box), free), (frozen, {"a": params["a"], "b": None})):
        assert Structure.FINITE_SUM in pulled.structure and pulled.sizes == {"line": 4, "wave": 5}
        np.testing.assert_allclose(pulled.rows(idx).value(at), want, rtol=1e-12)
        np.testing.assert_allclose(pulled.rows(idx).value_and_grad(at)[0], want, rtol=1e-12)


class Draws(Method):
    needs = Structure.FINITE_SUM

    def init(self, objective, params, *, key):
        return ()

    def step(self, objective, params, state, *, key):
        raise NotImplementedError


def test_coupled_terms_and_scalars_are_no_finite_sums():
    mixed = LeastSquares(
        {"line": Term(line, Y), "mean": Term(lambda p, y: jnp.mean(y)[None] - p["b"], Y, coupled=True)}
    )
    assert Structure.FINITE_SUM not in mixed.structure and Structure.RESIDUAL in mixed.structure
    assert refusal(Draws(), squares()) is None
    for objective in (mixed, Scalar(lambda p: p["b"] ** 2)):
        sentence = refusal(Draws(), objective)
        assert sentence is not None and "coupled=False" in sentence and "FINITE_SUM" in sentence
    with pytest.raises(ValueError, match=r"coupled terms \['mean'\] have no rows"):
        mixed.rows({"line": [0], "mean": [0]})


def test_wrong_rows_are_refused():
    objective = squares()
    for idx, words in (
        ({"line": [0]}, "name every term"),
        ({"line": [0], "wave": [5]}, r"lie in \[0, 5\)"),
        ({"line": [-1], "wave": [1]}, r"lie in \[0, 4\)"),
        ({"line": [0.5], "wave": [1]}, "row numbers"),
        ({"line": [], "wave": [1]}, "b at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            objective.rows(idx)
    with pytest.raises(ValueError, match="9 different ones cannot be drawn"):
        draw(jax.random.key(0), {"line": 4}, {"line": 9})
    with pytest.raises(ValueError, match="positive whole number"):
        batch_sizes({"line": 4}, 0)


@pytest.mark.parametrize(
    ("batch", "shares"),
    [(1, (1, 1, 1)), (3, (1, 1, 1)), (10, (1, 2, 7)), (50, (1, 10, 39)), (126, (1, 25, 100)), (999, (1, 25, 100))],
)
def test_a_batch_is_shared_out(batch, shares):
    assert tuple(batch_sizes({"a": 1, "b": 25, "c": 100}, batch).values()) == shares


@pytest.mark.parametrize(("n", "b", "replace"), [(6, 3, False), (200, 5, False), (7, 6, False), (6, 3, True)])
def test_draws_are_uniform(n, b, replace):
    keys = jax.random.split(jax.random.key(1), 6000)
    found = np.asarray(jax.vmap(lambda k: draw(k, {"t": n}, {"t": b}, replace)["t"])(keys))
    assert found.shape == (6000, b) and found.min() == 0 and found.max() == n - 1
    repeated = np.array([len(set(row)) < b for row in found])
    assert repeated.any() if replace else not repeated.any()
    hits = np.bincount(found.ravel(), minlength=n)
    expected = 6000 * b / n
    assert np.sum((hits - expected) ** 2 / expected) < n + 6 * np.sqrt(2 * n)
    if (n, b, replace) == (6, 3, False):  # all 20 subsets
        _, often = np.unique(np.sort(found, axis=1), axis=0, return_counts=True)
        assert len(often) == 20 and np.sum((often - 300) ** 2 / 300) < 60


def test_a_part_of_a_batch_is_uniform():
    """The first rows of a drawn subset would not be: the last rows of a term come late in it."""

    def one(key):
        rows = draw(key, {"t": 60, "u": 2}, {"t": 12, "u": 2})
        return rows, draw_part(key, rows, {"t": 3, "u": 1})

    whole, part = jax.vmap(one)(jax.random.split(jax.random.key(1), 4000))
    for few, many in zip(part["t"].tolist(), whole["t"].tolist(), strict=True):
        assert set(few) <= set(many) and len(set(few)) == 3
    for name, rows in (("t", 60), ("u", 2)):
        counts = np.bincount(np.ravel(part[name]), minlength=rows)
        expected = part[name].size / rows
        assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_work_on_a_batch_counts_its_rows():
    gradient = counts(batch=batch_work(25, value=1, vjp=1))
    done = {k: int(v) for k, v in gradient._asdict().items()} | {"sampler": 0}
    assert Counts._fields[-1] == "batch" and evaluations(done, 100) == pytest.approx(3 * 25 / 100)
    assert batch_work(7, value=1, jvp=1, vjp=1, hvp=1) == 7 * (1 + 2 + 2 + 6)
