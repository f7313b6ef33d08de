"""The declared search spaces: everybody has one, and each is inside what its method accepts."""

import pytest

from ravine.bench import search_spaces
from ravine.bench.options import construct, fields
from ravine.bench.search_spaces import Choice, Range, defaults_of, searched, space_of, text
from ravine.registry import entries, find

NAMES = [*entries("methods"), *entries("rivals")]


def class_of(name):
    return find("rivals" if "/" in name else "methods", name).load()


def ends(option):
    if isinstance(option, Choice):
        return list(option.words)
    return [str(int(x)) if option.whole else text(float(x)) for x in (option.low, option.high)]


def test_every_method_and_rival_has_one_and_nobody_else():
    assert sorted(search_spaces._SPACES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_space_is_made_of_options_that_may_be_set_and_holds_the_defaults(name):
    cls, space, defaults = class_of(name), space_of(name), defaults_of(name)
    assert bool(space.options) != bool(space.why), "something to tune, or the reason why there is nothing"
    assert len(space.options) <= 3
    for option, range_ in space.options.items():
        assert option in fields(cls)
        assert range_.holds(defaults[option]), f"the first trial is {option}={defaults[option]!r}"
        if isinstance(range_, Range):
            assert range_.low < range_.high and (range_.low > 0 or not range_.log)
        condition = {} if range_.when is None else dict([range_.when])
        for word in ends(range_):
            construct(cls, {option: word, **condition}, "")
        if condition:
            other = next(iter(condition))
            assert other in fields(cls) and other not in space.options


def test_what_is_set_by_hand_is_not_searched_and_neither_is_what_then_does_nothing():
    assert list(searched("gd", {})) == ["c1"], "the default rule searches, and has no fixed step length"
    assert list(searched("gd", {"rule": "fixed"})) == ["learning_rate"]
    assert list(searched("gd", {"rule": "fixed", "learning_rate": "0.1"})) == []
    assert list(searched("adam", {"b1": "0.8"})) == ["learning_rate", "b2"]


def test_a_range_says_what_it_holds():
    assert Range(1, 10, whole=True).holds(3) and not Range(1, 10, whole=True).holds(3.5)
    assert not Range(1, 10).holds(0.9) and not Range(1, 10).holds(None) and not Range(0, 1).holds(True)
    assert Choice(("false", "true")).holds(False) and not Choice(("a",)).holds("b")


def test_a_method_without_a_space_is_one_sentence():
    with pytest.raises(LookupError, match="nobody has no declared search space"):
        space_of("nobody")
