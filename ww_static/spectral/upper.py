"""The upper end of the spectrum of a matrix in memory: its largest eigenvalue, how many lie above an edge, and how many of
those are left when the mean of the elements is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import lanczos, lapack
from ww_static.spectral.eigen import Spectrum, spectrum_of_blocks
from ww_static.spectral.gram import Blocks, gram, mirror

SMALL = 256  # columns up to which all eigenvalues cost no more than the largest
_GRAM = 1024  # columns up to which X is formed: products with it cost less than passes over W
_RESIDUAL = 1e-4  # of a vector v of Lanczos: ||W v||^2 is then known to 1e-6, its square over the gap to the next value
_FAR = 1e3  # lambda_max over the edge, above which the rounding of X in single precision, 1e-6 lambda_max, may hide the edge
_CACHED = 2**18  # elements of W that stay in the processor's cache between W v and W^T (W v)
_ROWS = 512  # of a block in double precision at least: with fewer, reading and writing X would cost more than the products

Vector = NDArray[np.float64]
Single = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix in memory, in the dtype it is stored in.

    Attributes:
        stored: shape (n, m), n >= m, C order.
        widened: rows of it as float64, times a power of two that keeps squares in the range of float64; a fresh array.
        narrowed: rows of it as float32, the widened ones times 2^-exponent, whose squares are in the range of float32.
        exponent: between the two.
    """

    stored: NDArray[Any]
    widened: Callable[[NDArray[Any]], NDArray[np.float64]]
    narrowed: Callable[[NDArray[Any]], NDArray[np.float32]]
    exponent: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """n, m."""
        n, m = self.stored.shape
        return n, m

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """Row blocks in float64. `map` lets go of one before it makes the next; a generator expression would not."""
        return map(self.widened, self._rows(max(_ROWS, _CACHED // self.shape[1])))

    def narrow_blocks(self, elements: int) -> Iterator[NDArray[np.float32]]:
        """Row blocks of about so many elements in float32."""
        return map(self.narrowed, self._rows(max(1, elements // self.shape[1])))

    def _rows(self, count: int) -> Iterable[NDArray[Any]]:
        return (self.stored[start : start + count] for start in range(0, len(self.stored), count))


@dataclass(frozen=True, slots=True)
class Upper:
    """The upper end; eigenvalues of the widened matrix.

    Attributes:
        largest: eigenvalue.
        above: how many are above the edge.
        above_centered: how many of the matrix less its mean are.
    """

    largest: float
    above: int
    above_centered: int


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums of the columns of W, and W^T W without and with the mean subtracted, as products with a vector; X where it is formed."""

    columns: Vector
    n: int
    product: Callable[[Single], Single]
    X: Single | None = None

    @property
    def mean(self) -> float:
        return float(self.columns.sum()) / (self.n * len(self.columns))

    def centered(self, v: Single) -> Single:
        """(W - mean)^T (W - mean) v: two vectors more than W^T W v."""
        total, mean = float(v.sum()), self.mean
        further = (mean * (mean * self.n * total - float(self.columns @ v))) - (mean * total) * self.columns
        return self.product(v) + further.astype(np.float32)

    def centered_matrix(self, X: Single) -> Single:
        """(W - mean)^T (W - mean), in place of X = W^T W."""
        part = 0.5 * self.mean * self.mean * self.n - self.mean * self.columns
        X += (part[:, None] + part).astype(np.float32)
        return X


def upper_end(W: Matrix, edge: float, generator: np.random.Generator, backend: str = lapack.BEST) -> Upper:
    """The upper end of the spectrum of W^T W.

    All eigenvalues up to M = 256. Above, the largest one by Lanczos in single precision, on X up to M = 1024 and on W beyond, and then
    as ||W v||^2 in double precision, right to about 1e-7; the count from X by its inertia, else by Lanczos, too. All eigenvalues when
    it does not converge, and when the largest one is so far above the edge that single precision does not see the edge.

    Args:
        W: the matrix.
        edge: above which eigenvalues of the widened matrix are counted; inf to count none.
        generator: draws the first vectors of Lanczos.
        backend: of a full solution.

    Raises:
        NonFiniteError: an element is NaN or infinite.
        NotConvergedError: LAPACK gave up.
    """
    if W.shape[1] > SMALL:
        sums, limit = _single(W, backend), math.ldexp(edge, -2 * W.exponent)
        top = lanczos.largest(
            sums.product, W.shape[1], generator, math.inf if sums.X is not None else limit, _RESIDUAL, dtype=np.float32
        )
        if top is not None:
            largest = _squared_length(W, top.vectors[0])
        if top is not None and largest <= _FAR * edge:
            above = 0
            if largest > edge:
                above = max(1, top.above if sums.X is None else _count_above(sums.X, limit, backend))
            if float(top.values[0]) + gain_of(sums.columns, sums.n) <= limit:
                return Upper(largest, above, 0)
            return Upper(largest, above, _centered(W, sums, edge, limit, generator, backend))
    found = spectrum(W, backend).eigenvalues
    centered = 0 if float(found[-1]) + gain(W) <= edge else _centered_exact(W, edge, backend)
    return Upper(float(found[-1]), _count(found, edge), centered)


def centered_above(W: Matrix, largest: float, edge: float, generator: np.random.Generator, backend: str = lapack.BEST) -> int:
    """Eigenvalues above the edge when the mean is subtracted; the other arguments and errors are those of `upper_end`.

    Args:
        largest: eigenvalue of W^T W.
    """
    if W.shape[1] <= SMALL or largest > _FAR * edge:
        return _centered_exact(W, edge, backend)
    return _centered(W, _single(W, backend), edge, math.ldexp(edge, -2 * W.exponent), generator, backend)


def _centered(W: Matrix, sums: _Sums, edge: float, limit: float, generator: np.random.Generator, backend: str) -> int:
    """Eigenvalues above the edge when the mean is subtracted, from what is known in single precision."""
    if sums.X is not None:
        return _count_above(sums.centered_matrix(sums.X), limit, backend)
    rest = lanczos.largest(sums.centered, W.shape[1], generator, limit, _RESIDUAL, True, np.float32)
    return _centered_exact(W, edge, backend) if rest is None else rest.above


def _count_above(X: Single, limit: float, backend: str) -> int:
    """Eigenvalues of a symmetric matrix above a limit: the positive ones of what is left without it."""
    routines = lapack.routines(backend)
    if routines is not None:
        shifted = X.copy()
        shifted[np.diag_indices(len(X))] -= np.float32(limit)
        found = lapack.positive_eigenvalues(routines, shifted)
        if found is not None:
            return found
    return _count(np.linalg.eigvalsh(X).astype(np.float64), limit)


def spectrum(W: Matrix, backend: str = lapack.BEST) -> Spectrum:
    """All eigenvalues of W^T W, of the widened matrix."""
    return _spectrum(W.blocks, W.shape, backend)


def _centered_exact(W: Matrix, edge: float, backend: str) -> int:
    """The same from all eigenvalues."""
    n, m = W.shape
    mean = float(_column_sums(W.blocks(), m).sum()) / (n * m)

    def less(block: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.subtract(block, mean, out=block)

    found = _spectrum(lambda: map(less, W.blocks()), W.shape, backend)
    return _count(found.eigenvalues, edge)


def gain(W: Matrix) -> float:
    """By how much subtracting the mean of the elements can raise the largest eigenvalue of W^T W at most."""
    return gain_of(_column_sums(W.blocks(), W.shape[1]), W.shape[0])


def gain_of(columns: Vector, n: int) -> float:
    """The same from the sums of the columns: the largest eigenvalue of the difference, a matrix of rank two (Weyl).

    With s = N mean 1 + t, t orthogonal to 1, the difference is -mean^2 N 1 1^T - mean (t 1^T + 1 t^T).
    """
    m = len(columns)
    mean = float(columns.sum()) / (n * m)
    t = columns - n * mean
    diagonal = mean * mean * n * m
    beside = abs(mean) * math.sqrt(float(t @ t) * m)
    return 0.5 * (math.hypot(diagonal, 2 * beside) - diagonal)


def _single(W: Matrix, backend: str = lapack.BEST) -> _Sums:
    """W^T W as a product in single precision: with X where that is cheaper, else block by block of W."""
    n, m = W.shape
    columns = _column_sums(W.narrow_blocks(4 * _CACHED), m)
    if m > _GRAM:

        def by_blocks(v: Single) -> Single:
            result = np.zeros(m)
            for block in W.narrow_blocks(_CACHED):
                result += (block @ v) @ block
            return result.astype(np.float32)

        return _Sums(columns, n, by_blocks)
    X = gram(lambda: W.narrow_blocks(4 * _CACHED), m, backend, np.float32)
    mirror(X)
    return _Sums(columns, n, lambda v: X @ v, X)


def _column_sums(blocks: Iterable[NDArray[Any]], m: int) -> Vector:
    sums = np.zeros(m)
    for block in blocks:
        sums += np.ones(len(block), block.dtype) @ block
        del block  # else it would be held while the next one is made
    return sums


def _squared_length(W: Matrix, v: Vector) -> float:
    """||W v||^2 in double precision."""

    def squared(block: NDArray[np.float64]) -> float:
        return float(np.square(block @ v).sum())

    return sum(map(squared, W.blocks()))


def _spectrum(blocks: Blocks, shape: tuple[int, int], backend: str) -> Spectrum:
    return spectrum_of_blocks(blocks, *shape, 0, "gram", backend)


def _count(ascending: Vector, edge: float) -> int:
    return len(ascending) - int(np.searchsorted(ascending, edge, side="right"))
