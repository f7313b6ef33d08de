"""The method contract, generated from the registry: a new method is tested by its line in the table.

Each method is compiled three times: the driver's loop in float64, the same in float32, and a bare scan.
"""

import functools
import itertools
import warnings

import equinox as eqx
import jax
import numpy as np
import pytest
from small import POINTS, SCALAR, methods, residual, start, steady

import ravine
from ravine import Budget, Structure, minimize
from ravine.driver import engine
from ravine.driver.precision import cast, floats_to_arrays
from ravine.method import refusal
from ravine.objective import Composite, LeastSquares, Term
from ravine.registry import find
from ravine.types import Counts, Info, Status, Step

jnp = jax.numpy
KEY = jax.random.key(7)
# A function of its own, so that no other test has traced its programs before.
FIT = LeastSquares({"fit": Term(lambda params, x: residual(params, x), POINTS)})
STEPS = 24

every_method = pytest.mark.parametrize("name", methods())


def make(name):
    return find("methods", name).load()()


@functools.cache
def unbroken(name):
    """(run of 24 steps, how often its program was traced)."""
    before = len(engine.traces)
    run = minimize(FIT, start(), make(name), budget=Budget(steps=STEPS))
    return run, len(engine.traces) - before


@functools.cache
def scanned(name):
    """A compiled scan of three steps: (objective, params) -> (params, state before, state after, infos)."""
    method = floats_to_arrays(make(name), "float64")

    @eqx.filter_jit
    def scan(objective, params, key):
        first = method.init(objective, params, key=key)

        def body(carry, k):
            step = method.step(objective, *carry, key=k)
            return (step.params, step.state), step.info

        (params, state), infos = jax.lax.scan(body, (params, first), jax.random.split(key, 3))
        return params, first, state, infos

    return lambda objective, params: scan(objective, cast(params, "float64"), KEY)


def types(tree):
    return [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]


@every_method
def test_what_it_needs_is_refused_in_words(name):
    method = make(name)
    assert not method.needs & ~(FIT.structure | Structure.FIXED)
    needs = next((flag.name for flag in (Structure.COMPOSITE, Structure.FINITE_SUM) if flag in method.needs), None)
    if needs is None:
        assert refusal(method, SCALAR) is None
        return
    with pytest.raises(ValueError, match=rf"{type(method).__name__} needs {needs}.*Scalar.*LeastSquares") as caught:
        minimize(SCALAR, start(), method, budget=Budget(steps=1))
    assert "or use a method that needs only VALUE" in str(caught.value)


@every_method
def test_one_trace_serves_a_whole_run(name):
    run, traces = unbroken(name)
    assert traces == 1
    assert run.status == "budget" and run.steps == STEPS
    assert [row["step"] for row in run.rows] == list(range(STEPS + 1))


@every_method
def test_state_and_info_keep_their_types(name):
    params, first, state, infos = scanned(name)(FIT, start())
    assert jax.tree.structure(first) == jax.tree.structure(state)
    assert types(first) == types(state)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
    assert types(params) == types(cast(start(), "float64"))
    assert isinstance(infos, Info) and isinstance(infos.counts, Counts)
    assert infos.status.shape == (3,) and set(np.asarray(infos.status)) <= {int(s) for s in Status}
    assert all(c.shape == (3,) and c.dtype == jnp.int32 for c in infos.counts)
    assert int(infos.counts.residual[0] + infos.counts.batch[0]) >= 1
    for x in (infos.value, infos.grad_norm, infos.step_norm, *infos.scalars.values()):
        assert x.shape == (3,) and x.dtype == jnp.float64
        assert np.all(np.isfinite(x))


@every_method
def test_info_describes_the_entering_parameters(name):
    params = cast(start(), "float64")
    after, _, _, infos = scanned(name)(FIT, params)
    value, grad = FIT.value_and_grad(params)
    size = np.sqrt(sum(np.sum(g**2) for g in grad.values()))
    told, told_size = infos.value[0], infos.grad_norm[0]
    if make(name).noisy:  # estimates: what the driver writes down is exact, and they stand beside it
        row = unbroken(name)[0].rows[0]
        told, told_size = row["loss"], row["grad_norm"]
        assert {"scalars.batch_loss", "scalars.batch_grad_norm"} <= set(row)
    np.testing.assert_allclose(told, value, rtol=1e-12)
    np.testing.assert_allclose(told_size, size, rtol=1e-10)
    assert int(infos.status[0]) == Status.OK
    assert 0 < float(infos.step_norm[0]) < np.inf
    assert any(np.any(np.asarray(after[k]) != np.asarray(params[k])) for k in params)


@every_method
def test_the_length_of_a_step_is_that_of_the_move(name):
    run, _ = unbroken(name)
    moves = []
    minimize(
        FIT,
        start(),
        make(name),
        budget=Budget(steps=STEPS),
        callbacks=[lambda row, params: moves.append((row["step_norm"], np.concatenate([params[k] for k in "bcw"])))],
    )
    lengths = [np.linalg.norm(b[1] - a[1]) for a, b in itertools.pairwise(moves)]
    np.testing.assert_allclose([m[0] for m in moves[:-1]], lengths, rtol=1e-6, atol=1e-14)
    assert run.rows[0]["step_norm"] > 0


@every_method
def test_the_same_key_gives_the_same_run(name):
    run, _ = unbroken(name)
    again = minimize(FIT, start(), make(name), budget=Budget(steps=STEPS))
    assert steady(again.rows) == steady(run.rows)


@every_method
def test_value_does_not_increase(name):
    if not make(name).monotone:
        pytest.skip("it does not promise a decrease in every step")
    values = [row["loss"] for row in unbroken(name)[0].rows]
    assert all(b <= a for a, b in itertools.pairwise(values))
    assert values[-1] < values[0]


@every_method
def test_zero_gradient_is_safe(name):
    zero = {k: np.zeros_like(v) for k, v in start().items()}  # the network and all its derivatives vanish
    if "weight_decay" not in {f.name for f in make(name).__dataclass_fields__.values()}:
        params, _, _, infos = scanned(name)(FIT, zero)
        assert all(np.all(np.asarray(v) == 0) for v in params.values())
        assert np.all(np.asarray(infos.step_norm) == 0)
        assert np.all(np.asarray(infos.grad_norm) == 0)
    run = minimize(FIT, zero, make(name), budget=Budget(steps=STEPS))
    assert run.status == "stalled" and "gradient is exactly 0" in run.reason, "nothing was trained"
    assert all(np.all(np.asarray(v) == 0) for v in run.params.values())


@every_method
def test_nan_at_the_start_is_a_failure_and_moves_nothing(name):
    bad = start() | {"b": np.full(8, np.nan)}
    run = minimize(FIT, bad, make(name), budget=Budget(steps=STEPS))
    assert run.status == "failed", run.reason
    assert "not finite at the starting parameters" in run.reason and "fit" in run.reason
    np.testing.assert_array_equal(run.params["w"], bad["w"])


@pytest.mark.parametrize("name", ["lm", "gn", "engd", "hessianfree", "slm", "adam"])
def test_nan_at_the_start_of_an_energy_is_a_failure_too(name):
    """The second derivative of φ at NaN is no sign of φ."""
    data = np.random.default_rng(0).normal(size=(12, 3))
    energy = Composite({"e": Term(lambda p, x: x @ p, data)}, {"e": lambda z, x: jnp.logaddexp(0.0, z[0])})
    run = minimize(energy, np.array([np.nan, 0.0, 1.0]), make(name), budget=Budget(steps=STEPS))
    assert run.status == "failed" and "not finite at the starting parameters" in run.reason


@every_method
def test_float32(name):
    method = make(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = minimize(FIT, start(), method, budget=Budget(steps=8), precision="float32")
    warned = [str(w.message) for w in caught if "in float32 stalls" in str(w.message)]
    assert len(warned) == method.second_order
    assert not [w for w in caught if "in float32 stalls" not in str(w.message)]
    assert {np.asarray(v).dtype for v in run.params.values()} == {np.dtype("float32")}
    assert run.final["loss"] < run.rows[0]["loss"]
    assert run.provenance["dtype"] == "float32"


@every_method
def test_save_load_continue_is_exact(name, tmp_path):
    run, _ = unbroken(name)
    traces = len(engine.traces)
    half = minimize(FIT, start(), make(name), budget=Budget(steps=STEPS // 2), checkpoint=tmp_path)
    assert half.steps == STEPS // 2
    told = []
    hear = lambda row, params: told.append(row["step"])
    whole = minimize(FIT, start(), make(name), budget=Budget(steps=STEPS), checkpoint=tmp_path, callbacks=[hear])
    assert told == list(range(STEPS // 2, STEPS)), "it went on, and did not begin again"
    assert steady(whole.rows) == steady(run.rows)
    for k in run.params:
        np.testing.assert_array_equal(whole.params[k], run.params[k])
    assert len(engine.traces) == traces


def test_a_step_is_a_step():
    """The driver's Step is what every method returns, and structures are flags that combine."""
    out = jax.eval_shape(
        lambda p: make("adam").step(FIT, p, make("adam").init(FIT, p, key=KEY), key=KEY), cast(start(), "float64")
    )
    assert isinstance(out, Step)
    assert ravine.Structure.RESIDUAL in LeastSquares(Term(lambda p, x: p, np.zeros((1, 1)))).structure
