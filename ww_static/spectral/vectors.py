"""The eigenvectors of a row on both sides of xmin: the bulk and the tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.localization import Localization, joined
from ww_static.spectral.missing import Missing
from ww_static.spectral.norms import elbow


@dataclass(frozen=True, slots=True)
class MatrixVectors:
    """What is kept of the eigenvectors of one matrix: numbers, one per vector, in ascending order of the eigenvalues.

    Attributes:
        eigenvalues: of the vectors, in the units of xmin, float64, shape (m,).
        unique: whether each vector is determined, bool, shape (m,).
        numbers: how localized each of them is.
    """

    eigenvalues: NDArray[np.float64]
    unique: NDArray[np.bool_]
    numbers: Localization


@dataclass(frozen=True, slots=True)
class Vectors:
    """The eigenvectors of a row.

    Attributes:
        bulk, tail: numbers of those below xmin, and of the others; Missing ``too_few_evals`` for a side without vectors,
            ``degenerate`` for one with vectors that are not unique.
        elbow: number of leading vectors where the cumulative share of the localization ratio is farthest from the chord
            between its ends; Missing ``degenerate``, or ``too_few_evals`` below 3.
    """

    bulk: Localization | Missing
    tail: Localization | Missing
    elbow: int | Missing


def split(matrices: Sequence[MatrixVectors], xmin: float) -> Vectors:
    """The eigenvectors of all matrices of a row, pooled and split at xmin."""
    eigenvalues = np.concatenate([one.eigenvalues for one in matrices])
    unique = np.concatenate([one.unique for one in matrices])
    numbers = joined([one.numbers for one in matrices])
    above = eigenvalues >= xmin
    ordered = numbers.loc_ratio[np.argsort(eigenvalues, kind="stable")]
    return Vectors(
        bulk=_side(numbers, unique, ~above),
        tail=_side(numbers, unique, above),
        elbow=elbow(ordered) if unique.all() else Missing("degenerate"),
    )


def _side(numbers: Localization, unique: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> Localization | Missing:
    if not chosen.any():
        return Missing("too_few_evals")
    return numbers.of(chosen) if unique[chosen].all() else Missing("degenerate")
