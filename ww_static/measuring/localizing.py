"""The eigenvectors of a row's matrices, which are read once more for them; what its columns need of them."""

from __future__ import annotations

from ww_static.layout.layers import LayerView
from ww_static.measuring import reading
from ww_static.measuring.measured import Measured
from ww_static.options import Options
from ww_static.seam import OpenCheckpoint
from ww_static.spectral.eigen import precision_for
from ww_static.spectral.eigenvectors import eigenvector_bytes, eigenvector_flops, eigenvectors
from ww_static.spectral.localization import localization
from ww_static.spectral.missing import Missing
from ww_static.spectral.vectors import MatrixVectors, Vectors, split


def vectors(checkpoint: OpenCheckpoint, view: LayerView, row: Measured, backend: str) -> Vectors | Missing:
    """The eigenvectors of all matrices of a row, split at its xmin; its eigenvalues stay what they are.

    Returns:
        The two sides; or Missing: ``not_applicable`` (a product of factors), or why the row has no fit.

    Raises:
        FormatError: the values cannot be had.
        NotConvergedError: LAPACK gave up.
    """
    if view.left is not None:
        return Missing("not_applicable")
    if isinstance(row.fit, Missing):
        return row.fit
    found = []
    for matrix, spectrum in zip(view.matrices, row.spectra, strict=True):
        blocks, _, m = reading.matrix_blocks(checkpoint, view.spec, matrix)
        pairs = eigenvectors(blocks, m, spectrum.exponent, backend)
        found.append(MatrixVectors(spectrum.eigenvalues * row.factor, pairs.unique, localization(pairs.V)))
        del pairs  # else its vectors would be held beside the next ones
    return split(found, row.fit.xmin)


def vectors_bytes(view: LayerView, options: Options) -> int:
    """Most private memory, in bytes, that they take, when they were asked for; one matrix is looked at at a time."""
    return eigenvector_bytes(view.m) if view.m and _computed(view, options) else 0


def vectors_flops(view: LayerView, options: Options) -> float:
    """What they take, when they were asked for, in operations of a product of matrices."""
    if not view.n or not view.m or not _computed(view, options):
        return 0.0
    return len(view.matrices) * eigenvector_flops(view.n, view.m)


def _computed(view: LayerView, options: Options) -> bool:
    return options.asks("vectors") and view.left is None and precision_for(options.precision, view.m or 0) == "exact"
