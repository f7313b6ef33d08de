"""Aggregates of methods with prescribed curves, against values worked out by hand (see bench_samples)."""

import math

import bench_samples as samples
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravine.bench import profiles
from ravine.bench.results import Result, balanced
from ravine.bench.summary import as_csv, as_text, sheets, text

INF = math.inf
TARGETS = (0.1, 0.01, 0.001, 0.0001)
TWO = {"poisson2d": 1.0, "burgers1d": 10.0}  # the second problem takes ten times as long everywhere


def height(steps, where):
    return float(steps(where))


def test_distribution_of_times_to_many_targets(tmp_path):
    found = profiles.runtime_ecdf(samples.results(tmp_path), TARGETS)  # 3 seeds x 4 targets = 12 triples a method
    assert found["fast"].x.tolist() == [1, 2, 3, 4] and found["fast"].y.tolist() == [0.25, 0.5, 0.75, 1]
    assert found["slow"].x.tolist() == [10, 20, 30, 40] and found["slow"].y.tolist() == [0.25, 0.5, 0.75, 1]
    assert found["diverging"].x.tolist() == [1, 2, 3] and found["diverging"].y.tolist() == [0.25, 0.5, 0.75]
    assert found["lucky"].x.tolist() == [0.5, 1, 1.5, 2]
    np.testing.assert_allclose(found["lucky"].y, [1 / 12, 2 / 12, 3 / 12, 4 / 12])
    assert found["failing"].x.size == 0 and height(found["failing"], INF) == 0
    assert [height(found["fast"], t) for t in (0, 0.999, 1, 1.5, 4, INF)] == [0, 0, 0.25, 0.25, 1, 1]


def test_times_include_compilation_only_on_the_total_axis(tmp_path):
    runs = samples.results(tmp_path, methods=("fast", "slow"), compile_seconds=5.0)
    assert profiles.runtime_ecdf(runs, TARGETS, "total")["fast"].x.tolist() == [6, 7, 8, 9]
    assert profiles.runtime_ecdf(runs, TARGETS, "work")["fast"].x.tolist() == [3, 6, 9, 12]
    assert profiles.runtime_ecdf(runs, TARGETS, "work")["slow"].x.tolist() == [3, 6, 9, 12]


def test_performance_profiles(tmp_path):
    """Medians over seeds: fast 1 2 3 4, slow 10 20 30 40, diverging 1 2 3 -, others nothing; then ten times as long."""
    found = profiles.performance_profile(samples.results(tmp_path, TWO), TARGETS)
    assert height(found["fast"], 1) == 1
    assert [height(found["slow"], t) for t in (1, 9.99, 10)] == [0, 0, 1]
    assert [height(found["diverging"], t) for t in (0.99, 1, 1e9)] == [0, 0.75, 0.75]
    assert height(found["lucky"], 1e300) == height(found["failing"], 1e300) == 0
    assert [profiles.profile_score(found[m]) for m in samples.METHODS] == [1, 0, 0, 0.75, 0]
    assert profiles.profile_score(found["slow"], 19.0) == pytest.approx(0.5)  # one on half of 1..19


def test_performance_profile_of_one_seed_favours_the_lucky_one(tmp_path):
    found = profiles.performance_profile(samples.results(tmp_path, seeds=(0,)), TARGETS)
    assert height(found["lucky"], 1) == 1 and height(found["fast"], 1.99) == 0 and height(found["fast"], 2) == 1
    assert height(found["slow"], 19.9) == 0 and height(found["slow"], 20) == 1


def test_a_case_that_nobody_solves_stays_in_the_denominator(tmp_path):
    found = profiles.performance_profile(samples.results(tmp_path), (1e-6, 1e-7))
    assert height(found["fast"], 1e300) == 0.5


def test_ratios_with_zeros_and_misses():
    found = profiles.ratios(np.array([[0.0, 2, INF, 0], [0.0, 4, INF, 3], [5.0, INF, INF, INF]]))
    assert found.tolist() == [[1, 1, INF, 1], [1, 2, INF, INF], [INF, INF, INF, INF]]


def test_profiles_of_final_errors(tmp_path):
    runs = samples.results(tmp_path, TWO)
    found = profiles.error_profile(runs)
    assert height(found["fast"], 1) == height(found["slow"], 1) == 1
    assert [height(found["lucky"], t) for t in (4.99e5, 5.01e5)] == [0, 1]
    assert height(found["diverging"], 1e300) == height(found["failing"], 1e300) == 0


def test_quality_profiles_compare_with_the_start(tmp_path):
    """All start at 1 but lucky on its other seeds, which stay at the 0.5 they start from: ratio 1."""
    found = profiles.quality_profile(samples.results(tmp_path, TWO))
    assert [height(found["fast"], a) for a in (9e-7, 1e-6)] == [0, 1]
    assert [height(found["lucky"], a) for a in (0.99, 1)] == [0, 1]
    assert height(found["diverging"], 1e300) == height(found["failing"], 1e300) == 0
    runs = [samples.result(p, "a", 0, e, start=4.0) for p, e in (("p", 1.0), ("q", 2.0))]
    assert profiles.quality_profile(runs)["a"].x.tolist() == [0.25, 0.5]
    with pytest.raises(ValueError, match="no error at the start"):
        profiles.quality_profile([samples.result("p", "a", 0, 0.1)])


def test_errors_below_the_floor_are_equal():
    runs = [samples.result("p", m, 0, e, floor=1e-6) for m, e in (("a", 9e-7), ("b", 1e-9), ("c", 2e-6))]
    found = profiles.error_profile(runs)
    assert height(found["a"], 1) == height(found["b"], 1) == 1
    assert height(found["c"], 1.99) == 0 and height(found["c"], 2.01) == 1


def test_shifted_geometric_mean_counts_misses():
    assert profiles.shifted_geometric_mean([1, 2, 3, INF], 1, 7) == pytest.approx((2 * 3 * 4 * 8) ** 0.25 - 1)
    assert profiles.shifted_geometric_mean([4, 9], 0, 9) == pytest.approx(6)
    assert profiles.shifted_geometric_mean([INF, INF], 10, 7) == pytest.approx(7)
    with pytest.raises(ValueError, match="miss=7 must be finite and no less than the longest time"):
        profiles.shifted_geometric_mean([1, 8, INF], 1, 7)
    for times, shift in (([], 1), ([math.nan], 1), ([1], -1)):
        with pytest.raises(ValueError, match="times without NaN and a shift >= 0"):
            profiles.shifted_geometric_mean(times, shift, 7)


def test_wilson_intervals():
    z2 = 1.959963984540054**2
    assert profiles.wilson(3, 3) == (pytest.approx(3 / (3 + z2)), 1.0)
    assert profiles.wilson(0, 3) == (0.0, pytest.approx(z2 / (3 + z2)))
    assert profiles.wilson(8, 10) == (pytest.approx(0.49016, abs=1e-5), pytest.approx(0.94332, abs=1e-5))
    for k, n in ((1, 7), (5, 9), (12, 13)):  # the bounds solve (k/n - p)^2 = z^2 p (1 - p) / n
        for p in profiles.wilson(k, n):
            assert (k / n - p) ** 2 == pytest.approx(z2 * p * (1 - p) / n)
    with pytest.raises(ValueError, match="0 <= successes <= runs"):
        profiles.wilson(4, 3)


def test_success_rates(tmp_path):
    found = profiles.success(samples.results(tmp_path), 1e-4)
    assert {m: (s.reached, s.runs) for m, s in found.items()} == {
        "fast": (3, 3), "slow": (3, 3), "failing": (0, 3), "diverging": (0, 3), "lucky": (1, 3)
    }  # fmt: skip
    assert (found["lucky"].low, found["lucky"].high) == profiles.wilson(1, 3)
    assert profiles.success(samples.results(tmp_path), 1e-4, within=39.9)["slow"].reached == 0


def test_nobody_gains_by_a_run_that_is_lacking(tmp_path):
    runs = samples.results(tmp_path, methods=("fast", "lucky"))
    shown = [r for r in runs if (r.method, r.seed) != ("lucky", 2)]
    with pytest.raises(ValueError, match="lucky has no run on poisson2d seed 2"):
        profiles.error_profile(shown)
    kept, notes = balanced(shown)
    assert {(r.method, r.seed) for r in kept} == {(m, s) for m in ("fast", "lucky") for s in (0, 1)}
    assert notes == ["poisson2d seed 2 is left out: there is no run of lucky."]
    long = balanced([r for r in samples.results(tmp_path / "b", seeds=range(9)) if r.method == "fast" or r.seed == 8])
    (note,) = long.notes  # one sentence for all that lack the same methods
    assert note.startswith("poisson2d seed 0, poisson2d seed 1, ") and " seed 5 and 2 more are left out: " in note
    with pytest.raises(ValueError, match="two results of this run"):
        balanced([*runs, runs[0]])
    with pytest.raises(ValueError, match="give at least one run"):
        profiles.quality_profile([])


def test_unequal_budgets_are_not_compared():
    runs = [samples.result("p", "a", 0, 0.1, budget="60s"), samples.result("p", "b", 0, 0.1, budget="90s")]
    with pytest.raises(ValueError, match="compared runs need the same"):
        profiles.error_profile(runs)


@pytest.mark.parametrize("status", ["failed", "interrupted", "running", "missing", "unreadable"])
def test_what_failed_or_did_not_finish_counts_as_a_miss(status):
    run = samples.result("p", "a", 0, 1e-9, {0.1: 1.0}, status=status)
    assert run.final == INF and run.time(0.1) == INF


def test_wrong_results_are_refused():
    with pytest.raises(ValueError, match="negative or not a number"):
        samples.result("p", "a", 0, 0.1, {0.1: -1.0})
    with pytest.raises(ValueError, match=r"no time to 0\.2 was recorded; there are 0\.1"):
        samples.result("p", "a", 0, 0.1, {0.1: 1.0}).time(0.2)
    with pytest.raises(ValueError, match="no axis 'minutes'"):
        samples.result("p", "a", 0, 0.1, {0.1: 1.0}).time(0.1, "minutes")


TIMES = st.lists(st.one_of(st.just(INF), st.floats(0, 1e6)), min_size=1, max_size=20)


@settings(deadline=None)
@given(TIMES)
def test_a_distribution_function_rises_to_the_share_of_hits(times):
    found = profiles.ecdf(times)
    assert np.all(np.diff(found.x) > 0) and np.all(np.diff(found.y) > 0)
    assert height(found, INF) == pytest.approx(np.mean(np.isfinite(times)))
    for t in times:
        assert height(found, t if math.isfinite(t) else 1e300) == pytest.approx(
            np.mean([x <= t and math.isfinite(x) for x in times])
        )


COSTS = st.integers(2, 4).flatmap(
    lambda m: st.lists(
        st.lists(st.one_of(st.just(INF), st.floats(1e-3, 1e6)), min_size=m, max_size=m), min_size=1, max_size=6
    )
)


def as_results(costs, names, pace=1.0):
    """Rows of costs are problems, columns methods; one seed, one target."""
    return [
        samples.result(f"p{i}", name, 0, c, {0.1: pace * c})
        for i, row in enumerate(costs)
        for name, c in zip(names, row, strict=True)
    ]


@settings(deadline=None, max_examples=50)
@given(COSTS, st.sampled_from([2.0**k for k in range(-6, 7)]), st.randoms(use_true_random=False))
def test_profiles_do_not_depend_on_names_order_or_the_unit_of_time(costs, pace, shuffle):
    names = [f"m{i}" for i in range(len(costs[0]))]
    plain = profiles.performance_profile(as_results(costs, names), (0.1,))
    renamed = [f"other {n}" for n in names]
    moved = as_results(costs, renamed, pace)
    shuffle.shuffle(moved)
    after = profiles.performance_profile(moved, (0.1,))
    quality = profiles.error_profile(moved)
    for name, other in zip(names, renamed, strict=True):
        np.testing.assert_array_equal(plain[name].x, after[other].x)
        np.testing.assert_array_equal(plain[name].y, after[other].y)
        np.testing.assert_allclose(plain[name].x, quality[other].x)  # costs serve as final errors too
        assert np.all((plain[name].y >= 0) & (plain[name].y <= 1)) and np.all(plain[name].x >= 1)
        assert 0 <= profiles.profile_score(plain[name]) <= 1
    solved = np.isfinite(np.array(costs)).any(axis=1).mean()
    assert sum(height(p, 1) for p in plain.values()) >= solved - 1e-12, "somebody is the best wherever anybody finishes"


def test_sheets_show_status_first_and_all_runs(tmp_path):
    runs = samples.results(tmp_path)
    made = sheets(runs, TARGETS)
    assert list(made) == ["outcomes", "runs", "summary", "errors", "times", "success"]
    assert made["outcomes"].columns == ("method", "runs", "budget", "diverged", "failed")
    assert made["outcomes"].rows[2] == ("failing", 3, 0, 0, 3)
    assert len(made["runs"].rows) == 15 and made["runs"].columns[0] == "status"
    assert made["errors"].rows[4] == ("poisson2d", "lucky", 3, 0.5, 1e-6, 0.5)
    assert made["times"].rows[1] == ("poisson2d", "slow", 10, 20, 30, 40)

    rows = {row[0]: row[1:] for row in made["summary"].rows}
    longest = 60.0  # slow runs for 60 s, so a miss counts as 120
    mean = (2 * 3 * 4 * 121) ** 0.25 - 1
    assert rows["diverging"] == (0.75, pytest.approx(mean), 0.75, 0.75, 0.0)
    assert rows["fast"] == (1.0, pytest.approx((2 * 3 * 4 * 5) ** 0.25 - 1), 1.0, 1.0, 1.0)
    assert rows["failing"] == (0.0, pytest.approx(2 * longest), 0.0, 0.0, 0.0)
    order = sorted(rows, key=lambda m: rows[m][1])
    assert order == ["fast", "diverging", "slow", "lucky", "failing"]


def test_a_slow_metric_and_a_long_compilation_change_no_ranking(tmp_path):
    plain = samples.results(tmp_path / "a")
    tax = {"fast": {"wall_seconds": 1e7, "compile_seconds": 1e4}}
    taxed = [r for m in samples.METHODS for r in samples.results(tmp_path / m, methods=(m,), **tax.get(m, {}))]
    assert sheets(plain, TARGETS)["summary"] == sheets(taxed, TARGETS)["summary"]
    assert sheets(plain, TARGETS, "total")["summary"] != sheets(taxed, TARGETS, "total")["summary"]


def test_text_and_csv(tmp_path):
    runs = samples.results(tmp_path, methods=("fast", "failing"), seeds=(0,))
    shown = text(sheets(runs, TARGETS))
    assert shown.index("Outcomes") < shown.index("Runs") < shown.index("Summary") < shown.index("Success rates")
    table = as_text(sheets(runs, TARGETS)["times"]).splitlines()
    assert table[3:] == [
        "problem    method   1e-01  1e-02  1e-03  1e-04",
        "poisson2d  fast         1      2      3      4",
        "poisson2d  failing    inf    inf    inf    inf",
    ]
    assert as_csv(sheets(runs, TARGETS)["errors"]).splitlines() == [
        "problem,method,runs,median,lowest,highest",
        "poisson2d,fast,1,1e-06,1e-06,1e-06",
        "poisson2d,failing,1,Infinity,Infinity,Infinity",
    ]


def test_unfinished_and_lacking_runs_are_named():
    runs = [samples.result("p", m, s, 0.1, {0.1: 1.0}) for m in "ab" for s in (0, 1)]
    runs[1] = samples.result("p", "a", 1, 0.1, {0.1: 1.0}, status="interrupted")
    note = sheets(runs[:3], (0.1,))["outcomes"].note
    assert "Not finished, counted as misses and not in claims: p a seed 1." in note
    assert "p seed 1 is left out: there is no run of b." in note
    alone = [samples.result("p", "a", 0, 0.1), samples.result("q", "b", 0, 0.1)]
    assert list(sheets(alone, ())) == ["outcomes", "runs"]
    assert isinstance(runs[0], Result)
