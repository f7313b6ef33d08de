"""Problems whose unknowns are numbers: their data, their answers from elsewhere, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from quadratics import follow

import ravine as rv
from ravine.bench.options import refine
from ravine.methods import GradientDescent, LevenbergMarquardt
from ravine.models.mlp import MLP
from ravine.problems import BreastCancer, Logistic, NonlinearFit, Poisson1D, Quadratic, Regression1D
from ravine.problems.parametric import NoModel
from ravine.sampling import Fixed, Fresh, PointGuard, ResidualAdaptive


def ready(problem, seed=0):
    model = problem.default_model()
    return problem.objective(model, problem.sample(seed)), problem.init(model, seed)


# -- quadratics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spectrum", ["geometric", "uniform", "power", "clusters"])
def test_the_hessian_of_a_quadratic_has_the_spectrum(spectrum):
    problem = Quadratic(dimension=9, condition=1e3, spectrum=spectrum)
    objective, params = ready(problem)
    with jax.enable_x64(True):
        hessian = np.asarray(jax.hessian(objective.value)(params)["coefficients"]["theta"]["coefficients"]["theta"])
    eigenvalues = np.sort(np.linalg.eigvalsh(hessian))
    expected = {
        "geometric": 10.0 ** (-3 * np.arange(9) / 8),
        "uniform": 1 - (1 - 1e-3) * np.arange(9) / 8,
        "power": np.arange(1, 10) ** (-3 / np.log10(9)),
        "clusters": [*0.5 ** (np.arange(4) / 3), *1e-3 * 0.5 ** (np.arange(5) / 4 - 1)],
    }[spectrum]
    np.testing.assert_allclose(eigenvalues, np.sort(expected), rtol=0, atol=1e-14)


def test_gradient_descent_shrinks_each_mode_of_the_problem_as_predicted():
    problem = Quadratic(dimension=12, condition=1e3)
    form, (objective, params) = problem.form(), ready(problem)
    with jax.enable_x64(True):
        pull = objective.pull(lambda theta: {"model": {}, "coefficients": {"theta": theta}})
        path = follow(GradientDescent(rule="fixed", learning_rate=1.9), pull, params["coefficients"]["theta"], 300)
    modes = form.modes(path.params)
    predicted = modes[0] * (1 - 1.9 * form.eigenvalues) ** np.arange(301)[:, None]
    np.testing.assert_allclose(modes, predicted, rtol=0, atol=1e-10)
    assert abs(modes[-1, 0]) < 1e-12 * abs(modes[0, 0]) and abs(modes[-1, -1]) > 0.5 * abs(modes[0, -1])
    metrics = problem.metrics()
    errors = {k: float(m(None, {"theta": path.params[20]})) for k, m in metrics.items()}
    thirds = np.array_split(modes[20], 3), np.array_split(form.solution @ form.vectors, 3)
    for name, error, exact in zip(("steep", "middle", "flat"), *thirds, strict=True):
        np.testing.assert_allclose(errors[name], np.linalg.norm(error) / np.linalg.norm(exact), rtol=1e-10)
    np.testing.assert_allclose(errors["l2"], np.linalg.norm(modes[20]) / np.linalg.norm(form.solution), rtol=1e-12)


@pytest.mark.parametrize("condition", [1e1, 1e6, 1e10])
def test_undamped_gauss_newton_needs_one_step_down_to_rounding(condition):
    problem = Quadratic(condition=condition)
    objective, params = ready(problem)
    run = rv.minimize(objective, params, "gn", budget=rv.Budget(steps=2))
    error = np.linalg.norm(run.params["coefficients"]["theta"] - problem.form().solution)
    # normal equations square the condition number
    assert error <= 1e-15 * condition * np.linalg.norm(problem.form().solution) + 1e-14


def test_the_start_of_a_quadratic_depends_on_the_seed_and_its_answer_does_not():
    problem = Quadratic()
    (first, a), (second, b) = ready(problem, 0), ready(problem, 1)
    assert not np.array_equal(a["coefficients"]["theta"], b["coefficients"]["theta"])
    assert np.array_equal(first.parts["rows"].points["u"], second.parts["rows"].points["u"])


# -- logistic regression -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [Logistic(), Logistic(condition=1e6, ridge=1e-4), BreastCancer()])
def test_the_logistic_answer_is_that_of_another_program(problem):
    """trust-exact of SciPy on the loss as NumPy computes it."""
    data, ridge = problem.classes(), np.full(problem.dim_in, problem.ridge)
    ridge[data.penalised :] = 0
    signed = data.labels[:, None] * data.features

    def loss(t):
        return np.mean(np.logaddexp(0, -signed @ t)) + 0.5 * np.sum(ridge * t * t)

    def gradient(t):
        return -signed.T @ (1 / (1 + np.exp(signed @ t))) / len(signed) + ridge * t

    def hessian(t):
        p = 1 / (1 + np.exp(signed @ t))
        return (signed.T * (p * (1 - p))) @ signed / len(signed) + np.diag(ridge)

    found = scipy.optimize.minimize(
        loss, np.zeros(problem.dim_in), jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-10}
    ).x
    theta = problem.true_coefficients()["theta"]
    assert np.linalg.norm(found - theta) < 1e-6 * np.linalg.norm(theta)
    rest = np.linalg.solve(hessian(theta), gradient(theta))
    assert np.linalg.norm(rest) < 1e-12 * np.linalg.norm(theta)
    objective, params = ready(problem)
    with jax.enable_x64(True):
        np.testing.assert_allclose(objective.value(params), loss(params["coefficients"]["theta"]), rtol=1e-13)
        gap = problem.metrics()["loss_gap"](problem.field(NoModel(), params), {})
    np.testing.assert_allclose(gap, loss(params["coefficients"]["theta"]) / loss(theta) - 1, rtol=1e-10)


def test_the_real_data_are_those_of_their_source():
    data = BreastCancer().classes()
    assert data.features.shape == (569, 31) and (np.sum(data.labels == 1), np.sum(data.labels == -1)) == (357, 212)
    np.testing.assert_allclose(data.features[:, :30].mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(data.features[:, :30].std(axis=0), 1, rtol=1e-13)
    assert np.all(data.features[:, 30] == 1)


def test_synthetic_features_have_the_conditioning_asked_for():
    features = Logistic(samples=20000, dimension=5, condition=1e4).classes().features
    spread = np.linalg.svd(features, compute_uv=False)
    assert (spread[0] / spread[-1]) ** 2 == pytest.approx(1e4, rel=0.1)


# -- certified fits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["thurber", "mgh09", "boxbod", "rat43"])
def test_the_certified_parameters_leave_the_certified_residual(dataset):
    """The data, the curve and the parameters at once: eleven certified digits of the residual sum of squares."""
    problem = NonlinearFit(dataset=dataset)
    objective, _ = ready(problem)
    with jax.enable_x64(True):
        loss = float(objective.value(problem.optimum()))
    assert 2 * loss == pytest.approx(problem.table()["residual_sum_of_squares"], rel=1e-10)
    near = NonlinearFit(dataset=dataset, start=2)
    for other in (problem, near):
        assert set(other.coefficients()) == set(problem.true_coefficients())


@pytest.mark.parametrize("dataset", ["thurber", "mgh09", "boxbod", "rat43"])
def test_levenberg_marquardt_finds_the_certified_parameters_from_the_near_start(dataset):
    run = rv.solve(NonlinearFit(dataset=dataset, start=2), method=LevenbergMarquardt(), budget=rv.Budget(steps=300))
    assert run.final["metrics.l2"] < 1e-6, run.reason


def test_relative_errors_weigh_small_and_large_parameters_alike():
    problem = NonlinearFit()
    q = {name: np.asarray(value) for name, value in problem.true_coefficients().items()}
    wrong = q | {"b7": q["b7"] * 1.7}
    metrics = problem.metrics()
    assert float(metrics["l2"](None, wrong)) == pytest.approx(0.7 / np.sqrt(7), rel=1e-6)
    for name in ("linf", "error_b7"):
        assert float(metrics[name](None, wrong)) == pytest.approx(0.7, rel=1e-12)


# -- the twins ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", [1, 4])
def test_the_twins_differ_in_the_operator_alone(frequency):
    physics, data = Poisson1D(frequency=frequency), Regression1D(frequency=frequency)
    assert physics.default_model() == data.default_model()
    assert sum(a.size for a in jax.tree.leaves(data.default_model().init(0))) == 61
    of_physics, of_data = physics.sample(3), data.sample(3)
    np.testing.assert_array_equal(of_physics["pde"].x, of_data["data"].x)
    np.testing.assert_array_equal(of_physics["boundary"].x, of_data["boundary"].x)
    (one, params), (other, same) = ready(physics), ready(data)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, same))
    with jax.enable_x64(True):
        u = physics.default_model().field(jax.tree.map(jnp.asarray, params["model"]))
        bends = jax.vmap(lambda x: jax.hessian(lambda s: u(s)[0])(x)[0, 0])(jnp.asarray(of_physics["pde"].x))
        residual = bends + (frequency * np.pi) ** 2 * np.sin(frequency * np.pi * of_physics["pde"].x[:, 0])
        ends = [float(u(jnp.array([end]))[0]) for end in (0.0, 1.0)]
        expected = 0.5 * (np.mean(residual**2) + 100 * np.mean(np.square(ends)))
        np.testing.assert_allclose(one.value(params), expected, rtol=1e-11)
        fit = jax.vmap(u)(jnp.asarray(of_data["data"].x)) - physics.exact(of_data["data"].x)
        np.testing.assert_allclose(
            other.value(params), 0.5 * (np.mean(fit**2) + 100 * np.mean(np.square(ends))), rtol=1e-11
        )


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [PointGuard(), Fresh(), ResidualAdaptive()])
def test_samplers_that_find_nothing_to_move_are_refused(sampler):
    for problem in (Quadratic(), Regression1D()):
        with pytest.raises(ValueError, match=r"nothing to move.*use sampler Fixed"):
            rv.solve(problem, method="gd", sampler=sampler, budget=rv.Budget(steps=1))


def test_data_problems_run_with_fixed_points_unasked():
    for sampler in (None, Fixed()):
        run = rv.solve(Quadratic(dimension=4), method="lm", sampler=sampler, budget=rv.Budget(steps=2))
        assert run.rows and "fresh points" not in run.reason


def test_a_model_is_refused_where_the_unknowns_are_numbers():
    problem = Quadratic()
    with pytest.raises(ValueError, match=r"Quadratic: its unknowns are coefficients.*MLP"):
        problem.objective(MLP(30, 1), problem.sample(0))
    physics = Poisson1D()
    with pytest.raises(ValueError, match=r"NoModel returns shape \(0,\), but Poisson1D needs \(1,\)"):
        physics.objective(NoModel(), physics.sample(0))


def test_options_of_no_model_are_refused():
    with pytest.raises(ValueError, match=r"NoModel has no option 'width'; it has none\.$"):
        refine(Quadratic().default_model(), {"width": "5"})


def test_a_part_of_the_rows_is_refused():
    with pytest.raises(ValueError, match="rows has 30 rows, all of them needed; got 29"):
        Quadratic().sample(0, {"rows": 29})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Quadratic(spectrum="geometrik"), "did you mean 'geometric'"),
        (lambda: Quadratic(condition=0.5), "condition must be from 1 to 1e12"),
        (lambda: Quadratic(dimension=2), "at least 3"),
        (lambda: Logistic(samples=1), "samples must be at least 2"),
        (lambda: Logistic(condition=float("nan")), "condition must be"),
        (lambda: BreastCancer(ridge=0.0), "ridge must be positive"),
        (lambda: NonlinearFit(dataset="thurbur"), "did you mean 'thurber'"),
        (lambda: NonlinearFit(start=3), "choose one of 1, 2"),
        (lambda: Poisson1D(frequency=0), "frequency must be a positive integer"),
        (lambda: Regression1D(design="gird"), "did you mean 'grid'"),
    ],
)
def test_bad_options_are_one_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
