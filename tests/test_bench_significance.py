"""Paired tests against enumeration, Holm and Tarone against hand computations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from ravine.bench.significance import decidable, differences, holm, least_p, pairs_needed, sign_flip

INF = math.inf


def enumerated(blocks):
    """The test of the docstring with all sign changes, by brute force."""
    sign, weight = [], []
    for block in blocks:
        moved = [d for d in block if d != 0]
        n = len(block)
        sign += list(np.sign(moved))
        weight += list(rankdata(np.abs(moved)) / (n * (n + 1)))
    seen = abs(sum(s * w for s, w in zip(sign, weight, strict=True)))
    flips = list(itertools.product((1, -1), repeat=len(weight)))
    sums = [abs(sum(s * w for s, w in zip(flip, weight, strict=True))) for flip in flips]
    return np.mean([s >= seen - 1e-12 for s in sums])


DIFFERENCE = st.one_of(st.integers(-4, 4).map(float), st.sampled_from([INF, -INF]))


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(DIFFERENCE, min_size=n, max_size=n), min_size=1, max_size=3))
)
def test_p_of_equal_blocks_is_that_of_enumeration(blocks):
    assert sign_flip([np.array(b) for b in blocks]).p == pytest.approx(enumerated(blocks))


@settings(deadline=None, max_examples=30)
@given(st.lists(DIFFERENCE, min_size=1, max_size=9))
def test_p_of_one_block_is_that_of_enumeration(block):
    assert sign_flip([np.array(block)]).p == pytest.approx(enumerated([block]))


def test_p_of_unequal_blocks_is_that_of_enumeration():
    blocks = [[1.0, -2.0, 3.0], [0.5, 0.25, 4.0, -8.0, 7.0], [2.0, 1.0]]
    assert sign_flip([np.array(b) for b in blocks]).p == pytest.approx(enumerated(blocks), abs=2**-8)


def test_one_block_is_wilcoxons_test():
    d = np.random.default_rng(0).normal(0.3, 1.0, 14)
    assert sign_flip([d]).p == pytest.approx(wilcoxon(d, method="exact").pvalue)


def test_by_hand():
    """Ranks 1 2 3 4, one negative at rank 1: T = 8 of 10; |T| >= 8 for all +, for only rank 1 -, and mirrored: 4/16."""
    found = sign_flip([np.array([-0.1, 0.2, 0.3, 0.4])])
    assert (found.p, found.statistic, found.pairs, found.different) == (0.25, 0.8, 4, 4)
    assert sign_flip([np.array([1.0, 2, 3, 4, 5, 6, 7, 8])]).p == 2 / 2**8
    assert sign_flip([np.array([0.0, 0.0])]).p == 1.0
    assert sign_flip([]) == (1.0, 0.0, 0, 0)
    tied = sign_flip([np.array([0.0, 0.0, 0.0, 1.0, 2.0])])
    assert (tied.p, tied.pairs, tied.different) == (0.5, 5, 2), "ties decide nothing"


def test_a_block_with_larger_differences_weighs_no_more():
    one, other = np.array([1.0, 2.0, -3.0]), np.array([-1.0, 2.0, 3.0])
    assert sign_flip([one, other]) == sign_flip([1e6 * one, other])


def test_misses_have_the_last_rank_and_two_misses_are_a_tie():
    d = differences([1, 1, INF, INF, 0, 0], [10, INF, 1, INF, 0, 1])
    np.testing.assert_array_equal(d, [-math.log(10), -INF, INF, 0, 0, -INF])
    # Finite differences take ranks 1 and 2, the miss 3: T = 3 - 1 - 2 = 0.
    assert sign_flip([np.array([-1.0, -100.0, INF])]).statistic == 0.0
    with pytest.raises(ValueError, match="NaN"):
        sign_flip([np.array([math.nan])])


@settings(deadline=None)
@given(st.lists(DIFFERENCE, min_size=1, max_size=12))
def test_exchanging_the_methods_mirrors_the_test(block):
    one, other = sign_flip([np.array(block)]), sign_flip([-np.array(block)])
    assert one.p == other.p and one.statistic == -other.statistic
    assert one.p >= least_p(one.different) * (1 - 1e-12)


def test_least_p_and_pairs_needed():
    assert least_p(8) == 2 / 256 and least_p(0) == 1.0
    for comparisons in (1, 2, 12, 33):
        n = pairs_needed(comparisons, 0.05)
        assert least_p(n) <= 0.05 / comparisons < least_p(n - 1)
    assert pairs_needed(12, 0.05) == 9


def test_holm_by_hand():
    """Sorted .01 .02 .03 .2 times 4 3 2 1 is .04 .06 .06 .2; the running maximum changes nothing more."""
    np.testing.assert_allclose(holm([0.02, 0.2, 0.01, 0.03]), [0.06, 0.2, 0.04, 0.06])
    np.testing.assert_allclose(holm([0.01, 0.011]), [0.02, 0.02])  # .011 alone would be .011: never below the first
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])
    assert holm([]).size == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_is_between_nothing_and_bonferroni_and_knows_no_order(p, shuffle):
    adjusted = holm(p)
    assert np.all(adjusted >= np.array(p) - 1e-15) and np.all(adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-15)
    order = list(range(len(p)))
    shuffle.shuffle(order)
    np.testing.assert_allclose(holm([p[i] for i in order]), adjusted[order])


def test_tarone_by_hand():
    least = [0.0078, 0.0078, 0.5, 0.5, 0.03]
    # K = 1: three reach 0.05; K = 2: two reach 0.025, and two are allowed.
    assert decidable(least, 0.05).tolist() == [True, True, False, False, False]
    assert decidable([0.0078] * 6, 0.05).all()  # 0.05 / 6 = 0.0083
    assert not decidable([0.0078] * 7, 0.05).any()  # 0.05 / 7 = 0.0071
    assert decidable([], 0.05).size == 0
