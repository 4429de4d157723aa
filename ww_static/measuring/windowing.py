"""Hill's exponent of the windows of a row's matrices, which are read once more for it."""

from __future__ import annotations

import numpy as np

from ww_static.layout.layers import LayerView
from ww_static.measuring import reading
from ww_static.measuring.measured import Measured
from ww_static.options import Options
from ww_static.seam import OpenCheckpoint
from ww_static.spectral import windows
from ww_static.spectral.eigen import EPS
from ww_static.spectral.hill import hill
from ww_static.spectral.missing import Missing

_EIGEN_FLOPS = 40.0  # of the eigenvalues of a window, per cube of its side, in operations of a product of matrices


def farms(checkpoint: OpenCheckpoint, view: LayerView, row: Measured) -> float | Missing:
    """1 + (m - i)/sum_{j>=i} ln(lambda_j/lambda_i) of the windows of all matrices of a row, pooled.

    Returns:
        The exponent; or Missing: ``not_applicable`` (a product of factors has no stored elements), ``too_few_evals`` (a
        side below 20), ``not_converged``, or a reason of `hill`.

    Raises:
        FormatError: the values cannot be had.
    """
    m = len(row.spectra[0].eigenvalues)
    if view.left is not None:
        return Missing("not_applicable")
    if m < windows.SHORTEST:
        return Missing("too_few_evals")
    pooled = []
    for matrix, spectrum in zip(view.matrices, row.spectra, strict=True):
        blocks, N, M = reading.matrix_blocks(checkpoint, view.spec, matrix)
        try:
            pooled.append(windows.windowed_eigenvalues(blocks(), N, M, spectrum.exponent))
        except np.linalg.LinAlgError:
            return Missing("not_converged")
    values = np.sort(np.concatenate(pooled))
    return hill(values, windows.window_side(row.n, m) * EPS * float(values[-1]))


def farms_flops(view: LayerView, options: Options) -> float:
    """What the windows of a row take, in operations of a product of matrices."""
    n, m = view.n or 0, view.m or 0
    if "tail" not in options.metrics or options.precision == "fast" or view.left is not None or m < windows.SHORTEST:
        return 0.0
    side = windows.window_side(n, m)
    count = len(windows.places(n, 2 * side)) * len(windows.places(m, side))
    return float(len(view.matrices) * count) * _EIGEN_FLOPS * side**3
