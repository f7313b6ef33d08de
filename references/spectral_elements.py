"""Spectral elements in space, Radau IIA in time, for u_t = D u_xx + g(u, u_x) on an interval.

Space   continuous Galerkin on Gauss-Lobatto nodes of degree p per element, lumped (diagonal) mass matrix M,
        stiffness matrix K:  M u' = -D K u + M g(u, u_x).  Both ends carry the natural condition u_x = 0, or are
        held at their initial value (`fixed`).
Time    scipy.integrate's Radau (order 5), rtol 1e-12, stopped exactly at every output time: its continuous
        output is of lower order and is not used.

Elements may be graded geometrically towards a point where the data are not smooth, which keeps the convergence
in p exponential (Gui and Babuska, Numer. Math. 49, 1986).
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.polynomial import legendre
from scipy.integrate import Radau


class Elements(NamedTuple):
    edges: np.ndarray  # (E + 1,)
    degree: int
    x: np.ndarray  # (E p + 1,) global nodes
    mass: np.ndarray  # (E p + 1,) diagonal of M
    stiffness: sp.csc_matrix
    derivative: sp.csc_matrix  # u_x at the nodes, averaged with the mass weights between elements


def lobatto(p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Lobatto-Legendre nodes, weights and differentiation matrix of degree p on [-1, 1]."""
    top = np.zeros(p + 1)
    top[p] = 1.0
    inner = legendre.legroots(legendre.legder(top)).real  # all are real; NumPy 2.5 returns complex numbers
    for _ in range(3):  # Newton polish of the companion-matrix roots: P'' from Legendre's equation
        d1, d2 = legendre.legval(inner, legendre.legder(top)), legendre.legval(inner, legendre.legder(top, 2))
        inner = inner - d1 / d2
    x = np.concatenate([[-1.0], 0.5 * (inner - inner[::-1]), [1.0]])
    values = legendre.legval(x, top)
    weights = 2.0 / (p * (p + 1) * values**2)
    gap = x[:, None] - x[None, :] + np.eye(p + 1)
    d = values[:, None] / values[None, :] / gap
    np.fill_diagonal(d, 0.0)
    np.fill_diagonal(d, -d.sum(axis=1))  # rows of a differentiation matrix sum to zero
    return x, weights, d


def build(edges: Sequence[float], degree: int) -> Elements:
    """Nodes and matrices on the given element edges."""
    edges = np.asarray(edges, float)
    ref, weights, d = lobatto(degree)
    n = (len(edges) - 1) * degree + 1
    x, mass = np.empty(n), np.zeros(n)
    stiff, slope = sp.lil_matrix((n, n)), sp.lil_matrix((n, n))
    for e, (a, b) in enumerate(itertools.pairwise(edges)):
        at, h = slice(e * degree, (e + 1) * degree + 1), 0.5 * (b - a)
        # measured from the nearer edge, so that tiny elements keep their relative spacing
        x[at] = np.where(ref < 0, a + h * (1 + ref), b - h * (1 - ref))
        mass[at] += h * weights
        local = d.T @ (weights[:, None] * d)
        np.fill_diagonal(local, 0.0)
        np.fill_diagonal(local, -local.sum(axis=1))  # constants do not diffuse, to the last digit
        stiff[at, at] += local / h
        slope[at, at] += weights[:, None] * d  # mass-weighted; divided by the assembled mass below
    derivative = sp.diags(1.0 / mass) @ slope.tocsc()
    return Elements(edges, degree, x, mass, stiff.tocsc(), sp.csc_matrix(derivative))


def evolve(
    mesh: Elements,
    diffusion: float,
    rate: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]],
    start: np.ndarray,
    times: Sequence[float],
    *,
    fixed: bool = False,
    rtol: float = 1e-12,
    atol: float = 1e-13,
) -> np.ndarray:
    """Nodal values at `times` (increasing, first one = start), shape (len(times), n).

    `rate(u, u_x)` returns g and its partial derivatives by u and by u_x, at the nodes.
    """
    linear = sp.diags(-diffusion / mesh.mass) @ mesh.stiffness
    free = np.ones_like(mesh.x)
    if fixed:
        free[[0, -1]] = 0.0
    linear, keep = (sp.diags(free) @ linear).tocsr(), sp.diags(free)

    def f(_t, u):
        return linear @ u + free * rate(u, mesh.derivative @ u)[0]

    def jac(_t, u):
        _, by_u, by_slope = rate(u, mesh.derivative @ u)
        return sp.csc_matrix(linear + keep @ (sp.diags(by_u) + sp.diags(by_slope) @ mesh.derivative))

    out, u, step = [np.array(start)], np.array(start), None
    for a, b in itertools.pairwise(times):
        solver = Radau(f, a, u, b, rtol=rtol, atol=atol, jac=jac, first_step=step and min(step, b - a))
        message, largest = None, 0.0
        while solver.status == "running":
            message = solver.step()
            largest = max(largest, solver.step_size)
        if solver.status != "finished":
            raise RuntimeError(f"Radau stopped at t = {solver.t}: {message}")
        u, step = solver.y, largest  # the next piece starts with a step that worked in this one
        out.append(u)
    return np.array(out)


def interpolate(mesh: Elements, values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The piecewise polynomial with nodal `values` (..., n) at the points `x`, shape (..., len(x))."""
    ref, _, _ = lobatto(mesh.degree)
    bary = 1.0 / np.prod(ref[:, None] - ref[None, :] + np.eye(len(ref)), axis=1)
    element = np.clip(np.searchsorted(mesh.edges, x, side="right") - 1, 0, len(mesh.edges) - 2)
    rows = np.zeros((len(x), len(mesh.x)))
    for i, (xi, e) in enumerate(zip(x, element, strict=True)):
        at = slice(e * mesh.degree, (e + 1) * mesh.degree + 1)
        gap = xi - mesh.x[at]
        if np.any(gap == 0.0):
            rows[i, at] = gap == 0.0
        else:
            rows[i, at] = bary / gap / np.sum(bary / gap)
    return values @ rows.T
