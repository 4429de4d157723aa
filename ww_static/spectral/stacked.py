"""Spectra of many small matrices at once: the taps of a kernel, where calls would cost more than the arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ww_static.errors import NonFiniteError, NotConvergedError
from ww_static.spectral.eigen import EPS, Method, Spectrum, resolves_smallest

LARGEST = 64  # columns of a small matrix
MOST_ELEMENTS = 2**20  # of a stack


def stacked_bytes(count: int, n: int, m: int) -> int:
    """Most private memory, in bytes, that reading `count` matrices n x m as a stack and their spectra hold at one time."""
    return 8 * count * (3 * n * m + 2 * m * m) + 2**22


def stacked_spectra(stack: NDArray[Any], exponent: int = 0, method: Method = "auto") -> list[Spectrum]:
    """The spectra of matrices of one shape: what `spectrum` gives for each, by numpy alone.

    Args:
        stack: real, shape (count, rows, columns), all finite.
        exponent: of the results, whose eigenvalues are those of W 2^-exponent.
        method: ``gram``, ``svd``, or ``auto``: svd for those whose smallest eigenvalue the Gram matrix does not hold.

    Raises:
        NonFiniteError: an element is NaN or infinite.
        NotConvergedError: LAPACK gave up.
    """
    W = np.asarray(stack, np.float64)
    if exponent:
        W = np.ldexp(W, -exponent)
    tall = W if W.shape[1] >= W.shape[2] else W.transpose(0, 2, 1)
    n = tall.shape[1]
    X = tall.transpose(0, 2, 1) @ tall
    if not np.isfinite(np.trace(X, axis1=1, axis2=2)).all():
        raise NonFiniteError("a matrix holds a NaN or an infinity")
    try:
        found = [_of_gram(raw, n, exponent) for raw in np.linalg.eigvalsh(X)]
        again = [i for i, one in enumerate(found) if method != "gram" and not resolves_smallest(one)]
        if method == "svd":
            again = list(range(len(found)))
        for i, sigma in zip(again, np.linalg.svd(tall[again], compute_uv=False) if again else (), strict=True):
            found[i] = Spectrum((sigma * sigma)[::-1].copy(), n, "svd", (n * EPS * float(sigma[0])) ** 2, exponent)
    except np.linalg.LinAlgError as error:
        raise NotConvergedError(f"LAPACK gave up: {error}") from error
    return found


def _of_gram(raw: NDArray[np.float64], n: int, exponent: int) -> Spectrum:
    floor = len(raw) * EPS * max(float(raw[-1]), 0.0)
    return Spectrum(np.maximum(raw, 0.0), n, "gram", floor, exponent, int(np.count_nonzero(raw < 0)))
