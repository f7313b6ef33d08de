"""The contract of every registered model, generated from the table, and what belongs to single models."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ravine.models
from ravine.model import Model
from ravine.models.hard import Hard, ZeroOnBox
from ravine.models.mlp import MLP
from ravine.models.periodic import Periodic

X = np.array([0.3, 0.6])


@pytest.fixture(params=ravine.models.__all__)
def model(request):
    return getattr(ravine.models, request.param)()


def shaken(model, seed=1):
    """Parameters with nothing at zero or one, so that every part of the form acts."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: a + 0.3 * rng.normal(size=a.shape), model.init(0))


def test_models_work_without_arguments(model):
    params = model.init(jr.key(0))
    assert all(isinstance(a, np.ndarray) and a.dtype == np.float64 for a in jax.tree.leaves(params))
    u = model.apply(params, X)
    assert u.shape == (1,) and u.dtype == jnp.float64 and jnp.all(jnp.isfinite(u))
    assert jnp.array_equal(model.field(params)(X), u)
    assert isinstance(model.imposes, frozenset)


def test_initial_parameters_are_a_function_of_the_key(model):
    first, again, other = (model.init(k) for k in (jr.key(1), jr.key(1), jr.key(2)))
    assert jax.tree.all(jax.tree.map(np.array_equal, first, again))
    assert not jax.tree.all(jax.tree.map(np.array_equal, first, other))


def test_configuration_is_static_and_equal_models_are_equal(model):
    assert jax.tree.leaves(model) == []
    twin = getattr(ravine.models, type(model).__name__)()
    assert model == twin and hash(model) == hash(twin)


def test_apply_follows_the_precision_of_its_inputs(model):
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), model.init(0))
    assert model.apply(params, jnp.asarray(X, jnp.float32)).dtype == jnp.float32


OPTIONS = {
    "dim_out": 2,
    "width": 5,
    "depth": 1,
    "activation": "sin",
    "adaptive": True,
    "weights": "glorot_normal",
    ("lower", "upper"): ((0.0, 0.0), (2.0, 2.0)),
}


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_of_the_mlp_changes_the_field_or_the_parameters(option):
    names = (option,) if isinstance(option, str) else option
    values = (OPTIONS[option],) if isinstance(option, str) else OPTIONS[option]
    before, after = MLP(), dataclasses.replace(MLP(), **dict(zip(names, values, strict=True)))
    same_tree = jax.tree.structure(before.init(0)) == jax.tree.structure(after.init(0))
    same_field = same_tree and jnp.array_equal(before.apply(before.init(0), X), after.apply(after.init(0), X))
    assert not same_field
    assert {f.name for f in dataclasses.fields(MLP)} == {
        "dim_in",
        "lower",
        "upper",
        *filter(lambda k: isinstance(k, str), OPTIONS),
    }


def test_mlp_is_the_stated_formula():
    model = MLP(2, 3, width=4, depth=2, activation="sin", adaptive=True, lower=(0.0, -1.0), upper=(1.0, 3.0))
    params = shaken(model)
    h = np.array([2 * 0.3 - 1, 2 * (0.6 + 1) / 4 - 1])
    *hidden, last = params["layers"]
    for scale, layer in zip(params["scales"], hidden, strict=True):
        h = np.sin(scale * (layer["kernel"] @ h + layer["bias"]))
    np.testing.assert_allclose(model.apply(params, X), last["kernel"] @ h + last["bias"], rtol=1e-13)
    assert [layer["kernel"].shape for layer in params["layers"]] == [(4, 2), (4, 4), (3, 4)]


def test_mlp_of_depth_zero_is_affine():
    model = MLP(2, 1, depth=0)
    params = shaken(model)
    u = model.field(params)
    np.testing.assert_allclose(u(X) + u(-X), 2 * u(0 * X), rtol=1e-13)


@pytest.mark.parametrize("kind", ["glorot_uniform", "glorot_normal"])
def test_initial_weights_have_glorot_variance_and_biases_are_zero(kind):
    layer = MLP(200, 1, width=300, depth=1, weights=kind).init(0)["layers"][0]
    kernel = layer["kernel"]
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / 500), rel=0.02)
    assert (np.max(np.abs(kernel)) <= np.sqrt(6 / 500)) == (kind == "glorot_uniform")
    assert not layer["bias"].any()


def test_adaptive_scales_begin_at_one_and_leave_the_field_unchanged():
    plain, adaptive = MLP(), MLP(adaptive=True)
    assert adaptive.init(0)["scales"].tolist() == [1.0, 1.0, 1.0]
    assert jnp.array_equal(plain.apply(plain.init(0), X), adaptive.apply(adaptive.init(0), X))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"activation": "tahn"}, "activation='tahn' is unknown; did you mean 'tanh'"),
        ({"activation": "relu"}, "choose one of tanh, sin"),
        ({"weights": "glorot"}, "weights='glorot' is unknown; did you mean 'glorot_"),
        ({"width": 0}, "width must be an integer of at least 1; got 0"),
        ({"depth": -1}, "depth must be an integer of at least 0"),
        ({"dim_in": 2.0}, "dim_in must be an integer"),
        ({"depth": 0, "adaptive": True}, "depth = 0 has none"),
        ({"lower": (0.0, 0.0)}, "both lower and upper"),
        ({"lower": (0.0,), "upper": (1.0,)}, "tuples of 2 numbers"),
        ({"lower": (0.0, 1.0), "upper": (1.0, 1.0)}, "lower < upper"),
    ],
)
def test_bad_options_of_the_mlp_are_one_sentence(options, says):
    with pytest.raises(ValueError, match=says):
        MLP(**options)


def test_periodic_embedding_is_periodic_with_all_derivatives_and_not_otherwise():
    model = Periodic(periodic=(True, False), lower=(-1.0, 0.0), upper=(1.0, 1.0), harmonics=2)
    u = model.field(shaken(model))
    left, right = np.array([-1.0, 0.3]), np.array([1.0, 0.3])
    for derivative in (u, jax.jacfwd(u), jax.hessian(u)):
        at_left, at_right = jax.jit(jax.vmap(derivative))(np.stack([left, right]))
        np.testing.assert_allclose(at_left, at_right, rtol=1e-11, atol=1e-11)
    assert jnp.abs(u(np.array([0.2, 0.0])) - u(np.array([0.2, 1.0])))[0] > 1e-3
    assert model.imposes == {"periodic"}


def test_periodic_features_in_order():
    model = Periodic(periodic=(False, True), lower=(0.0, 0.0), upper=(2.0, 4.0), harmonics=2, stretch=3.0)
    phi = np.pi / 2 * 0.6
    expected = [3 * (2 * 0.3 / 2 - 1), np.cos(phi), np.cos(2 * phi), np.sin(phi), np.sin(2 * phi)]
    np.testing.assert_allclose(model.features(jnp.asarray(X)), expected, rtol=1e-14)
    assert model.inner.dim_in == 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"periodic": (False, False)}, "no coordinate is marked periodic"),
        ({"harmonics": 0}, "harmonics must be a positive integer"),
        ({"stretch": -1.0}, "stretch must be positive"),
        ({"lower": (0.0,)}, "tuples of 2 numbers"),
        ({"inner": MLP(2, 1)}, r"3 features, but the inner MLP takes 2; give MLP\(dim_in=3\)"),
    ],
)
def test_bad_options_of_periodic_are_one_sentence(options, says):
    with pytest.raises(ValueError, match=says):
        Periodic(**options)


def ramp(x):
    return x[:1] + 1


def test_hard_conditions_hold_for_every_parameter():
    model = Hard(MLP(2, 1), ZeroOnBox((0.0, 0.0), (1.0, 2.0)), ramp, imposes="edge")
    u = model.field(shaken(model))
    for x in ([0.0, 0.7], [1.0, 0.2], [0.4, 0.0], [0.4, 2.0]):
        assert u(np.array(x))[0] == pytest.approx(x[0] + 1, abs=1e-14)
    assert jnp.abs(u(np.array([0.5, 1.0]))[0] - 1.5) > 1e-3
    assert ZeroOnBox((0.0, 0.0), (1.0, 2.0))(jnp.array([0.5, 1.0])) == 1.0


def test_imposed_equations_add_up_through_nested_models():
    inner = Periodic(imposes=("periodic",))
    assert Hard(inner, ZeroOnBox(), imposes=("boundary", "initial")).imposes == {"periodic", "boundary", "initial"}


def test_bad_parts_of_hard_are_one_sentence():
    with pytest.raises(TypeError, match="inner must be a Model; got dict"):
        Hard({})
    with pytest.raises(TypeError, match="envelope must be a function of one point; got int"):
        Hard(envelope=3)
    with pytest.raises(TypeError, match="lift must be a function"):
        Hard(lift=0.0)


def test_a_model_of_ones_own_needs_two_methods():
    class Line(Model):
        def init(self, key):
            return {"slope": np.ones(2)}

        def apply(self, params, x):
            return (params["slope"] @ x)[None]

    assert Line().apply(Line().init(0), X).shape == (1,) and Line().imposes == frozenset()
