"""Checks of options: which values pass, and the one sentence of those that do not."""

from types import SimpleNamespace

import numpy as np
import pytest

from ravine.checks import nearest, require_choice, require_count, require_real


@pytest.mark.parametrize("ends", ["()", "[)", "(]"])
def test_the_ends_of_a_range_are_in_it_or_not_as_written(ends):
    for value, inside in ((0.0, ends[0] == "["), (0.5, True), (1.0, ends[1] == "]"), (-0.1, False), (1.1, False)):
        owner = SimpleNamespace(x=value)
        if inside:
            require_real(owner, "x", 0.0, 1.0, why="of the test", ends=ends)
            continue
        words = "between 0 and 1" if ends == "()" else f"in {ends[0]}0, 1{ends[1]}"
        with pytest.raises(ValueError) as told:
            require_real(owner, "x", 0.0, 1.0, why="of the test", ends=ends)
        assert str(told.value) == f"SimpleNamespace: x must lie {words}, because of the test; got {value!r}."


def test_numbers_that_are_none_are_refused_and_arrays_are_left_alone():
    for wrong in (True, "0.5", None):
        with pytest.raises(TypeError, match="x must be a number"):
            require_real(SimpleNamespace(x=wrong), "x", 0.0, why="of the test")
    for wrong in (float("nan"), 0.0):
        with pytest.raises(ValueError, match="x must be greater than 0, because of the test"):
            require_real(SimpleNamespace(x=wrong), "x", 0.0, why="of the test")
    require_real(SimpleNamespace(x=0.0), "x", 0.0, why="of the test", ends="[)")
    require_real(SimpleNamespace(x=np.asarray(-1.0)), "x", 0.0, why="of the test")  # its value may be traced
    for wrong in (True, 2.0, 0):
        with pytest.raises(ValueError, match="x must be an integer of at least 1"):
            require_count(SimpleNamespace(x=wrong), "x", 1)


def test_numbers_of_numpy_are_checked_as_those_of_python():
    for wrong in (np.float64(-1.0), np.float32(0.0), np.int64(-3), np.float64("nan")):
        with pytest.raises(ValueError, match="x must be greater than 0"):
            require_real(SimpleNamespace(x=wrong), "x", 0.0, why="of the test")
    require_real(SimpleNamespace(x=np.float64(1.0)), "x", 0.0, why="of the test")


def test_the_nearest_choice_is_named_whatever_the_case():
    assert nearest("LBFGSs", ["Adam", "lbfgs"]) == "did you mean 'lbfgs'?"
    assert nearest("zzz", [1, 2]) == "choose one of 1, 2."
    require_choice(SimpleNamespace(x="a"), "x", ("a", "b"))
    with pytest.raises(ValueError, match=r"SimpleNamespace: x=3 is unknown; choose one of 1, 2\."):
        require_choice(SimpleNamespace(x=3), "x", (1, 2))
