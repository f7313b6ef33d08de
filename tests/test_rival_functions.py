"""Each rival library is given the very same function, and its work is counted as it is done.

What a library does with the function is its own affair. What is tested is what it was given: a probe reads value and
gradient off the library's own state after a step, or off the arguments it was called with.
"""

from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from rival_cases import ALL, MODEL, PROBLEM, jnp, needs, objective, rival, view_at

from ravine.driver.budget import Budget
from ravine.linearization import Linearization
from ravine.registry import entries
from ravine.rivals.library import LIBRARIES
from ravine.rivals.race import solve_with
from ravine.rivals.track import Track
from ravine.rivals.view import View

# Other libraries warn of their own matters when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")


def truth(view: View, theta) -> tuple[float, np.ndarray]:
    """Value and gradient by the objective's own methods, apart from the view."""
    params = view.unravel(jnp.asarray(theta))
    value, grad = jax.jit(lambda o, p: o.value_and_grad(p))(objective(), params)
    return float(value), np.asarray(jax.flatten_util.ravel_pytree(grad)[0])


# -- probes: (theta, value, gradient) as the library has them ------------------------------------------------------


def one_step(name, view, monkeypatch=None):
    """(theta, state) after one step of a stepped rival, compiled as in a run."""
    solver = rival(name).solver(view)

    @jax.jit
    def run(theta, data):
        theta, state = solver.step(theta, solver.init(theta, data), data)
        return theta, {k: v for k, v in read(state).items()}

    def read(state):
        return READ[name](state)

    return run(view.start, view.data)


def searched(state):
    """Where an Optax line search stopped it keeps value and gradient."""
    return {"value": optax.tree.get(state, "value"), "grad": optax.tree.get(state, "grad")}


READ = {
    "optax/adam": lambda s: {"grad": s[0].mu / 0.1},  # the first moment after one step is (1 - 0.9) g
    "optax/lbfgs": searched,
    "jno/ssbroyden": searched,
    "jno/ssbfgs": searched,
    "jinns/ssbroyden": lambda s: searched(s.linesearch_state),
    "scimba/ssbroyden": lambda s: {"value": s[1], "grad": s[2], "known": s[3]},
    "scimba/ssbfgs": lambda s: {"value": s[1], "grad": s[2], "known": s[3]},
    "jaxopt/lbfgs": lambda s: {"value": s.value, "grad": s.grad},
    "jaxopt/lm": lambda s: {"value": s.value, "grad": s.gradient},
    "optimistix/bfgs": lambda s: {"value": s.f_info.f, "grad": s.f_info.grad},
    "optimistix/lm": lambda s: {
        "value": 0.5 * s.f_info.residual @ s.f_info.residual,
        "grad": s.f_info.jac.transpose().mv(s.f_info.residual),
    },
}


def stepped(name, view, monkeypatch):
    theta, found = one_step(name, view)
    if name == "optax/adam":
        theta = view.start  # its moment was taken before the step
    assert found.get("known", True), "otherwise they are of no use to the next step"
    return theta, found.get("value"), found["grad"]


class Seen(Exception):
    """Raised by a spy in place of the library's solver."""

    def __init__(self, theta, value, grad):
        super().__init__()
        self.found = theta, value, grad


class NoTrack:
    def begin(self):
        """Nothing is timed."""


def scipy(name, view, monkeypatch):
    """The arguments of scipy.optimize.minimize and least_squares."""
    import scipy.optimize

    def minimize(function, x0, **_):
        raise Seen(x0, *function(x0))

    def least_squares(function, x0, jac, **_):
        r, j = function(x0), jac(x0)
        raise Seen(x0, 0.5 * r @ r, r @ j)

    monkeypatch.setattr(scipy.optimize, "minimize", minimize)
    monkeypatch.setattr(scipy.optimize, "least_squares", least_squares)
    with pytest.raises(Seen) as seen:
        rival(name).run(view, NoTrack())
    return seen.value.found


def jinns_ngd(name, view, monkeypatch):
    """Rows, Jacobian and loss as `update` gets them; the function is 2L with the gradient of L."""
    import jinns.optimizers

    def update(given, state, params, loss, batch, loss_value):
        rows, slopes, weight = given[0]["rows"], given[1]["rows"].nn_params, given[2]["rows"]
        again = loss.evaluate_per_sample(params, batch)["rows"]
        assert float(jnp.sum((weight * again) ** 2)) == pytest.approx(float(loss_value), rel=1e-13)
        raise Seen(params.nn_params, 0.5 * loss_value, weight**2 * jnp.einsum("ij,ijk->k", rows, slopes))

    fake = type("Transformation", (), {"init": staticmethod(lambda p: ()), "update": staticmethod(update)})
    monkeypatch.setattr(jinns.optimizers, "vanilla_ngd", lambda **_: fake)
    with pytest.raises(Seen) as seen:
        rival(name).solver(view).step(view.start, (), view.data)
    return seen.value.found


def scimba_natural(name, view, monkeypatch):
    """The losses and the system of scimba's natural gradients; their function is 2L."""
    from scimba_jax.nonlinear_approximation.optimizers import anagram, optimizers

    def update(self, theta, data):
        loss = 0.5 * self.losses_function(theta, data)["total"]
        if name == "scimba/eng":
            gram, grad = self._assemble_gram_and_grad(theta, data, True)
            rows, again, twice = self._points_side_system(theta, data, True)
            np.testing.assert_allclose(gram, rows.T @ rows + self.matrix_regularization * jnp.eye(theta.size), 1e-12)
            np.testing.assert_allclose(again, grad, 1e-12, 1e-12)
            np.testing.assert_allclose(0.125 * twice @ twice, loss, 1e-12)
            assert self._n_rows(data) == len(rows)
            raise Seen(theta, loss, 0.5 * grad)
        rows, r = self._system(theta, data)
        raise Seen(theta, loss, r @ rows)

    monkeypatch.setattr(optimizers.ENGOptimizer, "update", update)
    monkeypatch.setattr(anagram.ANaGRAMOptimizer, "update", update)
    with pytest.raises(Seen) as seen:
        solver = rival(name).solver(view)
        solver.step(view.start, solver.init(view.start, view.data), view.data)
    return seen.value.found


def deepxde(name, view, monkeypatch):
    """Value and gradient as the closure gives them to DeepXDE's optimizer."""
    from deepxde import optimizers

    class Fake:
        def __init__(self, params):
            (self.theta,) = params

        def step(self, closure):
            value = closure()
            raise Seen(self.theta.detach().numpy(), value.detach(), self.theta.grad)

    monkeypatch.setattr(optimizers, "get", lambda params, *_, **__: (Fake(params), None))
    with pytest.raises(Seen) as seen:
        rival(name).run(view, NoTrack())
    return seen.value.found


PROBES = dict.fromkeys(READ, stepped) | {
    "deepxde/adam": deepxde,
    "deepxde/lbfgs": deepxde,
    "scipy/trf": scipy,
    "scipy/bfgs": scipy,
    "scipy/lbfgsb": scipy,
    "jinns/ngd": jinns_ngd,
    "scimba/eng": scimba_natural,
    "scimba/anagram": scimba_natural,
}


def test_every_rival_has_a_probe_and_a_library():
    assert set(PROBES) == set(entries("rivals"))
    assert {name.partition("/")[0] for name in PROBES} == set(LIBRARIES)
    for name, entry in entries("rivals").items():
        cls = entry.load()
        assert cls.name == name and cls.call and cls.source and entry.summary


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ALL)
def test_the_library_is_given_the_very_same_function(name, seed, monkeypatch):
    view = view_at(seed)
    theta, value, grad = PROBES[name](name, view, monkeypatch)
    true_value, true_grad = truth(view, theta)
    if value is not None:  # Adam sees the gradient only
        assert float(value) == pytest.approx(true_value, rel=1e-12)
    assert np.linalg.norm(np.asarray(grad) - true_grad) <= 1e-12 * np.linalg.norm(true_grad)
    assert np.linalg.norm(true_grad) > 1e-3, "a gradient that vanishes would agree with anything"


def test_the_view_agrees_with_the_objective_in_every_form():
    view = view_at(3)
    value, grad = truth(view, view.start)
    local = Linearization(objective(), view.unravel(view.start))
    r, j = view.residual(view.start, view.data), view.jacobian(view.start, view.data)
    assert view.rows == len(r) == 24
    np.testing.assert_allclose(j, local.jacobian(), 1e-12, 1e-14)
    assert float(view.value(view.start, view.data)) == pytest.approx(value, rel=1e-13)
    assert float(0.5 * r @ r) == pytest.approx(value, rel=1e-13)
    given = lambda theta: view.residual_with_jacobian(theta, view.data)
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(mode(given)(view.start), j, 1e-12, 1e-14)
    np.testing.assert_allclose(jax.grad(lambda t: 0.5 * jnp.sum(given(t) ** 2))(view.start), grad, 1e-11, 1e-13)


# -- work and options --------------------------------------------------------------------------------------------


COUNTED = [pytest.param(n, marks=needs(n)) for n, entry in entries("rivals").items() if entry.load().counted]


@pytest.mark.parametrize("name", COUNTED)
def test_counted_work_is_the_work_done(name, monkeypatch):
    """Every evaluation that is carried out calls back to the host; what scores the rows is left out.

    The callback is pure, so that a call whose result the library throws away is dropped with it, as in a real run.
    """
    done = dict.fromkeys(("value", "value_and_grad", "residual", "jacobian"), 0)
    counting = [False]

    def watched(which, original):
        def count(theta):
            done[which] += counting[0]
            return theta

        @jax.custom_jvp
        def seen(theta):
            return jax.pure_callback(count, jax.ShapeDtypeStruct(theta.shape, theta.dtype), theta)

        seen.defjvp(lambda primals, tangents: (seen(*primals), *tangents))
        return lambda self, theta, data: original(self, seen(theta), data)

    def begin(self, original=Track.begin):
        original(self)
        jax.effects_barrier()
        counting[0] = True

    def score(self, theta, original=Track.score):
        jax.effects_barrier()
        before, counting[0] = counting[0], False
        found = original(self, theta)
        jax.effects_barrier()
        counting[0] = before
        return found

    for which in done:
        monkeypatch.setattr(View, which, watched(which, getattr(View, which)))
    monkeypatch.setattr(Track, "begin", begin)
    monkeypatch.setattr(Track, "score", score)
    run = solve_with(name, PROBLEM, MODEL, budget=Budget(steps=7))
    jax.effects_barrier()
    told = run.summary["counts"]
    if name == "jaxopt/lm":  # callbacks of one point are not merged, as what they stand for is: the test below
        done["residual"] -= run.steps
    gradients = done["value"] + done["value_and_grad"]  # every value is taken with its gradient here
    assert told["residual"] == gradients + done["residual"] > 0
    assert (told["vjp"], told["rows"]) == (gradients, 24 * done["jacobian"])


@needs("jaxopt/lm")
def test_the_second_evaluation_of_a_trial_of_jaxopt_is_merged_with_the_first():
    """It is in the program as written and not in the one that runs, so it is not charged."""
    view = SimpleNamespace(
        residual=lambda theta, data: jnp.tanh(data * theta),
        jacobian=lambda theta, data: jnp.diag(data),
        jacobian_work={"rows": 3, "batch": 0},
    )
    solver, theta, data = rival("jaxopt/lm").solver(view), jnp.ones(3), jnp.arange(1.0, 4.0)
    lowered = jax.jit(solver.step).lower(theta, solver.init(theta, data), data)
    assert lowered.as_text().count("stablehlo.tanh") == 2
    assert lowered.compile().as_text().count(" tanh(") == 1


OPTIONS = [
    ("scipy/bfgs", {"c2": 0.1}),
    ("scimba/ssbroyden", {"wolfe_c2": 0.1}),
    ("jno/ssbroyden", {"scale_init_precond": False}),
    ("scipy/trf", {"scale": "jac"}),
    ("scipy/lbfgsb", {"memory": 1}),
    ("optax/adam", {"learning_rate": 1e-2}),
    ("optax/adam", {"decay_rate": 0.5, "decay_steps": 1}),
    ("optax/lbfgs", {"memory": 1}),
    ("jaxopt/lm", {"linear_solver": "cholesky"}),
    ("jaxopt/lbfgs", {"memory": 1}),
    ("jaxopt/lm", {"damping": 1e-1}),
    ("jno/ssbroyden", {"adam": 3}),
    ("jinns/ngd", {"gram_reg": 1e-2}),
    ("jinns/ngd", {"backtracking": 1}),
    ("scimba/eng", {"regularization": 1e-2}),
    ("scimba/eng", {"adaptive": True}),
    ("scimba/anagram", {"threshold": 0.3}),
    ("deepxde/adam", {"learning_rate": 1e-2}),
    ("deepxde/lbfgs", {"memory": 1}),
]


@pytest.mark.parametrize("name, options", [pytest.param(n, o, marks=needs(n), id=f"{n}-{o}") for n, o in OPTIONS])
def test_an_option_changes_the_trajectory(name, options):
    budget = Budget(steps=12)
    plain = solve_with(name, PROBLEM, MODEL, budget=budget)
    changed = solve_with(rival(name, **options), PROBLEM, MODEL, budget=budget)
    assert plain.rows[0]["loss"] == changed.rows[0]["loss"]
    assert plain.final["loss"] != changed.final["loss"]


@needs("deepxde/lbfgs")
def test_one_iteration_a_call_takes_the_iterates_of_many():
    """PyTorch's L-BFGS is stepped by single iterations; DeepXDE makes a thousand in a call."""
    from deepxde.optimizers.config import LBFGS_options

    one = solve_with("deepxde/lbfgs", PROBLEM, MODEL, budget=Budget(steps=25))
    made, single = rival("deepxde/lbfgs"), []

    class Whole(type(made)):
        def optimizer(self, params):
            optimizer = super().optimizer(params)
            assert LBFGS_options["iter_per_step"] == 1
            optimizer.param_groups[0].update(max_iter=25, max_eval=10**6)
            return optimizer

    many = solve_with(Whole(), PROBLEM, MODEL, budget=Budget(steps=1), callbacks=[lambda *_: single.append(1)])
    assert len(single) == 1 and many.final["loss"] == one.final["loss"] < 0.2 * one.rows[0]["loss"]
    assert many.summary["counts"] == one.summary["counts"]
