"""Eigenvalues of a product s B A of two factors, from the r x r core: the product itself is never formed.

With B = Q_B R_B and A^T = Q_A R_A the non-zero singular values of s B A are those of s R_B R_A^T.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.eigen import EPS, Spectrum, sigma_of
from ww_static.spectral.gram import block_rows

_ORDINARY = 400  # powers of two: products below 2^400 that are above 2^-400 can be squared and summed


def product_spectrum(R_B: NDArray[np.float64], R_A: NDArray[np.float64], n: int, scale: float, exponent: int = 0) -> Spectrum:
    """The squared singular values of W = scale B A, the min(out, in, r) of them that can differ from zero.

    Args:
        R_B: triangle of B (out x r), float64, shape (min(out, r), r).
        R_A: triangle of A^T (in x r), float64, shape (min(in, r), r).
        n: longer side of W, max(out, in).
        scale: s; its sign has no meaning here.
        exponent: of the result, whose eigenvalues are those of W 2^-exponent.

    Returns:
        Method ``lowrank``. The relative error of a singular value is about eps |B| |A| / sigma, which is what forming W
        would cost as well; the floor tells where that is everything.

    Raises:
        NotConvergedError: LAPACK gave up.
    """
    r = R_B.shape[1]
    sigma = sigma_of(R_B @ R_A.T) * abs(scale)
    rounding = r * EPS * float(sigma_of(R_B)[-1]) * float(sigma_of(R_A)[-1]) * abs(scale)
    floor = max(n * EPS * float(sigma[-1]), rounding) ** 2
    return Spectrum(sigma * sigma, n, "lowrank", floor, exponent)


def exponents(largest_b: float, largest_a: float, scale: float) -> tuple[int, int, float, int]:
    """Powers of two that keep a product of extreme factors in the range of float64.

    Args:
        largest_b, largest_a: largest |element| of each factor, finite.
        scale: s, finite.

    Returns:
        e_B and e_A, by whose powers of two the factors are divided; the scale for factors so divided; and the exponent of
        the result, 0 unless it is extreme.
    """
    e_b, e_a = int(np.frexp(largest_b)[1]), int(np.frexp(largest_a)[1])
    mantissa, e_s = np.frexp(scale)
    total = e_b + e_a + int(e_s)
    exponent = 0 if abs(total) <= _ORDINARY else total
    return e_b, e_a, float(np.ldexp(mantissa, total - exponent)), exponent


def product_bytes(out: int, inner: int, r: int) -> int:
    """Most private memory, in bytes, that the triangles of two factors and their product hold at one time."""
    tallest = max(out, inner)
    height = min(tallest, 3 * r + block_rows(r))  # rows of a factor that wait to be absorbed
    return 32 * r * height + 40 * r * min(r, tallest) + 2**22


def product_flops(out: int, inner: int, r: int) -> float:
    """Estimated floating-point operations of one product: two QR and the SVD of the core."""
    return 2.0 * r**2 * (out + inner) + 10.0 * min(r, out) * min(r, inner) * r
