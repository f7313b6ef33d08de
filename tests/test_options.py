"""No silent option: every public option of a method, a sampler or a plan changes what a run does.

Each field of each class of the registry is perturbed, by rule from its default or as PERTURBED says, and the run must
differ (in the scenario of SCENARIOS where the plain one cannot show it: the reason stands there). A new option that
nobody reads fails here.
"""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from logistic_sum import LOGISTIC, MINIMUM
from logistic_sum import START as ORIGIN
from small import FIT, POINTS, start

import ravine as rv
from ravine import methods as m
from ravine.driver import engine
from ravine.methods.averaged import EMA
from ravine.objective import LeastSquares, Term
from ravine.registry import entries, find
from ravine.sampling import PointGuard

jnp = jax.numpy
STEPS = 15

# Values where the rule below gives none, or one too close to the default to matter within a few steps.
PERTURBED = {
    ("optax", "transformation"): optax.sgd(1e-2),
    ("*", "first_trial"): lambda default: "decrease" if default == "unit" else "unit",
    ("*", "c1"): 0.45,
    ("*", "c2"): 0.05,
    ("*", "max_trials"): 1,
    ("*", "halvings"): 1,
    ("gd", "rule"): "exact",
    ("cg", "beta"): "HZ",
    ("cg", "c2"): 0.5,
    ("bb", "rule"): "long",
    ("heavyball", "rule"): "fixed",
    ("heavyball", "restart"): "none",
    ("heavyball", "c1"): 0.05,
    ("nesterov", "momentum"): 0.5,
    ("nesterov", "rule"): "fixed",
    ("nesterov", "restart"): "none",
    ("nesterov", "c1"): 0.05,
    ("polyak", "growth"): 1.1,
    ("ar1", "sigma"): 3.0,
    ("ar1", "threshold"): 0.9,
    ("ar1", "increase"): 3.0,
    ("fotr", "radius"): 3.0,
    ("fotr", "threshold"): 0.9,
    ("fotr", "grow"): 3.0,
    ("ssbfgs", "variant"): "OL",
    ("rmsprop", "momentum"): 0.5,
    ("radam", "threshold"): 8.0,
    ("lion", "b1"): 0.999,
    ("lion", "b2"): 0.3,
    ("muon", "vector_rate"): 1e-2,
    ("soap", "frequency"): 2,
    ("soap", "max_precond_dim"): 2,
    ("shampoo", "frequency"): 3,
    ("shampoo", "max_precond_dim"): 2,
    ("averaged", "method"): m.Adam(1e-2),
    ("averaged", "average"): EMA(0.5),
    ("gn", "sufficient"): 0.6,
    ("sophia", "eps"): 1.0,
    ("subsamplednewton", "batch"): 12,
    ("subsamplednewton", "c1"): 0.9,
    ("subsamplednewton", "iterations"): 2,
    ("slbfgs", "first_step"): 0.01,
    ("slbfgs", "pairs"): "sqn",
    ("asntr", "accept"): 0.9,
    ("asntr", "agree"): 100.0,
    ("asntr", "growth"): 3.0,
    ("asntr", "small"): 5.0,
    ("asntr", "slack"): 10.0,
    ("asntr", "iterations"): 1,
    ("stormtr", "batch"): 12,
    ("stormtr", "radius"): 0.01,
    ("stormtr", "accept"): 0.9,
    ("stormtr", "enough"): 3.0,
    ("stormtr", "iterations"): 1,
    ("slm", "batch"): 12,
    ("slm", "radius"): 0.01,
    ("slm", "accept"): 0.99,
    ("slm", "enough"): 3.0,
    ("slm", "iterations"): 1,
    ("slbfgs", "batch"): 12,
    ("slbfgs", "every"): 3,
    ("hessianfree", "preconditioner"): "jacobi",
    ("hessianfree", "max_iterations"): 2,
    ("hessianfree", "c1"): 0.9,
    ("lm", "bend"): 1e-6,
    ("lm", "order"): 2,
    ("lm", "threshold"): 0.9999,
    ("lm", "scaling"): "identity",
    ("lm", "form"): "qr",
    ("svrg", "learning_rate"): 1e-3,
    ("sarah", "learning_rate"): 1e-3,
    ("saga", "learning_rate"): 1e-3,
    ("storm", "learning_rate"): 1e-3,
    ("mlmc", "learning_rate"): 1e-3,
    ("*", "inner"): 3,
    ("*", "snapshot"): "random",
    ("saga", "storage"): "scalars",
    ("mlmc", "memory"): 0.0,
    ("mlmc", "samples"): "xi",
    ("mulstreg", "threshold"): 0.9,
    ("mulstreg", "least"): 50.0,
    ("mulstreg", "factor"): 3.0,
    ("*", "theta"): 0.05,
    ("*", "nu"): 1e-3,
    ("guard", "threshold"): 1e30,
    ("guard", "growth"): 2,
}


def valley(p, x):
    """Rosenbrock's curved valley with a wall of NaN: rejected trials and long searches."""
    r = jnp.stack([10.0 * (p["x"][1] - p["x"][0] ** 2), 1.0 - p["x"][0]])
    return jnp.where(jnp.abs(p["x"][1]) < 3.0, r * x[0], jnp.nan)


PLAIN = FIT, start()
VALLEY = LeastSquares({"valley": Term(valley, np.array([[3.0]]))}), {"x": np.array([-1.2, 1.0])}
# Steep and round: momentum overshoots within a few steps.
BOWL = LeastSquares({"bowl": Term(lambda p, x: 20.0 * p["x"] * x[0], np.array([[1.0]]))}), {"x": np.array([1.0, -2.0])}


def layers(p, x):
    return p["last"] @ jnp.tanh(p["kernel"] @ jnp.array([x[0], 1.0])) - jnp.sin(3.0 * x[0])


# Matrices, for what treats them apart from vectors.
LAYERS = (
    LeastSquares({"fit": Term(layers, POINTS)}),
    {"kernel": np.random.default_rng(0).normal(size=(3, 2)), "last": np.full((1, 3), 0.5)},
)
# A few short steps from the bottom, where the gradient changes its sign.
NEAR = BOWL[0], {"x": np.array([2.5e-4, -3.2e-4])}
# Flat far from the root: steps along the tangent overshoot.
ARC = LeastSquares({"arc": Term(lambda p, x: jnp.arctan(10.0 * p["x"]) * x[0], np.array([[1.0]]))}), {"x": np.ones(1)}
# More rows than the least samples of methods that draw them.
SUM = LOGISTIC, ORIGIN
# Where its radius soon falls below the first one, so that samples grow.
GROWING = LOGISTIC, MINIMUM[0] + 0.1
# Rows that average over samples of their own.
XI = np.random.default_rng(3).normal(size=(12, 8))
NESTED = (
    LeastSquares({"mean": Term(lambda p, x: jnp.mean(jnp.tanh(p["w"] * x["xi"] + x["t"])) - 0.3, {
        "t": np.linspace(0.0, 1.0, 12), "xi": XI,
    })}),
    {"w": np.asarray(1.0)},
)  # fmt: skip
SCENES = (PLAIN, VALLEY, BOWL, LAYERS, NEAR, ARC, SUM, GROWING, NESTED)

# Options about trials that fail: in the plain fit hardly any does.
SCENARIOS = {
    ("*", "c1"): VALLEY,
    ("*", "max_trials"): VALLEY,
    ("*", "halvings"): VALLEY,
    ("gn", "sufficient"): VALLEY,
    ("hessianfree", "c1"): ARC,
    ("hessianfree", "max_trials"): ARC,
    **{("asntr", name): SUM for name in ("batch", "extra", "growth", "accept", "agree", "slack", "small", "part")},
    ("stormtr", "part"): GROWING,
    ("slm", "part"): GROWING,
    ("subsamplednewton", "c1"): PLAIN,
    ("subsamplednewton", "max_trials"): PLAIN,
    ("lm", "threshold"): VALLEY,
    ("*", "restart"): BOWL,
    ("lion", "b1"): NEAR,
    ("lion", "b2"): NEAR,
    ("muon", "learning_rate"): LAYERS,
    ("muon", "momentum"): LAYERS,
    ("muon", "nesterov"): LAYERS,
    ("muon", "ns_steps"): LAYERS,
    ("soap", "frequency"): LAYERS,
    ("soap", "max_precond_dim"): LAYERS,
    ("shampoo", "frequency"): LAYERS,
    ("shampoo", "max_precond_dim"): LAYERS,
    ("ar1", "increase"): VALLEY,
    ("fotr", "grow"): VALLEY,
    ("mlmc", "samples"): NESTED,
}


def by_rule(default):
    """Another value of the same kind."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return max(1, default // 4) if default > 3 else default + 1
    if isinstance(default, float):
        if default == 0:
            return 0.1
        return default**0.5 if default < 1 else default / 4
    raise AssertionError(f"give PERTURBED a value for an option whose default is {default!r}")


def lookup(table, name, field):
    return table.get((name, field), table.get(("*", field)))


def options(kind):
    fields = [(entry.name, field) for entry in entries(kind).values() for field in dataclasses.fields(entry.load())]
    return [pytest.param(name, f.name, id=f"{name}.{f.name}") for name, f in fields if f.init]


def perturbed(name, field, default):
    other = lookup(PERTURBED, name, field)
    if other is None:
        return by_rule(default)
    return other(default) if callable(other) else other


def trajectory(run):
    return repr([(row["loss"], row["grad_norm"], row["step_norm"]) for row in run.rows])  # NaN equals NaN


# The two storages of a table are one method; which of them can be had is what the option decides.
REFUSED = {("saga", "storage"): "needs outputs affine in the parameters"}


def go(method, scenario, refused=None):
    objective, params = scenario
    if refused is not None:
        with pytest.raises(ValueError, match=refused) as caught:
            rv.minimize(objective, params, method, budget=rv.Budget(steps=STEPS))
        return str(caught.value)
    return trajectory(rv.minimize(objective, params, method, budget=rv.Budget(steps=STEPS)))


@functools.cache
def reference(name, scene):
    return go(find("methods", name).load()(), SCENES[scene])


@pytest.mark.parametrize(("name", "field"), options("methods"))
def test_options_of_methods(name, field):
    cls = find("methods", name).load()
    scenario = lookup(SCENARIOS, name, field) or PLAIN
    default = getattr(cls(), field)
    usual = reference(name, next(i for i, scene in enumerate(SCENES) if scene is scenario))
    traces = len(engine.traces)
    assert go(cls(**{field: perturbed(name, field, default)}), scenario, REFUSED.get((name, field))) != usual
    assert go(cls(**{field: default}), scenario) == usual  # the default given is the default
    if isinstance(default, float):
        assert len(engine.traces) == traces  # tuning a real number compiles nothing


# -- samplers --------------------------------------------------------------------------------------------------


def rough(params, x):
    """Small at the 24 grid points, large between them: a guard sounds its alarm at every look."""
    return params["b"][0] - 1.0 + 10.0 * jnp.sin(23 * jnp.pi * (x[0] + 1) / 2) * params["w"][0]


ROUGH = LeastSquares({"fit": Term(rough, POINTS)})
BASE = {"fresh": {"every": 4}, "rad": {"every": 4}, "guard": {"every": 2, "swap": 0.05}}
BASE |= {"minibatch": {"size": 8}, "fixedbatches": {"size": 8}}
BASE |= {name: {"size": 2, "every": 4, "theta": 0.3} for name in ("normtest", "innerproduct")}


def draw(seed, sizes):
    return {"fit": np.random.default_rng(seed).uniform(-1, 1, (sizes["fit"], 1))}


def sampled(sampler):
    objective, rate = (FIT, 1e-2) if sampler.batching else (ROUGH, 1e-5)
    run = rv.minimize(objective, start(), m.SGD(rate), budget=rv.Budget(steps=STEPS), sampler=sampler, draw=draw)
    return trajectory(run)


@pytest.mark.parametrize(("name", "field"), options("samplers"))
def test_options_of_samplers(name, field):
    cls, base = find("samplers", name).load(), BASE[name]
    default = base.get(field, getattr(cls(), field))
    usual = sampled(cls(**base))
    assert sampled(cls(**base | {field: perturbed(name, field, default)})) != usual
    assert sampled(cls(**base)) == usual


def test_the_cadence_a_guard_takes_from_the_method(monkeypatch):
    monkeypatch.setattr(m.SGD, "guard_every", 2)
    assert sampled(PointGuard(swap=0.05)) == sampled(PointGuard(every=2, swap=0.05))


# -- plans -----------------------------------------------------------------------------------------------------


def who(plan, steps=STEPS):
    return [row["method"] for row in rv.minimize(FIT, start(), plan, budget=rv.Budget(steps=steps)).rows]


def test_options_of_stages():
    assert {f.name for f in dataclasses.fields(rv.Stages)} == {"methods", "steps", "patience", "improvement"}
    slow, then = m.SGD(1e-6), m.Adam()
    usual = who(rv.Stages(slow, then, patience=6))
    assert who(rv.Stages(slow, then, patience=9)) != usual
    assert who(rv.Stages((slow, 3), then, patience=6)) != usual
    assert who(rv.Stages(then, slow, patience=6)) != usual
    assert who(rv.Stages(slow, then, patience=6, improvement=1e-7)) != usual


def test_options_of_auto():
    assert {f.name for f in dataclasses.fields(rv.Auto)} == {"dense", "memory"}
    usual = who(rv.Auto(), 2)
    assert who(rv.Auto(dense=5), 2) != usual
    assert who(rv.Auto(memory=1e-9), 2) != usual
