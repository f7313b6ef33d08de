"""Schedules: the values of Optax's, from Python and from text."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import FIT, start

from ravine import Budget, methods, minimize
from ravine.bench.options import fields, typed
from ravine.driver import engine
from ravine.methods.optax_methods import AbstractOptax
from ravine.plans import parse
from ravine.transforms import schedules as s

# Ours and Optax's, which computes in float32.
SAME = {
    "constant:1e-3": optax.constant_schedule(1e-3),
    "exponential:1e-2,0.9,7": optax.exponential_decay(1e-2, 7, 0.9),
    "step:1e-2,0.5,7": optax.exponential_decay(1e-2, 7, 0.5, staircase=True),
    "cosine:1e-2,1e-4,20": optax.cosine_decay_schedule(1e-2, 20, alpha=1e-2),
    "warmup:1e-2,6": optax.warmup_constant_schedule(0.0, 1e-2, 6),
    "warmup-cosine:1e-2,1e-4,5,20": optax.warmup_cosine_decay_schedule(0.0, 1e-2, 5, 20, 1e-4),
    "inverse-sqrt:1e-2,4": lambda t: 1e-2 / np.sqrt(1 + t / 4),
    "piecewise:1e-2,5,1e-3,10,1e-5": optax.piecewise_constant_schedule(1e-2, {5: 0.1, 10: 0.01}),
}


@pytest.mark.parametrize("text", SAME)
def test_values(text):
    ours = s.Schedule.from_text(text)
    for t in range(25):
        np.testing.assert_allclose(ours(t), SAME[text](t), rtol=3e-6, atol=1e-9)
        assert ours(jnp.int32(t)).dtype == jnp.float64
    np.testing.assert_allclose(jax.jit(ours)(jnp.int32(7)), ours(7), rtol=1e-15)


def test_every_kind_is_tested():
    assert {text.partition(":")[0] for text in SAME} == set(s.KINDS)


def test_the_ends_are_exact():
    assert float(s.Cosine(1e-2, 1e-5, 20000)(20000)) == 1e-5
    assert float(s.WarmupCosine(1e-2, 1e-5, 100, 1000)(100)) == 1e-2
    assert float(s.WarmupCosine(1e-2, 1e-5, 100, 1000)(5000)) == 1e-5
    np.testing.assert_allclose(float(s.Exponential(1e-3, 0.9, 2000)(4000)), 0.81e-3, rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fast", "must be a number, or a schedule such as cosine:1e-2,1e-5,20000; kinds are constant, "),
        ("cosin:1,2,3", "there is no schedule 'cosin'; did you mean 'cosine'?"),
        ("cosine:1e-2,1e-5", "write cosine:START,END,STEPS, all of them numbers."),
        ("cosine:1e-2,low,100", "write cosine:START,END,STEPS, all of them numbers."),
        ("cosine:1e-2,1e-5,0", "cosine schedule: steps must be positive and finite; got 0.0."),
        ("warmup-cosine:1e-2,0,100,50", "warmup-cosine schedule: steps must be greater than 100.0; got 50.0."),
        ("piecewise:1e-2,100", "write piecewise:VALUE,T,VALUE,T,VALUE..., all of them numbers."),
        ("piecewise:1e-2,10,1e-3,5,1e-4", "piecewise schedule: boundary must be greater than 10.0; got 5.0."),
    ],
)
def test_mistakes_are_one_sentence(text, sentence):
    with pytest.raises(ValueError) as caught:
        typed(methods.Adam, {"learning_rate": text}, "--set adam.")
    assert str(caught.value).startswith(f"--set adam.learning_rate={text}: {sentence}")


def test_piecewise_needs_a_value_more_than_boundaries():
    with pytest.raises(ValueError, match="2 values need 1 boundaries between them; got 2"):
        s.Piecewise((1e-2, 1e-3), (5, 10))


PRESETS = [
    n for n in methods.__all__ if issubclass(c := getattr(methods, n), AbstractOptax) and "learning_rate" in fields(c)
]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_a_schedule_from_text(name):
    cls = getattr(methods, name)
    method = cls(**typed(cls, {"learning_rate": "cosine:1e-2,1e-5,20"}, "--set "))
    assert isinstance(method.learning_rate, s.Cosine) and method.learning_rate.steps == 20.0
    params = {"w": jnp.ones((2, 2))}
    method.build().init(params)
    assert typed(cls, {"learning_rate": "0.5"}, "--set ")["learning_rate"] == 0.5


def test_presets_with_schedules_exist():
    assert len(PRESETS) >= 14 and {"Adam", "SGD", "Muon", "SOAP", "Shampoo"} <= set(PRESETS)


def test_a_run_from_the_command_lines_spec():
    options = {"sgd": typed(methods.SGD, {"learning_rate": "piecewise:1e-2,5,1e-12", "momentum": "none"}, "--set sgd.")}
    run = minimize(FIT, start(), parse("sgd", options), budget=Budget(steps=9))
    for row in run.rows[:9]:
        rate = 1e-2 if row["step"] < 5 else 1e-12
        np.testing.assert_allclose(row["step_norm"], rate * row["grad_norm"], rtol=1e-12)


def test_other_numbers_compile_nothing():
    first = minimize(FIT, start(), methods.Adam(s.Cosine(1e-2, 1e-5, 20)), budget=Budget(steps=3))
    before = len(engine.traces)
    other = minimize(FIT, start(), methods.Adam(s.Cosine(3e-2, 1e-3, 4)), budget=Budget(steps=3))
    assert len(engine.traces) == before
    assert first.rows[0]["step_norm"] < other.rows[0]["step_norm"]


def test_help_and_list_name_the_kinds(capsys):
    from ravine.cli import main
    from ravine.methods.averaged import KINDS

    assert main(["solve", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(kind in told for kind in (*s.KINDS, *KINDS))
    assert main(["list", "methods"]) == 0
    assert "learning_rate=cosine:1e-2,1e-5,20000" in capsys.readouterr().out
