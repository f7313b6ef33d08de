"""The contract of every registered problem, generated from the table, and what belongs to single problems."""

import dataclasses
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ravine.problems
from ravine.models.hard import Hard
from ravine.models.mlp import MLP
from ravine.objective import Composite, LeastSquares, Term
from ravine.problem import Equation, Points, RelativeH1, RelativeL2, RelativeLinf

FEW = 36


@pytest.fixture(params=ravine.problems.__all__)
def problem(request):
    return getattr(ravine.problems, request.param)()


def few(problem):
    """Small numbers of points; an energy keeps its own, because it is as exact as its quadrature, and a fit all its
    data, which determine the answer."""
    keep = {name for name, equation in problem.equations().items() if equation.outer is not None}
    keep |= problem.measured if problem.optimum() is not None else frozenset()
    return {name: n for name, n in ((k, min(FEW, n)) for k, n in problem.sizes.items()) if name not in keep}


def leading(points):
    """The coordinates of the rows: rows of data carry them as `x` beside the measured value."""
    return points.x["x"] if isinstance(points.x, dict) else points.x


def truth(problem):
    return {name: jnp.asarray(value) for name, value in problem.true_coefficients().items()}


def bump(x):
    return 0.1 * jnp.cos(1.3 * jnp.sum(x) + 0.7)


def perturbed(problem):
    return lambda x: problem.solution(x) + bump(x)


def rows(equation: Equation, u, points: Points, q):
    if equation.coupled:
        return jnp.asarray(equation.fn(u, points.x, q))
    return jax.jit(jax.vmap(lambda x: equation.fn(u, x, q)))(jax.tree.map(jnp.asarray, points.x))


def test_the_solution_satisfies_every_equation_and_a_perturbed_one_does_not(problem):
    if not problem.analytic:
        pytest.skip("the solution is stored data: its own test checks the equation")
    points = problem.sample(0, few(problem))
    for name, equation in problem.equations().items():
        if equation.outer is not None:
            continue
        allowed = problem.accuracy().get(name, 1e-9)
        right = jnp.max(jnp.abs(rows(equation, problem.solution, points[name], truth(problem))))
        wrong = jnp.max(jnp.abs(rows(equation, perturbed(problem), points[name], truth(problem))))
        assert right <= allowed, name
        assert wrong > max(1e-3, 10 * allowed), name


def test_wrong_coefficients_leave_a_residual(problem):
    guess = {name: jnp.asarray(value) for name, value in problem.coefficients().items()}
    assert set(guess) == set(problem.true_coefficients())
    if not guess or problem.optimum() is not None:
        pytest.skip("no unknown coefficients beside a field")
    points = problem.sample(0, few(problem))
    residuals = [rows(e, problem.solution, points[k], guess) for k, e in problem.equations().items()]
    assert max(float(jnp.max(jnp.abs(r))) for r in residuals) > 1e-2


def test_the_solution_minimises_every_energy(problem):
    energies = {name: e for name, e in problem.equations().items() if e.outer is not None}
    if not energies or problem.optimum() is not None:
        pytest.skip("no energy that the solution minimises by itself")
    points = problem.sample(0)
    lower, upper = np.asarray(problem.lower), np.asarray(problem.upper)

    def energy(name, size):
        def u(x):
            return problem.solution(x) + size * bump(x) * jnp.prod((x - lower) * (upper - x))

        phi = jax.vmap(energies[name].outer)(rows(energies[name], u, points[name], {}), points[name].x)
        return float(jnp.sum(points[name].quadrature * phi))

    for name in energies:
        least, more, less = (energy(name, size) for size in (0.0, 1.0, -1.0))
        assert more > least + 1e-6 and less > least + 1e-6
        # quadratic in the perturbation: no first variation at the solution
        assert abs(more - less) < 1e-9 * abs(least)


def shifted(params, size, seed=0):
    """Every number moved by `size` of itself, up or down."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: a * (1 + size * rng.choice([-1.0, 1.0], np.shape(a))), params)


def norm(tree):
    return np.linalg.norm(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]))


def test_the_objective_is_stationary_and_least_at_the_optimum(problem):
    optimum, model = problem.optimum(), problem.default_model()
    if optimum is None:
        pytest.skip("the solution is a field")
    objective = problem.objective(model, problem.sample(0))
    start = problem.init(model, 0)
    assert jax.tree.structure(optimum) == jax.tree.structure(start)
    at = jax.jit(jax.value_and_grad(objective.value))
    least, gradient = at(optimum)
    # a certified value has eleven digits, the others are exact to rounding
    allowed = 1e-8 if problem.reference_error()["l2"] > 1e-12 else 1e-14
    assert norm(gradient) <= allowed * norm(at(start)[1])
    for size in (1e-2, 1e-4):
        for seed in range(3):
            value, elsewhere = at(shifted(optimum, size, seed))
            assert value > least and norm(elsewhere) > 100 * norm(gradient)
    assert at(start)[0] > least


def thinned(metric):
    """About 200 of the points, where the score is a norm over points."""
    metric = jax.tree.map(jnp.asarray, metric)
    if not isinstance(metric, (RelativeL2, RelativeH1, RelativeLinf)):
        return metric
    return jax.tree.map(lambda a: a[:: len(a) // 200], metric)


def test_points_are_a_function_of_the_key(problem):
    sizes = few(problem)
    first, again, other = (problem.sample(k, sizes) for k in (jr.key(1), jr.key(1), jr.key(2)))
    assert set(first) == set(problem.equations()) == set(problem.sizes)
    assert problem.fixed | problem.measured <= set(first)
    for name, points in first.items():
        same = jax.tree.leaves(jax.tree.map(np.array_equal, points, again[name]))
        assert all(same), name
        moved = not np.array_equal(leading(points), leading(other[name]))
        if name not in problem.measured:
            assert moved == (name not in problem.fixed), name


def test_points_lie_in_the_closed_domain_in_float64(problem):
    sizes = few(problem)
    for name, points in problem.sample(0, sizes).items():
        x = leading(points)
        assert x.dtype == np.float64 and isinstance(x, np.ndarray)
        assert x.shape == (sizes.get(name, problem.sizes[name]), problem.dim_in)
        assert np.all(x >= np.asarray(problem.lower)) and np.all(x <= np.asarray(problem.upper)), name
        if points.quadrature is not None:
            assert points.quadrature.shape == (len(x),) and np.all(points.quadrature >= 0)


def test_sizes_are_honoured_and_unknown_names_refused(problem):
    name = next(iter(problem.sizes))
    with pytest.raises(ValueError, match=f"did you mean '{name}'"):
        problem.sample(0, {name + "x": 4})
    with pytest.raises(ValueError, match="positive integer"):
        problem.sample(0, {name: 0})


def test_scores_are_zero_for_the_solution_and_positive_otherwise(problem):
    metrics, m = problem.metrics(), len(problem.test_points())
    assert next(iter(metrics)) == "l2" and "linf" in metrics
    assert ("h1" in metrics) == problem.analytic
    assert problem.test_points().shape == (m, problem.dim_in)
    assert problem.reference().shape == (m, problem.dim_out)
    assert problem.reference().dtype == np.float64
    wrong = {name: value * 1.5 for name, value in truth(problem).items()}
    few_rows = {name: thinned(metric) for name, metric in metrics.items()}
    score = eqx.filter_jit(lambda all, u, q: {name: metric(u, q) for name, metric in all.items()})
    for name, value in score(few_rows, problem.solution, truth(problem)).items():
        assert value <= 1e-9, name
    for name, value in score(few_rows, perturbed(problem), wrong).items():
        assert value > 1e-3, name


def test_the_objective_has_the_equations_that_the_model_does_not_impose(problem):
    model = problem.default_model()
    assert model.imposes <= set(problem.equations())
    points, params = problem.sample(0, few(problem)), problem.init(model, 0)
    objective = problem.objective(model, points)
    left = set(problem.equations()) - model.imposes
    assert set(objective.parts) == left
    energies = {name for name, e in problem.equations().items() if e.outer is not None}
    assert isinstance(objective, Composite if energies else LeastSquares)
    assert set(params) == {"model", "coefficients"}
    assert all(a.dtype == np.float64 for a in jax.tree.leaves(params))

    value = jax.jit(lambda o, p: o.value(p))
    first = value(objective, params)
    again = getattr(ravine.problems, type(problem).__name__)()
    second = value(again.objective(again.default_model(), again.sample(1, few(problem))), params)
    assert jnp.isfinite(first) and jnp.isfinite(second)
    assert value._cache_size() == 1  # equal problems and models are one compiled program


def test_the_default_model_satisfies_what_it_imposes(problem):
    model = problem.default_model()
    if not model.imposes:
        pytest.skip("the default model imposes nothing")
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda a: a + rng.normal(size=a.shape), model.init(0))
    points = problem.sample(0, few(problem))
    for name in model.imposes:
        residual = rows(problem.equations()[name], model.field(params), points[name], truth(problem))
        assert jnp.max(jnp.abs(residual)) < 1e-12, name


def test_the_picture_is_a_grid_in_the_domain(problem):
    points, axes, labels = problem.picture()
    assert points.shape == (np.prod([len(a) for a in axes]), problem.dim_in) and len(labels) == len(axes)
    assert np.all(points >= np.asarray(problem.lower)) and np.all(points <= np.asarray(problem.upper))
    if len(axes) == 1:
        assert np.all(np.diff(axes[0]) > 0)
        return
    grid = points.reshape(len(axes[0]), len(axes[1]), -1)
    along = [j for j in range(problem.dim_in) if np.ptp(points[:, j]) > 0]
    assert np.array_equal(grid[:, 0, along[0]], axes[0]) and np.array_equal(grid[0, :, along[1]], axes[1])


def test_docstrings_state_equation_character_and_source(problem):
    text = sys.modules[type(problem).__module__].__doc__
    for heading in ("Equations", "Character", "Good values", "Reference"):
        assert heading in text, heading


OTHER = {"spectrum": "power", "dataset": "mgh09", "start": 2}  # options with a closed list of values


def changed(name, value):
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 4 * value or 1  # a square stays one
    if isinstance(value, float):
        return 1.25 * value or 0.01
    return {"grid": "uniform"}.get(value, "halton" if value == "uniform" else "uniform")


def signature(problem):
    """What a user can see of a problem: weights, points, residuals of a fixed network, default model, coefficients."""
    points, model = problem.sample(0), MLP(problem.dim_in, problem.dim_out, width=3, depth=1)
    u, q = model.field(model.init(0)), truth(problem)
    parts = [repr(problem.default_model()), repr(problem.coefficients()), repr(problem.true_coefficients())]
    for name, equation in problem.equations().items():
        few_rows = points[name]._replace(x=jax.tree.map(lambda a: a[:2], points[name].x))
        parts += [equation.weight, len(leading(points[name])), np.asarray(leading(points[name])[:4]).tolist()]
        parts += [] if equation.coupled else [np.asarray(rows(equation, u, few_rows, q)).tolist()]
        parts += [np.asarray(leaf)[:4].tolist() for leaf in jax.tree.leaves(points[name].x)]
    return parts


def test_every_option_changes_something(problem):
    before = signature(problem)
    for field in dataclasses.fields(problem):
        other = dataclasses.replace(problem, **{field.name: changed(field.name, getattr(problem, field.name))})
        assert signature(other) != before, f"{type(problem).__name__}.{field.name} does nothing"


def test_options_are_static(problem):
    assert jax.tree.leaves(problem) == [] and jax.tree.leaves(problem.default_model()) == []
    assert hash(problem) == hash(getattr(ravine.problems, type(problem).__name__)())


# --- single problems


def test_listing_problems_and_models_imports_no_jax():
    code = "import sys, ravine.problems as p, ravine.models as m; print(p.__all__ + m.__all__, 'jax' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"{ravine.problems.__all__ + ravine.models.__all__} False"
    assert dir(ravine.problems) == sorted(ravine.problems._TABLE)
    with pytest.raises(AttributeError, match="has no problem 'Poisson3D'; did you mean 'Poisson5D'"):
        ravine.problems.Poisson3D


def test_poisson_soft_boundary_is_a_penalty_of_weight_four():
    problem = ravine.problems.Poisson2D(hard=False)
    model = problem.default_model()
    assert isinstance(model, MLP) and (model.width, model.depth) == (32, 1)
    assert sum(a.size for a in jax.tree.leaves(model.init(0))) == 129
    points = problem.sample(0)
    assert {k: len(p.x) for k, p in points.items()} == {"pde": 900, "boundary": 120}
    objective = problem.objective(model, points)
    u = model.field(model.init(0))
    residual = {k: rows(e, u, points[k], {}) for k, e in problem.equations().items()}
    mean = {k: float(jnp.mean(r**2)) for k, r in residual.items()}
    expected = 0.5 * (mean["pde"] + 4.0 * mean["boundary"])
    assert objective.value(problem.init(model, 0)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "count"), [("Poisson2D", 697), ("Poisson5D", 769), ("Convection1D", 721), ("DeepRitz2D", 697)]
)
def test_default_models_have_the_published_sizes(name, count):
    model = getattr(ravine.problems, name)().default_model()
    assert sum(a.size for a in jax.tree.leaves(model.init(0))) == count


def test_convection_network_sees_the_stretched_time():
    model = ravine.problems.Convection1D().default_model()
    features = model.inner.features(jnp.array([0.3, 0.25]))
    assert jnp.allclose(features, jnp.array([np.cos(0.3), np.sin(0.3), 20 * 0.25 - 10]), atol=1e-14)


def test_deep_ritz_energy_is_exact_at_the_solution_and_the_gap_is_half_the_squared_h1_error():
    problem = ravine.problems.DeepRitz2D()
    gap = problem.metrics()["energy_gap"]
    assert gap(problem.solution, {}) < 1e-14

    def u(x):
        return (1 + 1e-3) * problem.solution(x)

    # E(u* + e) - E(u*) = ½ ∫|∇e|², and e = 1e-3 u* gives 1e-6 |E(u*)|
    assert gap(u, {}) == pytest.approx(1e-6, rel=1e-6)


def test_scores_are_float64_without_a_precision_scope():
    # the reference is computed in float64 even where the caller's default is float32
    problem = ravine.problems.Poisson2D()
    with jax.enable_x64(False):
        values = problem.reference()
        slopes = problem.metrics()["h1"].slopes
    exact = np.prod(np.sin(np.pi * problem.test_points()), axis=1, keepdims=True)
    assert np.max(np.abs(values - exact)) < 1e-15
    assert slopes.dtype == np.float64


def test_objective_refuses_what_does_not_fit():
    problem = ravine.problems.Poisson2D()
    points = problem.sample(0)
    plain = MLP(2, 1, width=3, depth=1)
    with pytest.raises(ValueError, match=r"imposes 'boundry'.*did you mean 'boundary'"):
        problem.objective(Hard(plain, imposes=("boundry",)), points)
    with pytest.raises(ValueError, match="no points for 'boundary'"):
        problem.objective(plain, {"pde": points["pde"]})
    with pytest.raises(ValueError, match="points names 'edge'"):
        problem.objective(plain, points | {"edge": points["pde"]})
    with pytest.raises(ValueError, match=r"MLP does not take points of shape \(2,\)"):
        problem.objective(MLP(3, 1), points)
    with pytest.raises(ValueError, match=r"returns shape \(2,\), but Poisson2D needs \(1,\)"):
        problem.objective(MLP(2, 2), points)
    with pytest.raises(ValueError, match="imposes every equation"):
        problem.objective(Hard(plain, imposes=("boundary", "pde")), points)
    # imposed equations need no points, and bare arrays are points
    objective = problem.objective(Hard(plain), {"pde": points["pde"].x})
    assert isinstance(objective.parts["pde"], Term) and objective.parts["pde"].n == 900


def test_bad_problem_options_are_one_sentence():
    with pytest.raises(ValueError, match="did you mean 'sobol'"):
        ravine.problems.Poisson2D(design="sobel")
    with pytest.raises(ValueError, match="beta must be finite and not zero"):
        ravine.problems.Convection1D(beta=0.0)
    for name, number in (("energy", 0), ("energy", -4), ("energy", 1.5), ("boundary", 0)):
        make = ravine.problems.DeepRitz2D if name == "energy" else ravine.problems.Burgers1D
        with pytest.raises(ValueError, match=f"the number of {name} points must be a positive integer; got {number}"):
            make(**{f"n_{name}": number}).sample(0)
    with pytest.raises(ValueError, match="nearest size is"):
        ravine.problems.Poisson2D(n_pde=997).sample(0)
