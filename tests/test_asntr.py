"""What defines ASNTR: an independent sample that must agree, and a sample that grows where it does not."""

import jax
import numpy as np
import pytest
from logistic_sum import CONSISTENT, LOGISTIC, SIZE, START, TRUE, gap

import ravine as rv
from ravine.finite_sum import draw
from ravine.methods import ASNTR
from ravine.types import Status

jnp = jax.numpy
KEY = jax.random.key(6)
POINT = 0.3 * np.ones(SIZE)


def steps(method, objective, theta, count):
    """(parameters before, states before, states after, parameters after, infos) of each step."""

    def run(theta):
        state = method.init(objective, theta, key=KEY)

        def body(carry, key):
            step = method.step(objective, *carry, key=key)
            return (step.params, step.state), (*carry, step.state, step.params, step.info)

        return jax.lax.scan(body, (theta, state), jax.random.split(KEY, count))[1]

    return jax.tree.map(np.asarray, jax.jit(run)(jnp.asarray(theta)))


def test_with_all_rows_a_step_is_newtons_and_nothing_else_is_asked():
    value = lambda p: LOGISTIC.value(p)
    newton = -np.linalg.solve(jax.hessian(value)(jnp.asarray(POINT)), jax.grad(value)(jnp.asarray(POINT)))
    method = ASNTR(radius=100.0, batch=1000, tolerance=1e-13, iterations=40)
    _, _, after, theta, infos = steps(method, LOGISTIC, POINT, 1)
    np.testing.assert_allclose(theta[0] - POINT, newton, rtol=1e-8)
    assert infos.scalars["agreement"][0] == infos.scalars["rho"][0] and after.blocks[0] == 1
    run = rv.minimize(LOGISTIC, POINT, method, budget=rv.Budget(steps=20))
    assert gap(run.params) < 1e-14


def test_the_rules():
    method = ASNTR(batch=20, small=0.3)
    _, before, after, _, infos = steps(method, LOGISTIC, START, 40)
    rho, agreed, share = (infos.scalars[name] for name in ("rho", "agreement", "share"))
    np.testing.assert_allclose(share, np.ceil(before.blocks) / 16)
    whole, good = share == 1, rho >= 1e-4
    moved = infos.step_norm > 0
    np.testing.assert_array_equal(moved, good & (whole | (agreed >= 1e-4)))
    np.testing.assert_array_equal(infos.status == Status.OK, moved)
    quiet = infos.grad_norm < 0.3 * infos.grad_norm[0] * (1 - share)
    grows = ~whole & ((good & ~moved) | quiet)
    np.testing.assert_allclose(after.blocks, np.where(grows, np.minimum(1.5 * 16 * share, 16), before.blocks))
    np.testing.assert_array_equal(infos.scalars["radius"], before.radius)
    factor = after.radius / before.radius
    assert np.all(factor[rho < 0.1] == 0.5) and np.all(factor[(rho >= 0.1) & (rho <= 0.75)] == 1)
    assert np.all(np.isin(factor[rho > 0.75], (1, 2)))
    far = infos.step_norm >= 0.8 * before.radius  # of a step that was made, so its length is known
    np.testing.assert_array_equal(factor[moved & (rho > 0.75)] == 2, far[moved & (rho > 0.75)])
    assert set(factor[moved & (rho > 0.75)]) == {1, 2}
    assert share[0] == 1 / 16 and share[-1] == 1 and np.any(~moved & good)  # it grew because samples disagreed


def test_the_independent_sample_by_hand():
    method = ASNTR(batch=20, extra=12, slack=1e-2)
    theta, _, _, _, infos = steps(method, LOGISTIC, POINT, 1)
    key = jax.random.split(KEY, 1)[0]
    judge = LOGISTIC.rows(draw(jax.random.split(key)[1], LOGISTIC.sizes, 12))
    assert infos.step_norm[0] > 0
    moved = steps(method, LOGISTIC, POINT, 1)[3][0]
    slack = 1e-2 * infos.value[0]
    grad = np.asarray(jax.grad(lambda p: judge.value(p))(jnp.asarray(theta[0])))
    fall = float(judge.value(jnp.asarray(theta[0])) - judge.value(jnp.asarray(moved)))
    np.testing.assert_allclose(infos.scalars["agreement"][0], (fall + slack) / (grad @ grad), rtol=1e-9)


def test_the_slack_is_summable():
    """With all rows, ρ = (L + τ − L⁺)/(m(0) − m(s)), τ = slack |F₀|/(k + 1)^1.1 in step k; m by hand."""
    method = ASNTR(radius=0.3, batch=1000, slack=0.5, tolerance=1e-13, iterations=40)
    theta, _, _, after, infos = steps(method, LOGISTIC, POINT, 8)
    value = lambda p: LOGISTIC.value(jnp.asarray(p))
    grad, hessian = jax.jit(jax.grad(value)), jax.jit(jax.hessian(value))
    for k in range(8):
        if infos.step_norm[k] == 0:
            continue
        s = after[k] - theta[k]
        predicted = -(np.asarray(grad(theta[k])) @ s) - 0.5 * s @ np.asarray(hessian(theta[k])) @ s
        slack = 0.5 * abs(infos.value[0]) / (k + 1) ** 1.1
        fall = infos.value[k] - float(value(after[k]))
        if predicted > 1e-9:
            np.testing.assert_allclose(infos.scalars["rho"][k], (fall + slack) / predicted, rtol=1e-6)
    assert np.sum(infos.step_norm > 0) > 3


def test_where_all_rows_agree_the_sample_never_grows():
    run = rv.minimize(CONSISTENT, START, ASNTR(batch=30, small=1e-12), budget=rv.Budget(steps=60))
    np.testing.assert_allclose(run.params, TRUE, atol=1e-8)
    assert max(row["scalars.share"] for row in run.rows[:-1] if row["loss"] > 1e-15) == 0.1


def test_it_reaches_the_minimum_from_small_samples():
    run = rv.minimize(LOGISTIC, START, ASNTR(batch=20), budget=rv.Budget(steps=60))
    assert gap(run.params) < 1e-12
    assert run.rows[0]["scalars.share"] == 1 / 16


def test_bad_options_are_one_sentence():
    with pytest.raises(ValueError, match="ASNTR: growth must lie between 1 and inf, because a sample"):
        ASNTR(growth=1.0)
