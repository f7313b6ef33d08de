"""Samplers: where points go, when they move, and that moving them recompiles nothing."""

import itertools

import jax
import numpy as np
import pytest
from small import FIT, POINTS, residual, start, steady

from ravine import Budget, LeastSquares, Points, Term, minimize
from ravine import methods as m
from ravine.driver import engine
from ravine.driver.precision import cast
from ravine.sampling import Fixed, Fresh, PointGuard, ResidualAdaptive
from ravine.sampling.base import pick

jnp = jax.numpy


def draw(seed, sizes):
    """Uniform points on [-1, 1], as many as asked."""
    rng = np.random.default_rng(seed)
    return {name: Points(rng.uniform(-1, 1, (n, 1))) for name, n in (sizes or {"fit": 24}).items()}


def bump(params, x):
    """A residual that lives near x = 0.5; the parameter scales it."""
    return params * jnp.exp(-100.0 * (x[0] - 0.5) ** 2)


def flat(params, x):
    return params + 0.0 * x[0]


def between(params, x):
    """Zero at the 24 grid points, large between them: what an over-fitted network looks like."""
    return params * jnp.sin(23 * jnp.pi * (x[0] + 1) / 2)


def objective(fn, points=POINTS, **options):
    return cast(LeastSquares({"fit": Term(fn, points, **options)}), "float64")


ONE = jnp.asarray(1.0)


def act(sampler, of, seed=0, step=10, state=None, source=draw):
    return sampler.act(of, ONE, sampler.start(of) if state is None else state, source, seed, step)


def points_of(look):
    return np.asarray(look.objective.parts["fit"].points)


# -- fresh -----------------------------------------------------------------------------------------------------


def test_fresh_points_are_all_new_and_reproducible():
    look = act(Fresh(), FIT)
    assert look.changed and look.note is None
    assert points_of(look).shape == POINTS.shape and not np.isin(points_of(look), POINTS).any()
    np.testing.assert_array_equal(points_of(act(Fresh(), FIT)), points_of(look))
    assert np.any(points_of(act(Fresh(), FIT, step=20)) != points_of(look))
    assert np.any(points_of(act(Fresh(), FIT, seed=1)) != points_of(look))


def test_fresh_keeps_the_numbers_of_the_run_and_not_the_source_default():
    look = act(Fresh(), objective(residual, POINTS[:10]))
    assert points_of(look).shape == (10, 1)


def test_identical_fresh_points_are_reported():
    grid = lambda seed, sizes: {"fit": np.linspace(-1.0, 1.0, sizes["fit"])[:, None]}
    look = act(Fresh(), FIT, source=grid)
    assert not look.changed and "points of fit are identical" in look.note
    run = minimize(FIT, start(), "adam", sampler=Fresh(every=3), draw=grid, budget=Budget(steps=9))
    assert run.summary["points_moved"] == 0 and "identical" in run.summary["notes"][0]
    assert steady(run.rows)[4]["loss"] == steady(minimize(FIT, start(), "adam", budget=Budget(steps=9)).rows)[4]["loss"]


def test_fresh_takes_new_quadrature_weights():
    of = objective(residual, POINTS, quadrature=np.full(24, 0.5))
    look = act(Fresh(), of, source=lambda seed, sizes: {"fit": Points(0.5 * POINTS, np.full(24, 0.25))})
    np.testing.assert_array_equal(look.objective.parts["fit"].quadrature, 0.25)


# -- residual-adaptive -----------------------------------------------------------------------------------------


def near(points):
    return np.mean(np.abs(points - 0.5) < 0.15)


def test_rad_follows_the_residual():
    of = objective(bump)
    drawn = {power: points_of(act(ResidualAdaptive(power=power, constant=0.0, pool=16), of)) for power in (1.0, 2.0)}
    uniform = points_of(act(ResidualAdaptive(power=0.0, pool=16), of))
    assert near(drawn[1.0]) > 0.8 and near(uniform) < 0.4
    spread = {power: np.std(points) for power, points in drawn.items()}
    assert spread[2.0] < spread[1.0] < np.std(uniform)
    half = points_of(act(ResidualAdaptive(pool=16), of))  # the constant keeps about half of them everywhere
    assert near(uniform) < near(half) < near(drawn[1.0])


def test_rad_density_in_numbers():
    """Frequencies of many draws against p ∝ |r|/mean|r| + 1 on a fixed pool of 64 points."""
    pool = np.linspace(-1, 1, 64)[:, None]
    of = objective(lambda p, x: p * (1.0 + 3.0 * (x[0] > 0)), POINTS[:16])
    source = lambda seed, sizes: {"fit": pool}
    looks = [act(ResidualAdaptive(), of, seed=s, source=source) for s in range(200)]
    share = np.mean([np.mean(points_of(look) > 0) for look in looks])
    weights = np.where(pool[:, 0] > 0, 4.0, 1.0) / 2.5 + 1.0
    assert abs(share - weights[32:].sum() / weights.sum()) < 0.04  # drawn without replacement: a little less
    assert looks[0].q == pytest.approx(8.5 / 4.75)  # mean squares of the pool and of the first 16 grid points
    assert looks[0].sweeps == 1 + 64 / 16


# -- the point guard -------------------------------------------------------------------------------------------


def test_the_guard_leaves_good_points_alone():
    guard = PointGuard()
    look = act(guard, objective(flat))
    assert not look.changed and look.q == pytest.approx(1.0)
    assert look.objective.parts["fit"].n == 24 and int(look.state["fit/alarms"]) == 0
    assert look.pool_loss == pytest.approx(0.5)
    assert look.sweeps == pytest.approx(1 + 128 / 24)  # a pool of 4 · 24, rounded up to a power of two


def test_the_guard_swaps_then_doubles():
    guard, of, state = PointGuard(growth=2), objective(between), None
    sizes, qs = [], []
    for step in (10, 20, 30, 40):
        look = act(guard, of, step=step, state=state)
        kept = np.isin(np.asarray(of.parts["fit"].points), points_of(look)).sum()
        sizes.append((look.objective.parts["fit"].n, int(kept)))
        qs.append(look.q)
        state, stale = look.state, of  # the training points stay bad: only the count of alarms goes on
        of = stale if step < 30 else look.objective
    assert qs[0] > 1e20
    assert sizes[:2] == [(24, 19), (24, 19)]  # a fifth swapped
    assert sizes[2] == (48, 24)  # the third alarm in a row doubles them
    assert sizes[3][0] == 48  # and never beyond `growth`
    again = act(guard, objective(between))
    np.testing.assert_array_equal(points_of(again), points_of(act(guard, objective(between))))
    assert np.any(points_of(again) != points_of(act(guard, objective(between), seed=1)))


@pytest.mark.parametrize("options", [{"growth": 16}, {"growth": 4, "pool": 1}])
def test_every_doubling_has_a_pool_that_is_large_enough(options):
    guard, of, state = PointGuard(**options), objective(between), None
    for step in range(10, 200, 10):
        look = act(guard, of, step=step, state=state)
        state = look.state
        if look.objective.parts["fit"].n > of.parts["fit"].n:
            bad = np.resize(POINTS, (look.objective.parts["fit"].n, 1))  # the new ones stay bad, too
            of = objective(between, bad)
    assert of.parts["fit"].n == 24 * options["growth"]


@pytest.mark.parametrize("sampler", [PointGuard(), ResidualAdaptive()])
def test_sweeps_are_over_all_points(sampler):
    """96 of 100 points are measured: a look at the other four and at a pool of 16 is 20 of 100."""
    terms = {"few": Term(flat, POINTS[:4]), "data": Term(flat, np.resize(POINTS, (96, 1)))}
    source = Measured()
    look = sampler.act(cast(LeastSquares(terms), "float64"), ONE, sampler.start(LeastSquares(terms)), source, 0, 10)
    assert look.sweeps == pytest.approx(20 / 100)


class Measured:
    measured = frozenset({"data"})

    def __call__(self, seed, sizes):
        return draw(seed, sizes)


def test_by_default_the_guard_swaps_and_never_grows():
    of, state = objective(between), None
    for step in (10, 20, 30, 40):
        look = act(PointGuard(), of, step=step, state=state)
        state = look.state
        assert look.objective.parts["fit"].n == 24 and look.changed


class Singular:
    """Points on [-1, 1] of which those beyond 0.5 belong to a singularity."""

    def __call__(self, seed, sizes):
        return draw(seed, sizes)

    def resolvable(self, name, points):
        return np.asarray(points)[:, 0] <= 0.5


def test_unresolvable_points_count_for_nothing_and_stay():
    of = objective(lambda p, x: jnp.where(x[0] > 0.5, 1e6, between(p, x)))
    singular = POINTS[:, 0] > 0.5
    for sampler in (PointGuard(swap=0.9), ResidualAdaptive()):
        look = act(sampler, of, source=Singular())
        np.testing.assert_array_equal(points_of(look)[singular], POINTS[singular])
        assert np.any(points_of(look)[~singular] != POINTS[~singular]) and np.all(points_of(look)[~singular] <= 0.5)
        assert look.pool_loss < 1.0  # of the residual between the points, not of 1e6
    calm = objective(lambda p, x: jnp.where(x[0] > 0.5, 1e6 * x[0], flat(p, x)))
    assert act(PointGuard(), calm, source=Singular()).q == pytest.approx(1.0)


def test_an_alarm_is_forgotten_once_the_points_are_good():
    guard = PointGuard()
    state = act(guard, objective(between)).state
    assert int(state["fit/alarms"]) == 1
    assert int(act(guard, objective(flat), state=state).state["fit/alarms"]) == 0


def test_coupled_weighted_and_measured_terms_keep_their_points():
    class Data:
        measured = frozenset({"data"})

        def __call__(self, seed, sizes):
            return draw(seed, {"data": 24, "fit": 24, "weighted": 24} | sizes)

    parts = {
        "data": Term(between, POINTS),
        "fit": Term(between, POINTS),
        "weighted": Term(between, POINTS, quadrature=np.full(24, 1 / 24)),
        "mean": Term(lambda p, xs: jnp.mean(xs, axis=0), POINTS, coupled=True),
    }
    of = cast(LeastSquares(parts), "float64")
    for sampler in (PointGuard(), ResidualAdaptive()):
        look = act(sampler, of, source=Data())
        moved = {k for k, t in look.objective.parts.items() if np.any(np.asarray(t.points) != POINTS)}
        assert moved == {"fit"}


# -- robustness ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [PointGuard(mix=1.0), ResidualAdaptive(constant=0.0)], ids=["guard", "rad"])
@pytest.mark.parametrize(
    "fn",
    [
        lambda p, x: jnp.where(x[0] < 0, jnp.nan, p * x[0]),
        lambda p, x: jnp.where(x[0] < 0, jnp.inf, p * x[0]),
        lambda p, x: jnp.where(x[0] > 0.99, p, 0.0),  # hardly any point has a positive probability
        lambda p, x: jnp.full((), jnp.nan) * p,
    ],
    ids=["nan", "inf", "almost zero", "all nan"],
)
def test_residuals_that_are_no_numbers_end_nothing(sampler, fn):
    look = act(sampler, objective(fn, 0.5 * POINTS + 0.49))
    points = points_of(look)
    assert points.shape == POINTS.shape and np.all(np.isfinite(points))


def test_a_point_without_a_residual_is_drawn_last():
    look = act(ResidualAdaptive(), objective(lambda p, x: jnp.where(x[0] < 0, jnp.nan, p)))
    assert np.all(points_of(look) >= 0)


def test_pick():
    rng = np.random.default_rng(0)
    assert set(pick(np.array([0.0, 1, 0, 1, np.nan, np.inf]), 2, rng)) == {1, 3}
    assert set(pick(np.zeros(4), 4, rng)) == {0, 1, 2, 3}
    assert set(pick(np.array([0.0, 0, 1]), 2, rng)) >= {2}


# -- in a run --------------------------------------------------------------------------------------------------


def test_moving_points_recompiles_nothing_and_refreshes():
    minimize(FIT, start(), "lbfgs", budget=Budget(steps=2))
    traces = len(engine.traces)
    seen = []
    run = minimize(
        FIT,
        start(),
        "lbfgs",
        sampler=Fresh(every=5),
        draw=draw,
        budget=Budget(steps=20),
        callbacks=[lambda row, params: seen.append((row, params))],
    )
    assert len(engine.traces) == traces
    assert run.summary["points_moved"] == 3
    at_five = FIT.replace(fit=FIT.parts["fit"].with_points(points_of(act(Fresh(), FIT, step=5))))
    for row, params in seen[:10]:
        of = FIT if row["step"] < 5 else at_five
        np.testing.assert_allclose(row["loss"], of.value(params), rtol=1e-12)  # a stale stored value would show here
        np.testing.assert_allclose(row["terms.fit"], row["loss"], rtol=1e-12)
    losses = [row["loss"] for row, _ in seen]
    assert all(b <= a for i in range(0, 20, 5) for a, b in itertools.pairwise(losses[i : i + 5]))


def test_work_of_the_sampler_is_counted():
    run = minimize(FIT, start(), "lm", sampler=PointGuard(every=2), draw=draw, budget=Budget(steps=7))
    assert run.final["counts.sampler"] == pytest.approx(3 * (1 + 128 / 24))
    assert run.rows[0]["counts.sampler"] == 0


def test_the_method_says_how_often_the_guard_looks():
    for method in (m.Adam(), m.LevenbergMarquardt()):
        assert PointGuard().period(method) == method.guard_every
        assert PointGuard(every=7).period(method) == 7
    assert m.LevenbergMarquardt.guard_every < m.Adam.guard_every
    assert Fixed().period(m.Adam()) is None


def test_growth_recompiles_once_and_goes_on():
    """A residual of parameters that cannot fit between the points: three alarms in a row, then twice the points."""

    def stiff(params, x):
        return params["a"] - 1.0 + 10 * jnp.sin(23 * jnp.pi * (x[0] + 1) / 2) * params["c"]

    of, before = LeastSquares({"fit": Term(stiff, POINTS)}), len(engine.traces)
    sampler = PointGuard(every=2, swap=0.01, growth=2)
    run = minimize(
        of,
        {"a": np.asarray(0.0), "c": np.asarray(1.0)},
        m.SGD(1e-4),
        sampler=sampler,
        draw=draw,
        budget=Budget(steps=12),
    )
    assert any("24 -> 48 points" in note for note in run.summary["notes"]), run.summary
    assert np.isfinite(run.final["loss"]) and run.status == "budget" and run.steps == 12
    assert len(engine.traces) == before + 2, "a program for 24 rows and one for 48"


@pytest.mark.parametrize(
    "sampler",
    [None, Fresh(every=2), ResidualAdaptive(every=2, pool=16), PointGuard(every=2, pool=8)],
    ids=["none", "fresh", "rad", "guard"],
)
def test_nothing_is_traced_once_the_clock_runs(sampler):
    """Of two stages and a sampler, on programs that nobody has traced before."""

    def mine(params, x):
        return residual(params, x) + 0.0 * x[0]

    heard, marks = [], []
    listen = lambda name, *_, **__: heard.append(name) if "jaxpr_trace" in name or "compile" in name else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        options = {"sampler": sampler, "draw": draw, "budget": Budget(steps=9)}
        hear = lambda row, params: marks.append(len(heard))
        run = minimize(LeastSquares({"fit": Term(mine, POINTS)}), start(), "adam:4+lm", callbacks=[hear], **options)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert run.steps == 9 and len(marks) == 9
    assert marks[0] == marks[-1] > 0, heard[marks[0] :]
