"""What defines AdaHessian and Sophia: what their looks at the Hessian estimate, and the steps taken from it."""

import jax
import numpy as np
import pytest
from quadratics import quadratic

from ravine.linalg.hutchinson import diagonal_look
from ravine.methods import AdaHessian, Sophia
from ravine.objective import Scalar
from ravine.types import Status

jnp = jax.numpy
DIAGONAL = np.array([0.01, 1.0, 5.0, 400.0])
BOWL = Scalar(lambda p, d: 0.5 * jnp.sum(d * (p - 1.0) ** 2), DIAGONAL)
SADDLE = Scalar(lambda p, d: 0.5 * jnp.sum(d * p**2), np.array([2.0, -3.0, 1e-3]))


def steps(method, objective, theta, count, seed=0):
    """(parameters, state, infos) after `count` steps with a key of its own for each."""

    def run(theta, key):
        state = method.init(objective, theta, key=key)

        def body(carry, key):
            step = method.step(objective, *carry, key=key)
            return (step.params, step.state), step.info

        (theta, state), infos = jax.lax.scan(body, (theta, state), jax.random.split(key, count))
        return theta, state, infos

    return jax.jit(run)(jnp.asarray(theta), jax.random.key(seed))


def test_the_mean_look_is_the_diagonal_and_the_mean_square_the_row():
    hessian = quadratic([0.5, 1.0, 2.0, 3.0, 7.0]).matrix
    keys = jax.random.split(jax.random.key(3), 40_000)
    looks = np.asarray(
        jax.jit(jax.vmap(lambda k: diagonal_look(lambda v: jnp.asarray(hessian) @ v, jnp.zeros(5), k)))(keys)
    )
    error = looks.std(axis=0) / np.sqrt(len(looks))
    assert np.all(np.abs(looks.mean(axis=0) - np.diag(hessian)) < 5 * error)
    squares = (looks**2).mean(axis=0)
    error = (looks**2).std(axis=0) / np.sqrt(len(looks))
    assert np.all(np.abs(squares - (hessian**2).sum(axis=1)) < 5 * error)
    assert np.any((hessian**2).sum(axis=1) > 1.5 * np.diag(hessian) ** 2)  # the two differ here


@pytest.mark.parametrize(
    "method",
    [
        AdaHessian(learning_rate=1.0, b1=0.0, b2=0.5, eps=1e-14, first_looks=1),
        Sophia(learning_rate=1e4, b1=0.0, b2=0.5, gamma=1e4, eps=1e-14),
    ],
    ids=["adahessian", "sophia"],
)
def test_on_a_diagonal_hessian_one_step_is_newtons(method):
    theta, _, info = steps(method, BOWL, np.array([3.0, -2.0, 0.5, 7.0]), 1)
    np.testing.assert_allclose(theta, 1.0, atol=1e-10)
    assert int(info.status[0]) == Status.OK and int(info.counts.hvp[0]) == 1


def test_sophia_moves_away_from_a_saddle_by_sign_steps():
    theta, _, _ = steps(Sophia(learning_rate=0.01, b1=0.0, gamma=1.0), SADDLE, np.array([1e-3, 0.5, 0.5]), 1)
    # Positive curvature: the Newton step times α, not clipped here; negative: a whole sign step, downhill.
    np.testing.assert_allclose(theta, [1e-3 - 0.01 * 1e-3, 0.51, 0.5 - 0.01 * 0.5], rtol=1e-9)
    away, _, _ = steps(AdaHessian(learning_rate=0.01, b1=0.0, eps=1e-14), SADDLE, np.array([1e-3, 0.5, 0.5]), 1)
    np.testing.assert_allclose(away, [1e-3 - 0.01 * 1e-3, 0.5 + 0.01 * 0.5, 0.5 - 0.01 * 0.5], rtol=1e-9)


def test_the_averages_are_those_of_the_looks():
    """Against the same keys by hand; a look in every third step only."""
    problem = quadratic([1.0, 4.0, 9.0])
    hessian, start = jnp.asarray(problem.matrix), np.array([1.0, 2.0, -1.0])
    _, ada, infos = steps(AdaHessian(every=3, b2=0.8, first_looks=1), problem.objective, start, 5)
    _, sophia, _ = steps(Sophia(every=3, b2=0.8), problem.objective, start, 5)
    keys = jax.random.split(jax.random.key(0), 5)
    drawn = [jax.random.fold_in(keys[i], 0) for i in (0, 3)]
    first, second = (diagonal_look(lambda v: hessian @ v, jnp.zeros(3), key) for key in drawn)
    np.testing.assert_allclose(ada.curvature, 0.2 * (0.8 * first**2 + second**2), rtol=1e-12)
    np.testing.assert_allclose(sophia.curvature, 0.2 * (0.8 * first + second), rtol=1e-12)
    assert list(np.asarray(infos.counts.hvp)) == [1, 0, 0, 1, 0] and int(ada.looks) == 2


def test_the_steps_are_those_of_the_formulas():
    """Five steps with a look in every second one, in NumPy: bias is corrected by steps for m, by looks for the rest."""
    hessian, start = np.array([[1.0, 0.2, 0.0], [0.2, 4.0, -0.3], [0.0, -0.3, 9.0]]), np.array([1.0, 2.0, -1.0])
    bowl = Scalar(lambda p, h: 0.5 * p @ h @ p, jnp.asarray(hessian))
    ada = AdaHessian(learning_rate=0.1, b1=0.7, b2=0.6, power=0.5, eps=1e-3, every=2, first_looks=1)
    sophia = Sophia(learning_rate=0.1, b1=0.7, b2=0.6, gamma=0.8, eps=1e-3, every=2)
    keys = [jax.random.fold_in(key, 0) for key in jax.random.split(jax.random.key(0), 5)]
    looks = [np.asarray(diagonal_look(lambda v: jnp.asarray(hessian) @ v, jnp.zeros(3), k)) for k in keys]
    for method in (ada, sophia):
        found, _, infos = steps(method, bowl, start, 5)
        theta, m, h, seen = start, np.zeros(3), np.zeros(3), 0
        for k in range(5):
            m = 0.7 * m + 0.3 * (hessian @ theta)
            if k % 2 == 0:
                h = 0.6 * h + 0.4 * (looks[k] ** 2 if method is ada else looks[k])
                seen += 1
            known = h / (1 - 0.6**seen)
            if method is ada:
                theta = theta - 0.1 * (m / (1 - 0.7 ** (k + 1))) / (np.sqrt(known) ** 0.5 + 1e-3)
            else:
                theta = theta - 0.1 * np.clip(m / np.maximum(0.8 * known, 1e-3), -1, 1)
        np.testing.assert_allclose(found, theta, rtol=1e-10, atol=1e-12)
        diagonal = np.sqrt(known) if method is ada else known  # what is divided by, not the averages
        told = [infos.scalars[f"{which}_curvature"][-1] for which in ("smallest", "largest")]
        np.testing.assert_allclose(told, [diagonal.min(), diagonal.max()], rtol=1e-10)


def test_the_first_step_has_seen_ten_looks():
    """Of this Hessian one look in two vanishes: alone it would send the first step a thousand times too far."""
    objective = Scalar(lambda p, _: 0.5 * (p[0] + p[1]) ** 2 + p[0])

    def lengths(method):
        _, state, infos = jax.vmap(lambda seed: steps(method, objective, np.zeros(2), 1, seed))(jnp.arange(12))
        return infos.step_norm[:, 0], state, infos

    alone, _, _ = lengths(AdaHessian(first_looks=1))
    several, state, infos = lengths(AdaHessian())
    assert max(alone) > 1000 and max(several) < 0.3
    assert set(map(int, state.looks)) == set(map(int, infos.counts.hvp[:, 0])) == {10}


@pytest.mark.parametrize(("method", "count"), [(AdaHessian(0.3, b2=0.9), 400), (Sophia(gamma=1.0), 2000)])
def test_they_solve_a_badly_scaled_bowl(method, count):
    theta, _, infos = steps(method, BOWL, np.array([3.0, -2.0, 0.5, 7.0]), count)
    assert float(infos.value[-1]) < 1e-10 * float(infos.value[0])
    np.testing.assert_allclose(theta, 1.0, atol=1e-3)


def test_a_look_that_is_not_finite_is_left_out():
    # The gradient of p^(3/2) is finite at 0, its second derivative is not.
    objective = Scalar(lambda p, _: jnp.sum(p**1.5) + jnp.sum(p))
    theta, state, infos = steps(AdaHessian(), objective, np.array([2.0, 0.0]), 1)
    assert int(infos.status[0]) == Status.REJECTED and int(state.looks) == 0
    np.testing.assert_array_equal(theta, [2.0, 0.0])


@pytest.mark.parametrize("cls", [AdaHessian, Sophia])
def test_bad_options_are_one_sentence(cls):
    with pytest.raises(ValueError, match=rf"{cls.__name__}: b1 must lie in \[0, 1\), .* never forgets; got 1.0"):
        cls(b1=1.0)
    with pytest.raises(ValueError, match=rf"{cls.__name__}: every must be an integer of at least 1; got 0"):
        cls(every=0)
