"""Methods on finite sums: what their theorems promise, on small strongly convex sums with known constants."""

import jax
import numpy as np
import pytest
from finite_sums import BEST, CONVEX, OBJECTIVE, SMOOTH, ZERO, N, gap, gradient_on, logistic, path_of, trajectories
from small import FIT, residual, start, steady

from ravine import Budget, Stages, minimize
from ravine.finite_sum import batch_sizes, draw, is_affine
from ravine.methods import (
    ASNTR,
    SAGA,
    SARAH,
    SGD,
    STORM,
    SVRG,
    Adam,
    Averaged,
    MUlSTREG,
    MultilevelMonteCarlo,
    StochasticLBFGS,
)
from ravine.objective import LeastSquares, Term
from ravine.registry import find
from ravine.views import bounds_on

jnp = jax.numpy


def distance(params, info):
    return jnp.sum((params["w"] - BEST) ** 2)


def squared_gradient(params, info):
    return jnp.sum(OBJECTIVE.value_and_grad(params)[1]["w"] ** 2)


def test_svrg_keeps_the_rate_of_its_theorem():
    m, alpha = 900, 0.1 / SMOOTH
    rho = 1 / (CONVEX * alpha * (1 - 2 * SMOOTH * alpha) * m) + 2 * SMOOTH * alpha / (1 - 2 * SMOOTH * alpha)
    assert rho < 0.4
    method = SVRG(learning_rate=alpha, batch=1, inner=m, snapshot="random")
    found = np.mean(trajectories(method, OBJECTIVE, ZERO, 4 * m + 1, 20, gap)[:, ::m], axis=0)  # at the snapshots
    assert found.shape == (5,) and np.all(found[1:] <= rho * found[:-1])
    assert found[-1] > 0  # a rate, not a floor


def test_sarah_keeps_the_rates_of_its_theorems():
    m, alpha = 600, 0.3 / SMOOTH
    sigma = 1 / (CONVEX * alpha * m) + alpha * SMOOTH / (2 - alpha * SMOOTH)
    assert sigma < 0.3
    method = SARAH(learning_rate=alpha, batch=1, inner=m, snapshot="random")
    found = np.mean(trajectories(method, OBJECTIVE, ZERO, 3 * m + 1, 20, squared_gradient)[:, ::m], axis=0)
    assert np.all(found[1:] <= sigma * found[:-1])
    # within the first round: E|v_t|² by itself
    directions = trajectories(method, OBJECTIVE, ZERO, m, 20, lambda params, info: info.grad_norm**2)
    factor = 1 - (2 / (alpha * SMOOTH) - 1) * (CONVEX * alpha) ** 2
    bound = directions[0, 0] * factor ** np.arange(m)
    assert np.all(np.mean(directions, axis=0) <= bound * (1 + 1e-12))


@pytest.mark.parametrize("storage", ["scalars", "gradients"])
def test_saga_keeps_the_rate_of_its_theorem(storage):
    alpha = 1 / (2 * (CONVEX * N + SMOOTH))
    method = SAGA(learning_rate=alpha, batch=1, storage=storage)
    steps = 2400
    found = np.mean(trajectories(method, OBJECTIVE, ZERO, steps, 20, distance), axis=0)
    value, grad = OBJECTIVE.value_and_grad({"w": jnp.asarray(BEST)})
    bregman = OBJECTIVE.value(ZERO) - value - np.sum(np.asarray(grad["w"]) * (ZERO["w"] - BEST))
    first = np.sum(BEST**2) + N / (CONVEX * N + SMOOTH) * bregman
    bound = first * (1 - CONVEX / (2 * (CONVEX * N + SMOOTH))) ** np.arange(steps)
    assert bound[-1] < 1e-2 * first and np.all(found <= bound)


def value_on(rows, w):
    """½ mean (aᵀw − y)² over some rows of OBJECTIVE, in NumPy."""
    points = OBJECTIVE.parts["fit"].points
    a, y = (np.asarray(points[k])[np.asarray(rows)] for k in ("a", "y"))
    return np.mean((a @ w - y) ** 2) / 2


@pytest.mark.parametrize("snapshot", ["last", "random"])
@pytest.mark.parametrize("cls", [SVRG, SARAH])
def test_svrg_and_sarah_are_their_recurrence(cls, snapshot):
    """In NumPy, with the rows and the iterate that each step's key draws."""
    method = cls(learning_rate=0.3, batch=3, inner=5, snapshot=snapshot)
    where, infos, _ = path_of(method, OBJECTIVE, ZERO, 23)
    keys = jax.random.split(jax.random.split(jax.random.key(11), 1)[0], 23)
    w, t, round_, picks = np.zeros(4), 0, [], set()
    reference, direction, stored = np.zeros(4), np.zeros(4), 0.0
    for k, key in enumerate(keys):
        np.testing.assert_allclose(where[k], w, rtol=0, atol=1e-12)
        for_batch, for_pick = jax.random.split(key)
        if t == 0:
            v, value, round_ = gradient_on(OBJECTIVE, np.arange(N), w), value_on(np.arange(N), w), []
            pick = int(jax.random.randint(for_pick, (), 0, 5, jnp.int32))
            picks.add(pick)
        else:
            rows = draw(for_batch, {"fit": N}, {"fit": 3})["fit"]
            v = gradient_on(OBJECTIVE, rows, w) - gradient_on(OBJECTIVE, rows, reference) + direction
            value = value_on(rows, w) - value_on(rows, reference) + stored
        if t == 0 or cls is SARAH:
            reference, direction, stored = w, v, value
        np.testing.assert_allclose(infos.value[k], value, rtol=1e-9)
        np.testing.assert_allclose(infos.grad_norm[k], np.linalg.norm(v), rtol=1e-9)
        round_.append(w)
        w = round_[pick] if snapshot == "random" and t == 4 else w - 0.3 * v
        t = (t + 1) % 5
    assert len(picks) > 1 and infos.counts.vjp.sum() == 5


@pytest.mark.parametrize("cls", [SVRG, SARAH])
def test_the_step_length_follows_the_curvature(cls):
    """It begins as a share of 1/λ_max and follows the largest secant of a batch."""
    method = cls(batch=3, inner=6, share=0.1)
    where, infos, _ = path_of(method, OBJECTIVE, ZERO, 40)
    hessian = jax.hessian(lambda w: OBJECTIVE.value({"w": w}))(jnp.zeros(4))
    assert infos.scalars["step_size"][0] == pytest.approx(0.1 / np.linalg.eigvalsh(hessian)[-1], rel=1e-2)
    assert list(np.flatnonzero(infos.counts.hvp)) == [0] and infos.counts.hvp[0] == 10
    keys = jax.random.split(jax.random.split(jax.random.key(11), 1)[0], 40)
    reference, met = where[0], 0.1 / infos.scalars["step_size"][0]
    for k in range(1, 40):
        if k % 6:
            rows = draw(jax.random.split(keys[k])[0], {"fit": N}, {"fit": 3})["fit"]
            change = gradient_on(OBJECTIVE, rows, where[k]) - gradient_on(OBJECTIVE, rows, reference)
            met = max(0.999 * met, np.linalg.norm(change) / np.linalg.norm(where[k] - reference))
        assert infos.scalars["step_size"][k] == pytest.approx(0.1 / met, rel=1e-9)
        reference = where[k] if cls is SARAH or k % 6 == 0 else reference


def test_a_random_iterate_of_a_round_is_not_always_its_start():
    """A batch of all rows makes rounds as short as they can be."""
    where, _, _ = path_of(SVRG(learning_rate=0.3, batch=N, snapshot="random"), OBJECTIVE, ZERO, 40)
    assert np.linalg.norm(where[-1] - BEST) < 0.9 * np.linalg.norm(BEST)


@pytest.mark.parametrize("method", [SVRG, SARAH, SAGA])
def test_constant_steps_reach_the_minimiser(method):
    run = minimize(
        OBJECTIVE, ZERO, method(learning_rate=0.3, batch=4), budget=Budget(steps=20000), target={"grad_norm": 1e-12}
    )
    assert run.status == "reached_target", run.reason
    np.testing.assert_allclose(run.params["w"], BEST, atol=1e-10)


def test_saga_storages_are_one_method():
    objective, _ = logistic()
    runs = [
        trajectories(SAGA(learning_rate=0.3, batch=3, storage=s), objective, {"w": np.zeros(5)}, 200, 1, watched)
        for s in ("scalars", "gradients", "auto")
    ]
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)
    state = SAGA(batch=3).init(objective, {"w": np.zeros(5)}, key=None)
    assert {k: v.shape for k, v in state.table.items()} == {"loss": (80, 1), "penalty": (1, 5)}


def watched(params, info):
    return params["w"], info.value


def test_saga_sees_what_is_affine():
    affine, params = OBJECTIVE.parts["fit"], {"w": jnp.zeros(4)}
    box = bounds_on([(-5.0, 5.0)], [params["w"]], ["w"], "float64")
    assert is_affine(affine, params) and not is_affine(OBJECTIVE.pull(box).parts["fit"], params)
    assert not is_affine(Term(residual, np.zeros((2, 1))), start())
    assert not is_affine(Term(lambda p, x: p["w"] @ p["w"] * x[0], np.zeros((2, 1))), params)
    with pytest.raises(ValueError, match="affine in the parameters, and those of the term 'fit' are not"):
        minimize(FIT, start(), SAGA(storage="scalars"), budget=Budget(steps=2))
    assert SAGA().init(FIT, start(), key=None).table["fit"].shape == (24, 24)
    assert SAGA(storage="scalars").footprint(1000, 50) < SAGA().footprint(1000, 50)


def test_saga_finds_the_optimum_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    objective, (a, y) = logistic()
    reference = linear.LogisticRegression(
        C=1 / (0.05 * len(y)), solver="saga", fit_intercept=False, tol=1e-14, max_iter=100_000, random_state=0
    ).fit(a, y)
    method = SAGA(learning_rate=0.2, batch=4)
    run = minimize(objective, {"w": np.zeros(5)}, method, budget=Budget(steps=50_000), target={"grad_norm": 1e-11})
    assert run.status == "reached_target", run.reason
    np.testing.assert_allclose(run.params["w"], reference.coef_[0], atol=1e-8)


def floor_of_sgd(alpha, batch):
    """Mean of L − L* once it no longer falls, of our SGD on our mini-batches drawn with replacement."""
    steps = int(12 / (alpha * CONVEX))
    batches = find("samplers", "minibatch").load()(size=batch, replace=True).batches(OBJECTIVE, {}, 0)
    method = SGD(alpha, momentum=None)

    def gaps(key):
        def body(carry, k):
            step = method.step(batches.draw(OBJECTIVE, k, 0), *carry, key=k)
            return (step.params, step.state), gap(carry[0], None)

        begin = {"w": jnp.asarray(BEST)}
        start = begin, method.init(OBJECTIVE, begin, key=None)
        return jax.lax.scan(body, start, jax.random.split(key, steps))[1]

    found = jax.jit(jax.vmap(gaps))(jax.random.split(jax.random.key(5), 100))
    return float(np.mean(found[:, steps // 2 :]))


def test_the_floor_of_sgd_is_step_times_variance_over_batch():
    a, y = OBJECTIVE.parts["fit"].points["a"], OBJECTIVE.parts["fit"].points["y"]
    rows = a * (a @ BEST - y)[:, None]
    variance = np.mean(np.sum(rows**2, axis=1))  # of one row's gradient at the minimiser
    # To first order in α the stationary covariance solves HΣ + ΣH = αS/b, so E[L − L*] = ½ tr(HΣ) = α tr(S)/(4b).
    for alpha, batch in ((0.02, 1), (0.2, 10), (0.2, 50), (0.02, 10)):
        assert floor_of_sgd(alpha, batch) == pytest.approx(alpha * variance / (4 * batch), rel=0.15)


@pytest.mark.parametrize(
    "method",
    [
        SVRG(learning_rate=1.0, batch=2, inner=5),
        SAGA(learning_rate=1.0, batch=2),
        MultilevelMonteCarlo(learning_rate=1.0, batch=9),
    ],
    ids=lambda m: type(m).__name__,
)
def test_directions_are_unbiased(method):
    """One step from a state made at other parameters: the mean direction is the gradient, the mean value L."""
    objective, _ = logistic()
    here, there = {"w": jnp.asarray([0.3, -0.2, 0.5, 0.1, 0.0])}, {"w": jnp.zeros(5)}
    state = method.init(objective, there, key=None)
    state = method.step(objective, there, state, key=jax.random.key(0)).state

    def one(key):
        step = method.step(objective, here, state, key=key)
        return here["w"] - step.params["w"], step.info.value

    directions, values = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 4000))
    value, grad = objective.value_and_grad(here)
    for found, want in ((directions, grad["w"]), (values[:, None], value[None])):
        error = np.std(found, axis=0) / np.sqrt(4000)
        assert np.all(error > 0) and np.all(np.abs(np.mean(found, axis=0) - want) < 4 * error)


def test_storm_is_its_recurrence():
    method = STORM(batch=2, learning_rate=0.3, offset=0.05, decay=6.0)
    where, infos, drawn = path_of(method, OBJECTIVE, ZERO, 40)
    w, before, d, weight, squares, value = np.zeros(4), np.zeros(4), np.zeros(4), 1.0, 0.0, 0.0
    for k, rows in enumerate(drawn):
        np.testing.assert_allclose(where[k], w, rtol=0, atol=1e-12)
        g = gradient_on(OBJECTIVE, rows, w)
        d = g + (1 - weight) * (d - gradient_on(OBJECTIVE, rows, before))
        value = value_on(rows, w) + (1 - weight) * (value - value_on(rows, before))
        np.testing.assert_allclose(infos.value[k], value, rtol=1e-9)
        squares += g @ g
        rate = 0.3 / (0.05 + squares) ** (1 / 3)
        np.testing.assert_allclose(infos.scalars["weight"][k], weight, rtol=1e-12)
        before, w, weight = w, w - rate * d, min(1.0, 6.0 * rate**2)
    assert np.any(infos.scalars["weight"][1:] < 0.5) and infos.scalars["weight"][1] == 1  # kept at most 1, then falls


def test_storm_knows_the_gradient_better_than_a_batch():
    method = STORM(batch=2)

    def error(params, info):
        return (info.grad_norm - jnp.sqrt(squared_gradient(params, info))) ** 2, params["w"]

    errors, where = trajectories(method, OBJECTIVE, ZERO, 3000, 20, error)
    late = where[:, -1]
    keys = jax.random.split(jax.random.key(2), 500)

    def alone(key):
        idx = draw(key, {"fit": N}, 2)
        return jnp.linalg.norm(OBJECTIVE.rows(idx).value_and_grad({"w": late[0]})[1]["w"])

    true = jnp.sqrt(squared_gradient({"w": late[0]}, None))
    single = np.mean((jax.vmap(alone)(keys) - true) ** 2)
    assert np.mean(errors[:, -100:]) < 0.1 * single
    assert np.mean(np.sum((late - BEST) ** 2, axis=1)) < 0.02 * np.sum(BEST**2)


def test_a_lucky_batch_is_no_optimum():
    """Rows that vanish at the start beside rows that do not: batches of the first see no gradient at all."""
    x = np.concatenate([np.zeros(15), np.ones(1)])[:, None]
    lucky = LeastSquares({"fit": Term(lambda p, x: (p["w"][0] - 1.0) * x[0], x)})
    for run in (
        minimize(lucky, {"w": np.zeros(1)}, SGD(0.5, momentum=None), sampler="minibatch", budget=Budget(steps=1)),
        minimize(lucky, {"w": np.zeros(1)}, SGD(0.05, momentum=None), sampler=one_row(), budget=Budget(steps=60)),
        minimize(lucky, {"w": np.zeros(1)}, STORM(batch=1), budget=Budget(steps=60), target=1e-12),
    ):
        assert run.status == "budget", run.reason
        for row in run.rows[:-1]:
            assert row["grad_norm"] > 0
        assert len(run.rows) == run.summary["counts"]["checks"]
    assert any(row["scalars.batch_grad_norm"] == 0 for row in run.rows[:-1])


def one_row():
    return find("samplers", "minibatch").load()(size=1)


def test_work_is_counted_in_rows():
    run = minimize(FIT, start(), SVRG(batch=4, inner=6), budget=Budget(steps=12))
    assert run.summary["counts"] == dict.fromkeys(run.summary["counts"], 0) | {
        "residual": 2, "vjp": 2, "hvp": 10, "batch": 10 * 6 * 4, "checks": 13,
    }  # fmt: skip
    spent = minimize(FIT, start(), SAGA(batch=4, learning_rate=1e-2), budget=Budget(evaluations=10.0))
    assert spent.steps == 14 and "evaluations" in spent.reason  # 3 for the table, 3 · 4/24 a step


def test_batches_of_ordinary_methods_resume_exactly(tmp_path):
    def go(steps, **kwargs):
        grows = find("samplers", "normtest").load()(size=2, theta=0.3, every=10)
        return minimize(FIT, start(), Adam(1e-2), sampler=grows, budget=Budget(steps=steps), **kwargs)

    whole = go(45)
    assert whole.summary["notes"] and whole.summary["points_moved"] == 0
    go(23, checkpoint=tmp_path)
    again = go(45, checkpoint=tmp_path)
    assert steady(again.rows) == steady(whole.rows) and again.summary["notes"] == whole.summary["notes"]


def test_fixed_batches_use_every_row_equally_often():
    sampler = find("samplers", "fixedbatches").load()(size=5)
    objective = LeastSquares({"a": Term(lambda p, x: p["w"][0] - x[0], np.arange(13.0)[:, None])})
    batches = sampler.batches(objective, {}, 0)
    used = [np.asarray(batches.draw(objective, None, k).parts["a"].points).ravel() for k in range(13)]
    assert {len(set(batch)) for batch in used} == {5}
    np.testing.assert_array_equal(np.bincount(np.concatenate(used).astype(int)), np.full(13, 5))
    assert batch_sizes(objective.sizes, 5) == {"a": 5}


def test_a_batch_of_other_terms_or_of_no_rows_is_refused():
    with pytest.raises(ValueError, match=r"draw: batch must name every term; got \['b'\], the terms are \['a', 'b'\]"):
        draw(jax.random.key(0), {"a": 4, "b": 5}, {"b": 2})
    with pytest.raises(ValueError, match="batch=0: must be a positive whole number of rows"):
        batch_sizes({"a": 4}, 0)


def test_a_batch_larger_than_the_sum_is_noted():
    for name in ("minibatch", "fixedbatches", "normtest", "innerproduct"):
        for size, notes in ((N, []), (N + 1, ["there are 60 rows, so a batch has 60"])):
            sampler = find("samplers", name).load()(size=size)
            run = minimize(OBJECTIVE, ZERO, SGD(0.1, momentum=None), sampler=sampler, budget=Budget(steps=1))
            assert [note.partition(": ")[2] for note in run.summary["notes"]] == notes


def test_a_sample_of_a_method_that_cannot_be_had_is_noted():
    two = LeastSquares({name: OBJECTIVE.parts["fit"] for name in "ab"})

    def notes(method, objective=OBJECTIVE):
        return minimize(objective, ZERO, method, budget=Budget(steps=1)).summary["notes"]

    assert notes(SAGA(batch=N)) == notes(SGD(0.1)) == []
    assert notes(SAGA(batch=N + 1)) == ["SAGA(batch=61): there are 60 rows, so a batch has 60"]
    assert notes(Averaged(SAGA(batch=N + 1))) == notes(SAGA(batch=N + 1))
    assert notes(STORM(batch=1), two) == ["STORM(batch=1): each of 2 terms gives a row, so a batch has 2"]
    both = notes(ASNTR(batch=20, extra=61)) + notes(StochasticLBFGS(batch=100, pair_batch=70))
    assert [note.count("there are 60 rows") for note in both] == [1, 2]
    twice = Stages((SAGA(batch=99), 1), SVRG(batch=99))
    assert [note.partition("(")[0] for note in notes(twice)] == ["SAGA", "SVRG"]


def test_methods_that_cannot_live_with_batches_are_refused():
    for name, words in (("lbfgs", "compares gradients"), ("cg", "compares gradients"), ("svrg", "its own batches")):
        with pytest.raises(ValueError, match=words):
            minimize(FIT, start(), name, sampler="minibatch", budget=Budget(steps=1))
    mean = Term(lambda p, x: jnp.mean(x)[None] - p["b"][0], np.zeros((4, 1)), coupled=True)
    with pytest.raises(ValueError, match="MiniBatch needs FINITE_SUM"):
        minimize(LeastSquares({"m": mean}), start(), "adam", sampler="minibatch", budget=Budget(steps=1))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SVRG(learning_rate=0.0), "SVRG: learning_rate must lie between 0 and inf"),
        (lambda: SARAH(inner=0), "SARAH: inner must be an integer of at least 1; got 0"),
        (lambda: SVRG(inner=1, snapshot="random"), "SVRG: inner must be an integer of at least 2; got 1"),
        (lambda: SVRG(snapshot="first"), "SVRG: snapshot='first' is unknown"),
        (lambda: SAGA(storage="scalar"), "SAGA: storage='scalar' is unknown; did you mean 'scalars'"),
        (lambda: STORM(offset=0.0), "STORM: offset must lie between 0 and inf"),
        (lambda: MultilevelMonteCarlo(memory=1.0), r"MultilevelMonteCarlo: memory must lie in \[0, 1\)"),
        (lambda: MUlSTREG(factor=1.0), "MUlSTREG: factor must lie between 1 and inf"),
        (lambda: MUlSTREG(ratio=0), "MUlSTREG: ratio must be an integer of at least 1; got 0"),
    ],
)
def test_bad_options_are_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
