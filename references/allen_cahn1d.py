"""Computes src/ravine/problems/data/allen_cahn1d.npz, and how far it can be trusted.

    u_t = D u_xx + 5 (u - u³),   D = 10⁻⁴,   u(x, 0) = x² cos(πx),   period 2 in x,   0 <= t <= 1

u is even in x, so it is solved on [0, 1] with u_x = 0 at both ends. At x = 1 the initial slope is -2: a kink of the
periodic extension, smoothed over a width sqrt(D t).

    1. spectral elements graded towards x = 1 and x = 1/2, Radau in time            (the data)
    2. the same, coarser in space and in time                                       (refinement)
    3. 4096 cosine modes from the exact Fourier coefficients of u(x, 0), cubic products free of aliasing,
       ETDRK4 of Kassam & Trefethen, SIAM J. Sci. Comput. 26 (2005)                 (another method)

The data are piecewise Chebyshev coefficients in x and t, from which any derivative follows. Run it with
`python references/allen_cahn1d.py` (about one minute on one core); it prints every difference and stores the largest.
"""

from pathlib import Path

import numpy as np
from numpy.polynomial import chebyshev
from scipy.fft import dct
from spectral_elements import build, evolve, interpolate

DIFFUSION, RATE = 1e-4, 5.0
DATA = Path(__file__).resolve().parents[1] / "src" / "ravine" / "problems" / "data" / "allen_cahn1d.npz"


def initial(x):
    return x**2 * np.cos(np.pi * x)


def rate(u, _slope):
    return RATE * (u - u**3), RATE * (1 - 3 * u**2), np.zeros_like(u)


def graded_edges(cells: int, wall: int, front: int) -> np.ndarray:
    """`cells` equal elements of [0, 1]; the last one halved `wall` times towards 1, the two at 1/2 `front` times."""
    h = 1.0 / cells
    edges = set(np.arange(cells + 1) * h)
    edges |= {1.0 - h * 0.5**k for k in range(1, wall + 1)}
    for k in range(1, front + 1):
        edges |= {0.5 - h * 0.5**k, 0.5 + h * 0.5**k}
    return np.array(sorted(edges))


def by_elements(times, cells=32, wall=8, front=2, degree=24, rtol=1e-12):
    """(mesh, nodal values at `times`), by spectral elements."""
    mesh = build(graded_edges(cells, wall, front), degree)
    return mesh, evolve(mesh, DIFFUSION, rate, initial(mesh.x), times, rtol=rtol, atol=rtol / 10)


def initial_cosines(n: int) -> np.ndarray:
    """Exact cosine coefficients of x² cos(πx) on [0, 1], modes 0..n: from ∫₀¹ x² cos(mπx) dx = 2 (-1)^m / (mπ)²."""

    def moment(m):
        m = np.abs(m)
        return np.where(m == 0, 1 / 3, 2 * (-1.0) ** m / (np.pi * np.maximum(m, 1)) ** 2)

    k = np.arange(n + 1)
    a = moment(k + 1) + moment(k - 1)
    a[0] /= 2
    return a


def by_cosines(n: int, dt: float, steps: int, every: int) -> np.ndarray:
    """Cosine coefficients (steps / every + 1, n + 1) at multiples of every · dt, by ETDRK4."""
    m = 2 * n  # twice the grid: the aliases of a cubic product fall outside the kept modes

    def react(a):
        b = np.concatenate([a / 2, np.zeros(m - n)])
        b[0] = a[0]
        v = dct(b, type=1)
        c = dct(RATE * (v - v**3), type=1)[: n + 1] / m
        c[0] /= 2
        return c

    z = -dt * DIFFUSION * (np.pi * np.arange(n + 1)) ** 2
    e, half = np.exp(z), np.exp(z / 2)
    # the phi functions as means over a circle around z: no cancellation where z is small
    w = z[:, None] + np.exp(1j * np.pi * (np.arange(64) + 0.5) / 64)
    q = dt * np.mean((np.exp(w / 2) - 1) / w, axis=1).real
    f1 = dt * np.mean((-4 - w + np.exp(w) * (4 - 3 * w + w**2)) / w**3, axis=1).real
    f2 = dt * np.mean((2 + w + np.exp(w) * (w - 2)) / w**3, axis=1).real
    f3 = dt * np.mean((-4 - 3 * w - w**2 + np.exp(w) * (4 - w)) / w**3, axis=1).real

    a = initial_cosines(n)
    out = [a]
    for step in range(1, steps + 1):
        na = react(a)
        b = half * a + q * na
        nb = react(b)
        c = half * a + q * nb
        nc = react(c)
        nd = react(half * b + q * (2 * nc - na))
        a = e * a + f1 * na + 2 * f2 * (nb + nc) + f3 * nd
        if step % every == 0:
            out.append(a)
    return np.array(out)


def cosine_values(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    return a @ np.cos(np.pi * np.outer(np.arange(a.shape[-1]), x))


def chebyshev_points(edges: np.ndarray, degree: int) -> np.ndarray:
    """Chebyshev points of the first kind of every element, increasing, (E, degree + 1)."""
    z = -np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    return 0.5 * (edges[:-1, None] + edges[1:, None]) + 0.5 * np.diff(edges)[:, None] * z


def chebyshev_coefficients(values: np.ndarray, axis: int) -> np.ndarray:
    """Coefficients of the interpolants through values at `chebyshev_points`, along `axis`."""
    n = values.shape[axis]
    z = -np.cos(np.pi * (np.arange(n) + 0.5) / n)
    return np.moveaxis(np.tensordot(np.linalg.inv(chebyshev.chebvander(z, n - 1)), values, (1, axis)), 0, axis)


X_EDGES = graded_edges(32, wall=6, front=2)
T_EDGES = np.array([0.0, *(0.1 * 2.0 ** -np.arange(11, -1, -1)), 0.25, 0.4, 0.55, 0.7, 0.85, 1.0])
X_DEGREE, T_DEGREE = 18, 14
QUANTUM = 2.0**-45  # 3e-14: the coefficients are rounded to it, so that most are zero and the file is small


def represent(mesh, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients (x elements, t elements, X_DEGREE + 1, T_DEGREE + 1) from nodal values at `times`."""
    t, x = chebyshev_points(T_EDGES, T_DEGREE), chebyshev_points(X_EDGES, X_DEGREE)
    at = interpolate(mesh, values[np.searchsorted(times, t.ravel())], x.ravel())
    blocks = at.reshape(*t.shape, *x.shape)
    coefficients = chebyshev_coefficients(chebyshev_coefficients(blocks, 1), 3)
    return np.round(coefficients.transpose(2, 0, 3, 1) / QUANTUM) * QUANTUM


def evaluate(c: np.ndarray, t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The represented u on the tensor grid t × x, shape (len(t), len(x))."""

    def basis(edges, degree, y):
        e = np.clip(np.searchsorted(edges, y, side="right") - 1, 0, len(edges) - 2)
        z = (2 * y - edges[e] - edges[e + 1]) / (edges[e + 1] - edges[e])
        return e, chebyshev.chebvander(z, degree)

    (ex, bx), (et, bt) = basis(X_EDGES, X_DEGREE, x), basis(T_EDGES, T_DEGREE, t)
    return np.array([np.einsum("xij,xi,j->x", c[ex, e], bx, b) for e, b in zip(et, bt, strict=True)])


def differences(name: str, a: np.ndarray, b: np.ndarray, t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(relative L2 where scored, relative L2 on the whole grid, largest difference), printed and returned."""
    d = a - b
    scored = np.ix_(t >= 0.1 - 1e-12, x <= 0.98)
    out = np.array(
        [np.linalg.norm(d[scored]) / np.linalg.norm(b[scored]), np.linalg.norm(d) / np.linalg.norm(b), np.abs(d).max()]
    )
    print(f"{name:45s} scored {out[0]:.1e}   whole {out[1]:.1e}   largest {out[2]:.1e}")
    return out


def main() -> None:
    # t = 0 is left out: there the problem uses u(x, 0) itself
    grid, half = np.linspace(0.0, 1.0, 101)[1:], np.linspace(0.0, 1.0, 129)
    early = np.array([1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3])
    near = 1.0 - np.concatenate([[0.0], np.geomspace(1e-6, 1.0, 200)])[::-1]

    nodes = chebyshev_points(T_EDGES, T_DEGREE).ravel()
    times = np.unique(np.concatenate([[0.0], nodes, grid]))
    mesh, values = by_elements(times)
    c = represent(mesh, values, times)
    stored = evaluate(c, grid, half)
    fine = interpolate(mesh, values[np.searchsorted(times, grid)], half)

    times = np.concatenate([[0.0], early, grid])
    mesh, values = by_elements(times, wall=9, front=1, degree=18, rtol=1e-11)
    coarse = interpolate(mesh, values[-len(grid) :], half)
    corner = np.abs(evaluate(c, early, near) - interpolate(mesh, values[1 : len(early) + 1], near)).max(axis=1)

    modes = by_cosines(4096, 2.5e-4, 4000, 40)[1:]
    error = np.max(
        [
            differences("representation - elements", stored, fine, grid, half),
            differences("representation - coarser elements", stored, coarse, grid, half),
            differences("representation - cosines", stored, cosine_values(modes, half), grid, half),
        ],
        axis=0,
    )
    between = half[:-1] + 0.3 / 128
    differences("same between the grid lines", evaluate(c, grid, between), cosine_values(modes, between), grid, between)
    for t, d in zip(early, corner, strict=True):
        print(f"largest difference from the other elements at t = {t:.0e}: {d:.0e}")

    DATA.parent.mkdir(exist_ok=True)
    np.savez_compressed(DATA, coefficients=c, x_edges=X_EDGES, t_edges=T_EDGES, error=error, corner_error=corner.max())
    print(f"stored error {error}, early {corner.max():.0e};  {DATA.name}: {DATA.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
