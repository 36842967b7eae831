"""Matrices of fractions: arithmetic without rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def exact(*rows: tuple[int | Fraction, ...]) -> np.ndarray:
    """A matrix of fractions, for arithmetic without rounding."""
    return np.array([[Fraction(entry) for entry in row] for row in rows], dtype=object)


def exact_relu(matrix: np.ndarray) -> np.ndarray:
    """ReLU of a matrix of fractions."""
    return matrix * (matrix > 0)


def exact_square(matrix: np.ndarray) -> Fraction:
    """‖·‖_F² of a matrix of fractions."""
    return sum((entry * entry for entry in matrix.ravel()), Fraction(0))


PRINTED_EXACT = exact((1, 0), (0, 1), (0, -1))
"""W_pᵀ of the papers' examples and counter-examples: W_p = [[1, 0, 0], [0, 1, −1]]."""
