"""Designs in boxes: where the points are, what they depend on, and how evenly they lie."""

import jax
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import qmc

from ravine import points

LOWER, UPPER = (-1.0, 0.0, 2.0), (1.0, 0.5, 5.0)


def unit(x):
    return (x - np.array(LOWER)) / (np.array(UPPER) - np.array(LOWER))


@pytest.mark.parametrize("kind", points.DESIGNS)
def test_designs_fill_the_box(kind):
    x = points.design(kind, 96, LOWER, UPPER, points.generator(0))
    assert x.shape == (96, 3) and x.dtype == np.float64
    z = unit(x)
    assert np.all(z >= 0) and np.all(z <= 1)
    assert len(np.unique(z, axis=0)) == 96
    # every half of every axis is used, and the spread is that of the uniform distribution
    assert np.allclose(z.mean(axis=0), 0.5, atol=0.1) and np.allclose(z.std(axis=0), 12**-0.5, atol=0.05)


@pytest.mark.parametrize("kind", points.DESIGNS)
def test_designs_depend_on_the_key_unless_fixed(kind):
    a, b, c = (points.design(kind, 32, LOWER, UPPER, points.generator(k)) for k in (1, 1, 2))
    assert np.array_equal(a, b)
    assert np.array_equal(a, c) == (kind in points.FIXED_DESIGNS)


@pytest.mark.parametrize("kind", ["sobol", "halton", "hammersley"])
def test_quasi_random_designs_are_more_even_than_random_ones(kind):
    def gap(k, seed):
        return qmc.discrepancy(unit(points.design(k, 128, LOWER, UPPER, points.generator(seed))))

    assert max(gap(kind, s) for s in range(3)) < 0.5 * min(gap("uniform", s) for s in range(3))


def test_a_sobol_design_of_any_size_begins_the_same_sequence():
    whole = points.design("sobol", 64, LOWER, UPPER, points.generator(0))
    part = points.design("sobol", 50, LOWER, UPPER, points.generator(0))
    assert np.array_equal(whole[:50], part)


def test_a_grid_is_the_cell_midpoints():
    x = points.design("grid", 6, (0.0, 0.0), (3.0, 2.0), points.generator(0))
    assert x.tolist() == [[0.5, 0.5], [0.5, 1.5], [1.5, 0.5], [1.5, 1.5], [2.5, 0.5], [2.5, 1.5]]


def test_grid_shapes_are_nearly_square_or_refused_with_the_nearest_size():
    assert points.grid_shape(900, 2) == (30, 30)
    assert points.grid_shape(2048, 2) == (64, 32)
    assert points.grid_shape(64, 3) == (4, 4, 4)
    assert points.grid_shape(7, 1) == (7,)
    with pytest.raises(ValueError, match="nearest size is 100") as error:
        points.grid_shape(101, 2)
    assert "2-dimensional grid of 101 points" in str(error.value)


@pytest.mark.parametrize("kind", points.DESIGNS)
def test_boundary_points_lie_on_the_faces_in_proportion_to_their_area(kind):
    # areas: x-faces 1.5 each, y-faces 6 each, z-faces 1 each, 17 in all
    x = points.boundary(kind, 68, LOWER, UPPER, points.generator(0))
    faces = [np.sum(x[:, i] == end[i]) for i in range(3) for end in (LOWER, UPPER)]
    assert x.shape == (68, 3) and faces == [6, 6, 24, 24, 4, 4]
    assert np.all(x >= np.array(LOWER)) and np.all(x <= np.array(UPPER))


def test_boundary_of_an_interval_and_of_few_points():
    ends = points.boundary("sobol", 5, (0.0,), (2.0,), points.generator(0))
    assert sorted(ends[:, 0].tolist()) == [0.0, 0.0, 0.0, 2.0, 2.0]
    assert len(points.boundary("uniform", 2, LOWER, UPPER, points.generator(0))) == 2


def test_gauss_rules_are_exact_for_their_degree():
    x, w = points.gauss((3, 4), (0.0, -1.0), (2.0, 1.0))
    assert x.shape == (12, 2) and np.sum(w) == pytest.approx(4.0, rel=1e-14)
    # ∫ x⁵ y⁶ over (0,2) x (-1,1) = (64/6) (2/7)
    assert w @ (x[:, 0] ** 5 * x[:, 1] ** 6) == pytest.approx(64 / 6 * 2 / 7, rel=1e-13)
    assert w @ x[:, 0] ** 6 != pytest.approx(2 * 128 / 7, rel=1e-6)


def test_lattice_has_both_ends_and_the_last_axis_fastest():
    x = points.lattice((2, 3), (0.0, 0.0), (1.0, 1.0))
    assert x.tolist() == [[0, 0], [0, 0.5], [0, 1], [1, 0], [1, 0.5], [1, 1]]


def test_generators_from_keys_and_integers():
    def draw(key, name=""):
        return points.generator(key, name).random()

    assert draw(jr.key(7)) == draw(jax.random.PRNGKey(7))  # typed and raw keys are the same key
    assert len({draw(7), draw(8), draw(7, "pde"), draw(7, "boundary"), draw(jr.key(7))}) == 5
    assert draw(np.int64(7)) == draw(7)


@pytest.mark.parametrize(
    ("key", "says"),
    [(-1, "got -1"), (True, "boolean"), (1.5, "float"), ("seed", "str"), (np.zeros((2, 2), np.uint32), "shape")],
)
def test_bad_keys_are_refused(key, says):
    with pytest.raises((TypeError, ValueError), match=says):
        points.generator(key)


def test_bad_designs_counts_and_boxes_are_refused():
    rng = points.generator(0)
    with pytest.raises(ValueError, match="did you mean 'halton'"):
        points.design("halten", 4, LOWER, UPPER, rng)
    with pytest.raises(ValueError, match="choose one of sobol"):
        points.design("latin", 4, LOWER, UPPER, rng)
    for n in (0, -3, 2.0, True):
        with pytest.raises(ValueError, match="positive integer"):
            points.design("uniform", n, LOWER, UPPER, rng)
    with pytest.raises(ValueError, match="finite lower < upper"):
        points.design("uniform", 4, (0.0, 1.0), (1.0, 1.0), rng)
    with pytest.raises(ValueError, match="finite lower < upper"):
        points.boundary("uniform", 4, (0.0,), (1.0, 1.0), rng)
