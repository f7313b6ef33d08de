"""What the operator does to the curvature at the start: spectra of JJᵀ of Regression1D and Poisson1D, block by block.

    python benchmarks/twins.py      # prints a Markdown table: docs/first_order.md; three seconds

J are the rows √(w q) ∂r/∂θ of the tanh network 1-20-1 at its initial parameters, seeds 0 to 2; λ_1 ≥ λ_2 ≥ ... the
eigenvalues of JJᵀ for the rows inside, for the two boundary rows, and for all together. They do not depend on k.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from ravine.problems import Poisson1D, Regression1D


def eigenvalues(problem, seed: int) -> dict[str, np.ndarray]:
    """Of JJᵀ, largest first: inside, boundary, whole."""
    model = problem.default_model()
    objective = problem.objective(model, problem.sample(seed))
    flat, unflatten = ravel_pytree(problem.init(model, seed))
    blocks = {}
    for name, term in objective.parts.items():
        rows = jax.jacrev(lambda p, term=term: term.outputs(unflatten(p))[:, 0])(flat)
        blocks["boundary" if name == "boundary" else "inside"] = np.asarray(rows) * np.sqrt(float(term.weight) / term.n)
    blocks["whole"] = np.concatenate(list(blocks.values()))
    return {name: np.linalg.svd(rows, compute_uv=False) ** 2 for name, rows in blocks.items()}


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    print("| problem | seed | inside λ_1 | inside λ_1/λ_5 | boundary λ_1 | whole λ_1 | whole λ_1/λ_5 |")
    print("|---|---|---|---|---|---|---|")
    for problem in (Regression1D(), Poisson1D()):
        for seed in range(3):
            found = eigenvalues(problem, seed)
            inside, whole = found["inside"], found["whole"]
            cells = [inside[0], inside[0] / inside[4], found["boundary"][0], whole[0], whole[0] / whole[4]]
            print(f"| {type(problem).__name__} | {seed} | {' | '.join(f'{c:.1e}' for c in cells)} |")


if __name__ == "__main__":
    main()
