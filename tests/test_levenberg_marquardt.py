"""Levenberg-Marquardt against an independent solver on classical problems, and the parts of its step."""

import jax
import numpy as np
import pytest
import scipy.optimize

from ravine.methods.levenberg_marquardt import LevenbergMarquardt, LevenbergMarquardtState
from ravine.objective import Composite, LeastSquares, Term
from ravine.types import Status

jnp = jax.numpy
KEY = jax.random.key(0)


def system(fn, m):
    """½|fn(θ)|² of m coupled residuals."""
    return LeastSquares(Term(lambda p, _: fn(p), np.zeros((m, 1)), quadrature=np.ones(m), coupled=True))


def rosenbrock(p):
    return jnp.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])


def powell(p):
    a, b, c, d = p
    return jnp.stack([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


def wood(p):
    a, b, c, d = p
    rows = [10 * (b - a**2), 1 - a, 90**0.5 * (d - c**2), 1 - c, 10**0.5 * (b + d - 2), (b - d) / 10**0.5]
    return jnp.stack(rows)


MEYER = np.array(
    [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872.0]
)


def meyer(p):
    t = 45.0 + 5.0 * jnp.arange(1, 17)
    return p[0] * jnp.exp(p[1] / (t + p[2])) - MEYER


def bratu(p):
    """-u'' = e^u on (0, 1), u = 0 at both ends, central differences."""
    h, u = 1.0 / (p.size + 1), jnp.pad(p, 1)
    return (u[2:] - 2 * u[1:-1] + u[:-2]) / h**2 + jnp.exp(u[1:-1])


CLASSICAL = {
    "rosenbrock": (rosenbrock, 2, [-1.2, 1.0], 100),
    "powell": (powell, 4, [3.0, -1.0, 0.0, 1.0], 100),
    "wood": (wood, 6, [-3.0, -1.0, -3.0, -1.0], 200),
    "meyer": (meyer, 16, [0.02, 4000.0, 250.0], 400),
    "bratu": (bratu, 20, [0.0] * 20, 40),
}


def run(method, objective, theta, steps):
    def body(_, carry):
        step = method.step(objective, carry[0], carry[1], key=KEY)
        return step.params, step.state, step.info

    def loop(theta):
        state = method.init(objective, theta, key=KEY)
        first = body(0, (theta, state))
        return jax.lax.fori_loop(1, steps, body, first)

    return jax.jit(loop)(jnp.asarray(theta))


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_problems_reach_the_minimum_of_an_independent_solver(name):
    fn, m, start, steps = CLASSICAL[name]
    objective = system(fn, m)
    theta, _, info = run(LevenbergMarquardt(), objective, start, steps)
    jac = jax.jit(jax.jacfwd(fn))
    reference = scipy.optimize.least_squares(
        jax.jit(fn), start, jac=jac, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=20000
    )
    value = float(objective.value(theta))
    assert value <= reference.cost * (1 + 1e-8) + 1e-20
    if name == "meyer":  # 87.9458 in Moré, Garbow & Hillstrom (1981), for the sum of squares
        assert 2 * value == pytest.approx(87.945855, rel=1e-7)
    if name not in ("meyer", "powell"):
        np.testing.assert_allclose(theta, reference.x, atol=1e-7)
    assert int(info.status) in (Status.OK, Status.REJECTED)


NET = np.random.default_rng(1).normal(size=(25, 3))


def fit(p, x):
    return jnp.tanh(x[:2] @ p[:8].reshape(2, 4) + p[8:12]) @ p[12:] - jnp.sin(2 * x[0] * x[1])


FIT = LeastSquares({"data": Term(fit, NET), "decay": Term(lambda p, x: 0.1 * p[3] * x, NET[:4])})
START = np.random.default_rng(2).normal(size=16)
MOVING = LevenbergMarquardtState(jnp.asarray(2.0), jnp.asarray(2.0), jnp.asarray(0.05 * START))


def one(method, objective=FIT, state=MOVING, theta=START):
    return jax.jit(lambda t, s: tuple(method.step(objective, t, s, key=KEY)))(jnp.asarray(theta), state)


def test_the_three_forms_take_the_same_step():
    steps = {form: one(LevenbergMarquardt(form=form)) for form in ("primal", "dual", "qr", "auto")}
    for form in ("dual", "qr", "auto"):
        np.testing.assert_allclose(steps[form][0], steps["primal"][0], rtol=1e-9, atol=1e-10)
    few = LeastSquares({"data": Term(fit, NET[:9])})
    auto, dual, primal = (one(LevenbergMarquardt(form=f), few)[0] for f in ("auto", "dual", "primal"))
    assert bool(jnp.all(auto == dual)), "fewer rows than parameters choose the kernel"
    np.testing.assert_allclose(dual, primal, rtol=1e-8, atol=1e-9)


def test_the_step_is_the_one_of_the_equations():
    """d with momentum, geodesic acceleration and the ratio, from dense matrices."""
    theta, after = jnp.asarray(START), one(LevenbergMarquardt(scaling="identity", order=2))
    rows = lambda t: FIT.linearize(t).residual
    r, jac = rows(theta), jax.jacfwd(rows)(theta)
    damping = 2.0 * jnp.mean(jnp.sum(jac**2, axis=0)) * jnp.eye(16)
    centre = 0.5 * MOVING.previous
    d = centre - jnp.linalg.solve(jac.T @ jac + damping, jac.T @ (r + jac @ centre))
    second = jax.jacfwd(jax.jacfwd(rows))(theta) @ d @ d
    a = -0.5 * jnp.linalg.solve(jac.T @ jac + damping, jac.T @ second)
    info = after[2]
    assert int(info.scalars["trials"]) == 1 and int(info.status) == Status.OK
    np.testing.assert_allclose(info.scalars["bend"], 2 * jnp.linalg.norm(a) / jnp.linalg.norm(d), rtol=1e-9)
    np.testing.assert_allclose(after[0], theta + d + a, rtol=1e-10, atol=1e-11)
    gain = (FIT.value(theta) - FIT.value(theta + d + a)) / (FIT.value(theta) - 0.5 * jnp.sum((r + jac @ d) ** 2))
    np.testing.assert_allclose(info.scalars["rho"], gain, rtol=1e-8)
    expected = 2.0 * (max(1 / 3, 1 - (2 * float(gain) - 1) ** 3) if gain < 1 else 1 / 3)
    np.testing.assert_allclose(after[1].damping, expected, rtol=1e-8)
    np.testing.assert_allclose(after[1].previous, d + a, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "other",
    [{"order": 1}, {"order": 3}, {"momentum": 0.0}, {"scaling": "marquardt"}, {"scaling": "geometric"}],
    ids=str,
)
def test_options_change_the_step(other):
    base = one(LevenbergMarquardt(scaling="identity"))[0]
    assert float(jnp.max(jnp.abs(one(LevenbergMarquardt(**{"scaling": "identity", **other}))[0] - base))) > 1e-6


def cliff(p, x):
    """A residual that is not a number beyond p = 1, where its minimum would lie."""
    return jnp.where(p[0] > 1.0, jnp.nan, p[0] - 3.0 + 0.0 * x)


def test_a_trial_that_is_not_a_number_is_rejected():
    objective = LeastSquares(Term(cliff, np.zeros(3)))
    theta, state, info = one(LevenbergMarquardt(damping=1e-3), objective, _fresh(1e-3, 1), np.zeros(1))
    assert int(info.status) == Status.OK and int(info.scalars["trials"]) > 1
    assert 0 < float(theta[0]) <= 1.0 and float(state.previous[0]) == 0.0
    theta, state, info = one(LevenbergMarquardt(max_trials=2), objective, _fresh(1e-3, 1), np.zeros(1))
    assert int(info.status) == Status.REJECTED
    assert float(theta[0]) == 0.0 and float(info.step_norm) == 0.0 and float(state.damping) == pytest.approx(8e-3)
    info = one(LevenbergMarquardt(), objective, _fresh(1e-3, 1), np.full(1, 2.0))[2]
    assert int(info.status) == Status.NONFINITE and int(info.scalars["trials"]) == 0


def _fresh(damping, size):
    return LevenbergMarquardtState(jnp.asarray(damping), jnp.asarray(2.0), jnp.zeros(size))


def test_a_shorter_way_along_the_curve_is_tried_before_more_damping():
    objective = LeastSquares(Term(cliff, np.zeros(3)))
    theta, state, info = one(LevenbergMarquardt(scaling="identity"), objective, _fresh(1.0, 1), np.zeros(1))
    # d = 3/(1 + λ) = 1.5: beyond the cliff at t = 1 and 0.7, short of it at ½.
    assert float(theta[0]) == pytest.approx(0.75) and float(info.scalars["fraction"]) == 0.5
    assert int(info.scalars["trials"]) == 1 and int(info.counts.solves) == 1
    assert float(state.damping) == 2.0 and float(state.growth) == 2.0


def test_damping_above_its_range_starts_again():
    wall = LeastSquares(Term(lambda p, x: jnp.where(p[0] > 0, jnp.nan, p[0] - 3.0 + 0.0 * x), np.zeros(3)))
    high = _fresh(9e11, 1)._replace(growth=jnp.asarray(4.0))
    state, info = one(LevenbergMarquardt(max_trials=1, damping=0.5), wall, high, np.zeros(1))[1:]
    assert int(info.status) == Status.REJECTED
    assert float(state.damping) == 0.5 and float(state.growth) == 2.0


def test_chunks_and_the_whole_jacobian_take_the_same_step(monkeypatch):
    import ravine.linearization as module

    whole = one(LevenbergMarquardt())[0]
    monkeypatch.setattr(module.Linearization.__init__, "__kwdefaults__", {"whole_bytes": 700})
    assert not module.Linearization(FIT, jnp.asarray(START)).whole
    for form in ("primal", "qr", "dual"):
        np.testing.assert_allclose(one(LevenbergMarquardt(form=form))[0], whole, rtol=1e-9, atol=1e-10)


ENERGY = Composite(
    {"energy": Term(lambda p, x: jnp.stack([fit(p, x), fit(p, x[::-1])]), NET)},
    lambda z, x: jnp.logaddexp(z[0], -2 * z[0]) + 0.5 * z[1] ** 2 + 1e3,
)


def test_composites_descend_to_a_stationary_point_below_the_rounding_of_the_energy():
    theta, _, info = run(LevenbergMarquardt(), ENERGY, START, 120)
    assert float(info.grad_norm) < 1e-9
    # Value 1e3: its rounding, 1e-13, would end at |∇L| ≈ 1e-7.
    assert float(ENERGY.value(theta)) < float(ENERGY.value(jnp.asarray(START)))
    assert set(info.scalars) == set(one(LevenbergMarquardt())[2].scalars)


def test_the_forms_take_the_same_step_on_a_composite():
    few = Composite({"energy": Term(ENERGY.parts["energy"].fn, NET[:6])}, ENERGY.outer["energy"])
    for damping in (2.0, 1e-6):
        state = MOVING._replace(damping=jnp.asarray(damping))
        steps = {f: one(LevenbergMarquardt(form=f), few, state)[0] for f in ("auto", "dual", "primal", "qr")}
        assert bool(jnp.all(steps["auto"] == steps["dual"])), "fewer rows than parameters choose the kernel"
        assert float(jnp.linalg.norm(steps["dual"] - START)) > 1e-3
        for form in ("dual", "qr"):
            np.testing.assert_allclose(steps[form], steps["primal"], rtol=1e-7, atol=1e-8)
    theta, _, info = run(LevenbergMarquardt(), few, START, 400)
    assert float(info.grad_norm) < 1e-8 and float(few.value(theta)) < float(few.value(jnp.asarray(START)))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"damping": 0.0}, "damping must lie between 0 and inf"),
        ({"momentum": 1.0}, "momentum must lie in \\[0, 1\\)"),
        ({"bend": "a"}, "bend must be a number"),
        ({"bend": 0.0}, "order=1 is the step without a bend"),
        ({"order": 0}, "order must be an integer of at least 1"),
        ({"max_trials": 0}, "max_trials must be an integer of at least 1"),
        ({"scaling": "geometrical"}, "did you mean 'geometric'"),
        ({"form": "lu"}, "choose one of auto"),
    ],
    ids=str,
)
def test_wrong_options_get_a_sentence(option, message):
    with pytest.raises((ValueError, TypeError), match=message):
        LevenbergMarquardt(**option)


def test_a_rise_of_an_energy_is_never_taken_for_a_decrease():
    """Gradients at both ends, −½(g + g')ᵀs, claim a decrease where a long step crosses a bump: the value decides."""
    bump = Composite(
        Term(lambda p, x: jnp.stack([p[0], jnp.exp(-50 * (p[0] - 1.0) ** 2)]), np.zeros((1, 1))),
        lambda z, x: 1e3 + 1e-9 * (z[0] - 2.0) ** 2 + 1e-3 * z[1],
    )
    method = LevenbergMarquardt(order=1, scaling="identity")
    theta, _, info = one(method, bump, _fresh(1.0, 1), np.zeros(1))
    assert 1e3 * 2.3e-16 < float(info.scalars["predicted"]) * 1e3 < 1e-8  # the old rule trusted gradients here
    assert float(bump.value(theta)) <= float(bump.value(jnp.zeros(1))) + 1e-12
