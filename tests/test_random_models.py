"""What defines STORM and stochastic Levenberg-Marquardt: samples that grow as the radius shrinks, and their models."""

import dataclasses

import jax
import numpy as np
import pytest
from logistic_sum import CONSISTENT, LOGISTIC, SIZE, START, TRUE, gap

import ravine as rv
from ravine.methods import StochasticLM, STORMTrustRegion
from ravine.methods.growing_sample import Blocks
from ravine.methods.random_model import blocks_for, part_of
from ravine.objective import Composite, LeastSquares, Term
from ravine.types import Status

jnp = jax.numpy
KEY = jax.random.key(4)
POINT = 0.3 * np.ones(SIZE)
BOTH = pytest.mark.parametrize("cls", [STORMTrustRegion, StochasticLM])


def steps(method, objective, theta, count):
    """(parameters before, states before, states after, infos) of each step."""

    def run(theta):
        state = method.init(objective, theta, key=KEY)

        def body(carry, key):
            step = method.step(objective, *carry, key=key)
            return (step.params, step.state), (*carry, step.state, step.info)

        return jax.lax.scan(body, (theta, state), jax.random.split(KEY, count))[1]

    return jax.tree.map(np.asarray, jax.jit(run)(jnp.asarray(theta)))


def test_the_mean_over_blocks():
    @jax.jit
    def means(key):
        blocks = Blocks(LOGISTIC, 20, key)
        mean = lambda c: blocks.mean(lambda f: f.value_and_grad(jnp.asarray(POINT)), c)
        return blocks.order, [mean(jnp.asarray(c)) for c in (1, 4, blocks.number)], blocks.rows(POINT, jnp.asarray(4))

    order, (one, four, whole), rows = means(KEY)
    data = np.asarray(order["data"])
    assert sorted(data) == list(range(300))
    zero = np.zeros(1, int)
    parts = [LOGISTIC.rows({"data": data[19 * i : 19 * i + 19], "ridge": zero}) for i in range(4)]
    expected = [part.value_and_grad(jnp.asarray(POINT)) for part in parts]
    np.testing.assert_allclose(one[0], expected[0][0], rtol=1e-12)
    np.testing.assert_allclose(four[1], np.mean([e[1] for e in expected], axis=0), rtol=1e-10)
    np.testing.assert_allclose(whole[0], LOGISTIC.value(jnp.asarray(POINT)), rtol=1e-14)
    assert int(rows) == 4 * (19 + SIZE)
    means_of_two = jax.jit(
        jax.vmap(lambda k: Blocks(LOGISTIC, 20, k).mean(lambda f: f.value(jnp.asarray(POINT)), jnp.asarray(2)))
    )(jax.random.split(KEY, 2000))
    error = float(means_of_two.std()) / np.sqrt(2000)
    assert abs(float(means_of_two.mean()) - float(LOGISTIC.value(jnp.asarray(POINT)))) < 5 * error


def test_how_many_blocks():
    ratios = jnp.asarray([0.1, 1.0, 1.5, 2.0, 4.0, 1e30])
    assert blocks_for(ratios, 2, 16).tolist() == [1, 1, 3, 4, 16, 16]
    assert blocks_for(ratios, 4, 1000).tolist() == [1, 1, 6, 16, 256, 1000]


@pytest.mark.parametrize("radius", [0.05, 100.0])
def test_with_all_rows_a_step_of_slm_is_the_dense_regularised_one(radius):
    method = StochasticLM(radius=radius, batch=1000, tolerance=1e-13, iterations=40)
    theta, _, _, infos = steps(method, LOGISTIC, POINT, 2)
    local = LOGISTIC.linearize(jnp.asarray(POINT))
    grad, gram = np.asarray(local.grad), np.asarray(local.gram())
    dense = -np.linalg.solve(gram + np.linalg.norm(grad) / radius * np.eye(SIZE), grad)
    np.testing.assert_allclose(theta[1] - theta[0], dense, rtol=1e-9)
    assert np.linalg.norm(dense) <= radius
    predicted = -(grad @ dense) - 0.5 * dense @ gram @ dense
    actual = float(LOGISTIC.value(jnp.asarray(POINT)) - LOGISTIC.value(jnp.asarray(POINT + dense)))
    np.testing.assert_allclose(infos.scalars["rho"][0], actual / predicted, rtol=1e-8)


def looped(jaxpr, inside=False):
    """Names of all operations inside a while loop of a program."""
    for eqn in jaxpr.eqns:
        if inside:
            yield eqn.primitive.name
        deeper = inside or eqn.primitive.name == "while"
        programs = lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        for leaf in jax.tree.leaves(list(eqn.params.values()), is_leaf=programs):
            if programs(leaf):
                yield from looped(getattr(leaf, "jaxpr", leaf), deeper)


def test_slm_linearises_the_whole_sum_once_and_not_in_every_product():
    wave = LeastSquares({"wave": Term(lambda p, x: jnp.sin(p @ x[:2]) - x[2], np.ones((7, 3)))})
    method, theta = StochasticLM(batch=7), jnp.asarray([0.2, 0.3])

    def step(theta):
        return method.step(wave, theta, method.init(wave, theta, key=KEY), key=KEY).params

    program = jax.make_jaxpr(step)(theta).jaxpr
    assert "while" in str(program) and "sin" in str(program)
    inside = set(looped(program))
    assert "dot_general" in inside and not {"sin", "cos"} & inside


@BOTH
@pytest.mark.parametrize("part", [1, 2])
def test_products_on_blocks_are_those_of_their_mean(cls, part):
    """One block, several, and (part 1) all of them: CG to the end solves with the mean of their matrices."""
    method = cls(batch=40, part=part, tolerance=1e-13, iterations=40)
    radius, damped = (1.0, 1.0) if cls is StochasticLM else (1e3, 0.0)
    blocks, params, grad = Blocks(LOGISTIC, 40, KEY), jnp.asarray(POINT), jnp.linspace(-1.0, 1.0, SIZE)
    propose = jax.jit(lambda count: method.propose(blocks, count, params, grad, jnp.asarray(radius)))
    for ratio in (1.0, 2.0, 8.0):
        count = part_of(blocks_for(jnp.asarray(ratio), 2, blocks.number), part)
        trial = propose(count)
        chosen = [LOGISTIC] if int(count) == blocks.number else [blocks.block(i) for i in range(int(count))]
        gram = np.mean([np.asarray(f.linearize(params).gram()) for f in chosen], axis=0)
        dense = -np.linalg.solve(gram + damped * np.linalg.norm(grad) / radius * np.eye(SIZE), grad)
        np.testing.assert_allclose(trial.move, dense, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(trial.predicted, -(grad @ dense) - 0.5 * dense @ gram @ dense, rtol=1e-8)


def test_with_all_rows_a_step_of_storm_is_newtons_inside_and_as_long_as_the_radius_outside():
    value = lambda p: LOGISTIC.value(p)
    newton = -np.linalg.solve(jax.hessian(value)(jnp.asarray(POINT)), jax.grad(value)(jnp.asarray(POINT)))
    method = STORMTrustRegion(radius=100.0, batch=1000, tolerance=1e-13, iterations=40)
    theta, _, _, infos = steps(method, LOGISTIC, POINT, 1)
    theta = np.asarray(theta[0]), infos.step_norm[0]
    np.testing.assert_allclose(theta[1], np.linalg.norm(newton), rtol=1e-9)
    _, _, _, infos = steps(STORMTrustRegion(radius=0.05, batch=1000), LOGISTIC, POINT, 1)
    np.testing.assert_allclose(infos.step_norm[0], 0.05, rtol=1e-12)


@BOTH
def test_radius_and_samples_follow_each_other(cls):
    method = cls(batch=20)
    _, before, after, infos = steps(method, LOGISTIC, START, 60)
    moved = infos.step_norm > 0
    np.testing.assert_array_equal(after.radius, np.where(moved, 2.0, 0.5) * before.radius)
    np.testing.assert_array_equal(infos.status == Status.OK, moved)
    assert np.all(infos.scalars["rho"][moved] >= 0.1)
    large = infos.grad_norm >= 0.01 * infos.grad_norm[0] * before.radius
    assert np.all(large[moved]) and np.all(~large[~moved] | (infos.scalars["rho"][~moved] < 0.1))
    blocks = np.clip(np.ceil(before.radius**-2.0), 1, 16) / 16
    np.testing.assert_allclose(infos.scalars["gradient_share"], blocks)
    assert blocks[0] == 1 / 16 and blocks.max() == 1  # from one block to all rows
    np.testing.assert_allclose(infos.scalars["value_share"], np.clip(np.ceil(before.radius**-4.0), 1, 16) / 16)
    assert infos.counts.batch[0] < 0.5 * infos.counts.batch[-1]


@BOTH
def test_the_rows_that_judge_are_drawn_apart_from_those_of_the_model(cls):
    theta, _, _, infos = steps(cls(batch=20), LOGISTIC, POINT, 1)
    model, judge = (Blocks(LOGISTIC, 20, k).block(0) for k in jax.random.split(jax.random.split(KEY, 1)[0]))
    here = jnp.asarray(theta[0])
    np.testing.assert_allclose(infos.value[0], float(judge.value(here)), rtol=1e-12)
    np.testing.assert_allclose(infos.grad_norm[0], np.linalg.norm(model.value_and_grad(here)[1]), rtol=1e-12)
    assert not np.isclose(float(model.value(here)), float(judge.value(here)), rtol=1e-3)


@BOTH
def test_scaling_the_loss_changes_nothing(cls):
    scaled = Composite(
        {k: dataclasses.replace(t, weight=2.0**10 * t.weight) for k, t in LOGISTIC.parts.items()}, LOGISTIC.outer
    )
    plain, other = (steps(cls(batch=20, enough=0.3), o, START, 12) for o in (LOGISTIC, scaled))
    np.testing.assert_allclose(other[0], plain[0], rtol=1e-9, atol=1e-12)


@BOTH
def test_it_reaches_the_minimum_from_small_samples(cls):
    run = rv.minimize(LOGISTIC, START, cls(batch=20), budget=rv.Budget(steps=80))
    assert gap(run.params) < 1e-9
    early = run.rows[6]["counts.batch"] / 6
    assert early < 0.3 * run.rows[-1]["counts.batch"] / run.rows[-1]["step"]


@BOTH
def test_where_all_rows_agree_one_block_is_enough(cls):
    method = cls(batch=30, radius=4.0, enough=1e-9)
    run = rv.minimize(CONSISTENT, START, method, budget=rv.Budget(steps=60))
    np.testing.assert_allclose(run.params, TRUE, atol=1e-8)
    # Until rounding decides, the radius never has to shrink: every gradient was that of a tenth of the rows.
    shares = [row["scalars.gradient_share"] for row in run.rows[:-1] if row["loss"] > 1e-15]
    assert len(shares) > 3 and max(shares) <= 0.1


@BOTH
def test_bad_options_are_one_sentence(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__}: accept must lie between 0 and 1"):
        cls(accept=1.5)
    with pytest.raises(ValueError, match=f"{cls.__name__}: tolerance must lie between 0 and 1"):
        cls(tolerance=1.0)
