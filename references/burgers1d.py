"""Checks the Cole-Hopf formula of `ravine.problems.reference` against spectral elements; stores nothing.

    u_t + u u_x = ν u_xx on (-1, 1),   u(x, 0) = -sin(πx),   u(±1, t) = 0,   ν = 0.01/π and 0.01

The elements are halved towards the layer at x = 0, with Radau in time. `python references/burgers1d.py` (seconds)
prints the largest differences over t = 0, 0.1, .., 1: formula from elements, and formula from itself at half the
quadrature step.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from spectral_elements import build, evolve, interpolate

from ravine.problems.reference import STEP, cole_hopf


def graded_edges(cells: int, levels: int) -> np.ndarray:
    """`cells` equal elements of [-1, 1], the two at 0 halved `levels` times towards it."""
    h = 2.0 / cells
    right = sorted({h * k for k in range(cells // 2 + 1)} | {h * 0.5**k for k in range(1, levels + 1)})
    return np.array([-r for r in right[:0:-1]] + right)


def rate(u, slope):
    return -u * slope, -slope, -u


def formula(times: np.ndarray, x: np.ndarray, viscosity: float, step: float = STEP) -> np.ndarray:
    """Cole-Hopf on the tensor grid times × x."""
    t, y = (jnp.asarray(a) for a in np.meshgrid(times, x, indexing="ij"))
    return np.asarray(jnp.vectorize(lambda b, a: cole_hopf(a, b, viscosity, step))(t, y))


def main() -> None:
    times, x = np.linspace(0.0, 1.0, 11), np.linspace(-1.0, 1.0, 257)
    for viscosity in (0.01 / math.pi, 0.01):
        exact = formula(times, x, viscosity)
        refined = np.abs(formula(times, x, viscosity, STEP / 2) - exact).max()
        print(f"viscosity {viscosity:.6f}: half the quadrature step {refined:.0e}")
        for degree in (12, 16):
            mesh = build(graded_edges(32, 4), degree)
            values = evolve(mesh, viscosity, rate, -np.sin(np.pi * mesh.x), times, fixed=True, rtol=1e-11, atol=1e-12)
            print(f"    elements of degree {degree}: {np.abs(interpolate(mesh, values, x) - exact).max():.0e}")


if __name__ == "__main__":
    with jax.enable_x64(True):
        main()
