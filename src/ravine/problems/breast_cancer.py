"""Logistic regression on real data: benign or malignant, from features of cell nuclei.

    min (1/n) Σ_i log(1 + exp(-y_i θ·x_i)) + (μ/2) Σ_{j<d} θ_j²,   y_i = ±1 (benign 1),   μ = `ridge`

Data         n = 569 samples; 30 features, each with mean 0 and variance 1, and a constant 1 whose coefficient, the
             last, carries no penalty: d = 31. All samples are fitted; there is no test set.
Equations    data (569, 1) and ridge (30, 1), as in Logistic.
Character    convex; strongly correlated features (the correlation matrix has condition number 1e5) and nearly separable
             classes, so that the least value is small and μ decides how well conditioned the answer is.
Good values  as Logistic; ridge 1e-3.
Scores       as Logistic.
Reference    θ* as in Logistic. Data: Wolberg, Mangasarian, Street & Street, Breast Cancer Wisconsin (Diagnostic), UCI
             Machine Learning Repository 1995, doi:10.24432/C5DW2B, licensed CC BY 4.0; problems/data/README.md says
             what was changed. Street, Wolberg & Mangasarian, IS&T/SPIE 1905 (1993).
"""

from __future__ import annotations

import functools
from pathlib import Path

import equinox as eqx
import numpy as np

from .logistic import Classes, LogisticRegression

TABLE = Path(__file__).parent / "data" / "breast_cancer.csv"


class BreastCancer(LogisticRegression):
    """Ridge-penalised logistic regression on the Wisconsin breast cancer data (see the module docstring).

    Raises ValueError unless `ridge` is positive.
    """

    ridge: float = eqx.field(static=True, default=1e-3)

    def __check_init__(self) -> None:
        self.check_ridge()

    def classes(self) -> Classes:
        return _read()


@functools.cache
def _read() -> Classes:
    table = np.loadtxt(TABLE, delimiter=",", skiprows=1)
    raw, benign = table[:, :-1], table[:, -1]
    features = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    return Classes(np.column_stack([features, np.ones(len(features))]), 2 * benign - 1, raw.shape[1])
