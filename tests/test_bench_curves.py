"""When a target counts as reached, what the final error is, and which clock is read."""

import math

import bench_samples as samples
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravine.bench.curves import NOTHING, Curve, at, band, common_grid, curve, reached, work, worse_median
from ravine.bench.record import record_of, result_of

INF = math.inf


def made(errors, seconds=None, compile_seconds=0.0, closing=True):
    seconds = list(range(len(errors))) if seconds is None else seconds
    return curve(samples.rows_of(seconds, errors, closing), "l2", compile_seconds, 100)


@pytest.mark.parametrize(
    ("errors", "when"),
    [
        ([1, 0.1, 0.1, 0.1, 1], 1),  # below, and below at the next two; what comes later does not matter
        ([1, 0.1, 1, 1, 1], INF),  # a dip of one evaluation
        ([1, 0.1, 0.1, 1, 1], INF),  # a dip of two
        ([1, 0.1, 1, 0.1, 0.1, 0.1], 3),  # the dip does not count, the later descent does
        ([1, 1, 1, 1, 0.1], 4),  # the last evaluation: it holds to the end of the run
        ([1, 1, 1, 0.1, 0.1], 3),  # the last but one, held to the end
        ([1, 1, 1, 0.1, 1], INF),  # the last but one, not held
        ([1, 1, 0.1, 0.1, 1], INF),  # the third from the end needs both of the others
        ([0.1], 0),  # a run of one evaluation
        ([0.1 + 1e-12] * 5, INF),  # at or below means what it says
        ([1, 0.1, math.nan, 0.1, 0.1], 3),  # not a number is above every target
        ([1, 0.1, -INF, 0.1, 1], INF),  # and so is minus infinity
    ],
)
def test_when_a_target_is_reached(errors, when):
    assert reached(made(errors), 0.1) == when


def test_the_final_error_is_that_of_the_returned_parameters_and_never_the_best():
    assert made([1, 1e-6, 1e-6, 1e-6, 0.3]).final == 0.3
    assert made([1, 1e-6, math.nan]).final == INF
    assert made([1, 1e-6, 1e-6], closing=False).final == INF, "a run without closing row has returned nothing"
    rows = samples.rows_of([0, 1, 2], [1, 1e-6, None])
    assert curve(rows, "l2", 0.0, 100).final == INF and curve(rows, "l2", 0.0, 100).errors.size == 2


def test_rows_without_a_score_are_no_evaluations():
    rows = samples.rows_of([0, 1, 2, 3, 4], [1, 0.1, None, 0.1, 0.1])
    assert reached(curve(rows, "l2", 0.0, 100), 0.1) == 1


def test_compile_seconds_never_enter_steady_time():
    plain, slow = made([1, 0.1, 0.1], [0, 2, 4]), made([1, 0.1, 0.1], [0, 2, 4], compile_seconds=100.0)
    assert reached(plain, 0.1) == reached(slow, 0.1) == 2
    assert reached(slow, 0.1, "total") == 102
    np.testing.assert_array_equal(plain.seconds, slow.seconds)
    np.testing.assert_array_equal(at(plain, np.array([1.0, 3.0])), at(slow, np.array([1.0, 3.0])))


def test_work_is_counted_in_the_unit_of_the_driver():
    row = {"counts.residual": 5, "counts.jvp": 7, "counts.vjp": 11, "counts.hvp": 2, "counts.sampler": 1.5}
    # residual 1, jvp 2, vjp 2, hvp 6, sampler 1; 250 Jacobian rows of 100 are 2.5 Jacobians of 3
    expected = 5 + 14 + 22 + 12 + 1.5 + 7.5
    assert work([row | {"counts.rows": 250}], 100) == pytest.approx([expected])
    with pytest.raises(ValueError, match="number of residual rows"):
        work([row | {"counts.rows": 250}], None)
    assert reached(made([1, 1, 0.1, 0.1]), 0.1, "work") == 2 * (1 + 2)


def test_work_that_nobody_counted_is_not_zero(tmp_path):
    """A library that does not say what it evaluates would otherwise win every comparison of work."""
    assert np.isnan(work([{"counts.residual": None}, {"counts.residual": 1, "counts.rows": None}], None)).all()
    assert work([{}], None) == [0.0]
    rows = [row | {"counts.residual": None} for row in samples.rows_of([0, 1, 2], [1, 0.01, 0.01])]
    made = record_of(samples.write(tmp_path / "r", rows))
    assert set(made["times"]) == {"seconds", "total"} and made["work"] is None
    with pytest.raises(ValueError, match="no axis 'work'; it has seconds, total"):
        result_of(made).time(0.1, "work")


def test_the_target_of_the_run_is_one_of_those_whose_time_is_recorded(tmp_path):
    rows = samples.rows_of([0, 1, 2], [1, 0.03, 0.03])
    of_the_error = record_of(samples.write(tmp_path / "a", rows, task=..., target={"l2": 0.05}))
    assert of_the_error["times"]["seconds"]["0.05"] == 1
    of_the_loss = record_of(samples.write(tmp_path / "b", rows, task=..., target={"loss": 0.05}))
    assert "0.05" not in of_the_loss["times"]["seconds"]


def test_a_clock_that_runs_backwards_is_refused():
    with pytest.raises(ValueError, match="backwards"):
        made([1, 0.1], [3.0, 2.0])
    with pytest.raises(ValueError, match="one of seconds, total, work"):
        reached(made([1]), 0.1, "minutes")


def test_curves_are_steps_with_the_last_value_at_or_before():
    run = made([4, 2, 1], [1.0, 2.0, 4.0])
    grid = np.array([0.5, 1.0, 1.99, 2.0, 3.9, 4.0, 100.0])
    assert at(run, grid).tolist() == [INF, 4, 4, 2, 2, 1, 1]
    assert at(NOTHING, grid).tolist() == [INF] * 7


def test_the_band_is_the_worse_median_and_the_range():
    runs = [made([8, 4], [0, 1]), made([6, 1], [0, 1]), made([7, math.nan], [0, 1])]
    found = band(runs, np.array([0.0, 1.0]))
    assert found.median.tolist() == [7, 4] and found.low.tolist() == [6, 1] and found.high.tolist() == [8, INF]
    found = band([*runs, NOTHING], np.array([0.0, 1.0]))
    assert found.median.tolist() == [8, INF], "of four the worse of the two in the middle; the failure counts"
    with pytest.raises(ValueError, match="no runs"):
        worse_median([])


def test_the_common_grid_spans_all_runs():
    grid = common_grid([made([1, 1], [0.0, 2.0]), made([1, 1], [0.5, 8.0])], size=5)
    np.testing.assert_allclose(grid, [0.5, 1, 2, 4, 8])
    with pytest.raises(ValueError, match="none of the 1 runs"):
        common_grid([NOTHING])


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-9, 10), min_size=1, max_size=12),
    st.floats(1e-8, 5),
    st.floats(1.0, 10),
    st.floats(0.01, 100),
)
def test_easier_targets_come_no_later_and_time_scales(errors, target, easier, pace):
    seconds = [float(i) for i in range(len(errors))]
    run, scaled = made(errors, seconds), made(errors, [pace * s for s in seconds])
    assert reached(run, target * easier) <= reached(run, target)
    assert reached(scaled, target) == pace * reached(run, target)


@settings(deadline=None)
@given(st.lists(st.one_of(st.just(INF), st.floats(1e-9, 10)), min_size=1, max_size=15), st.floats(1e-8, 5))
def test_reaching_agrees_with_the_definition_read_aloud(errors, target):
    expected = next((i for i in range(len(errors)) if all(e <= target for e in errors[i : i + 3])), INF)
    assert reached(Curve(np.array(errors), *[np.arange(len(errors))] * 3, errors[-1]), target) == expected


def test_prescribed_methods_through_their_folders(tmp_path):
    made = {m: samples.record(tmp_path, m, 1) for m in samples.METHODS}
    first = {m: [made[m]["times"]["seconds"][repr(t)] for t in (0.1, 0.01, 0.001, 0.0001)] for m in made}
    assert first == {
        "fast": [1, 2, 3, 4],
        "slow": [10, 20, 30, 40],
        "failing": [INF] * 4,
        "diverging": [1, 2, 3, INF],
        "lucky": [INF] * 4,
    }
    assert {m: made[m]["error"] for m in made} == {
        "fast": 1e-6, "slow": 1e-6, "failing": INF, "diverging": INF, "lucky": 0.5
    }  # fmt: skip


def test_time_spent_on_metrics_changes_no_reading(tmp_path):
    quick = record_of(samples.write(tmp_path / "a", samples.rows_of([0, 1, 2], [1, 0.1, 0.1]), wall_seconds=2.1))
    slow = record_of(samples.write(tmp_path / "b", samples.rows_of([0, 1, 2], [1, 0.1, 0.1]), wall_seconds=9e5))
    for entry in ("times", "seconds", "total_seconds", "work", "error"):
        assert quick[entry] == slow[entry]


def test_a_slow_callback_of_a_real_run_is_off_its_clock():
    """The driver's part of the rule: what is slept in a callback is in the wall seconds only."""
    import time

    import jax.numpy as jnp

    import ravine as rv

    nap, steps = 0.03, 40
    objective = rv.LeastSquares({"r": rv.Term(lambda p, x: p["w"] * x - 1.0, jnp.linspace(0.1, 1.0, 8)[:, None])})
    run = rv.minimize(
        objective,
        {"w": jnp.zeros(())},
        rv.methods.Adam(),
        budget=rv.Budget(steps=steps),
        callbacks=(lambda row, params: time.sleep(nap),),
    )
    slept = nap * steps
    assert run.wall_seconds > slept
    assert run.seconds < 0.5 * slept
    assert run.rows[-1]["seconds"] <= run.seconds + 1e-9
