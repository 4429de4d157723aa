"""Two matrices of one shape, compared: norms and spectrum of their difference, their leading subspaces, their similarity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.eigen import EPS, Method, Spectrum, spectrum_of_blocks
from ww_static.spectral.gram import Blocks, block_rows, gram, gram_bytes, mirror
from ww_static.spectral.leading import Leading, leading, leading_bytes, leading_flops
from ww_static.spectral.missing import Missing
from ww_static.spectral.similarity import Similarity, similarity
from ww_static.spectral.subspaces import Agreement, agreement, intruders

TOP = 10  # leading singular vectors that are compared
_OF_VECTORS = 1e-9  # residual of their eigenvalues, in units of the largest
_OF_NORM = 1e-7  # the same of ||dW||_2^2
_EQUAL = 1e-12  # relative distance of eigenvalues whose vectors are not unique

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """||Wa||_F^2 and ||Wb||_F^2, <Wa, Wb>, ||dW||_F^2."""

    square_a: float
    square_b: float
    inner: float
    square: float


@dataclass(frozen=True, slots=True)
class Spaces:
    """The ten leading singular vectors of both.

    Attributes:
        left, right: how alike they are, on either side.
        intruders: how many of the left ones of b are new.
        aligned: ||U_k^T dW V_k||_F with those of Wa.
    """

    left: Agreement
    right: Agreement
    intruders: int
    aligned: float


@dataclass(frozen=True, slots=True)
class Difference:
    """What one pair of matrices Wa, Wb has to say, dW = Wb - Wa; in units of W 2^-exponent.

    Attributes:
        sums: over all elements.
        spectral: ||dW||_2, to 1e-7 of it at least.
        a, b: spectra of both.
        similarity: of the two.
        spaces: their ten leading singular vectors; Missing where they are not unique.
    """

    sums: Sums
    spectral: float
    a: Spectrum
    b: Spectrum
    similarity: Similarity | Missing
    spaces: Spaces | Missing


@dataclass(frozen=True, slots=True)
class Pair:
    """Two matrices of one shape as streams.

    Attributes:
        a, b: row blocks of the same heights, float64, shape (k, m), longer side streamed, finite where both are; one and the
            same object when the matrices are known to be equal, of which everything is then taken once.
        n, m: longer and shorter side.
        tall: whether the rows of W are streamed, and not its columns.
        exponent: of W, whose blocks have been multiplied by 2^-exponent.
    """

    a: Blocks
    b: Blocks
    n: int
    m: int
    tall: bool
    exponent: int = 0

    @property
    def same(self) -> bool:
        """Whether the two are one matrix."""
        return self.a is self.b

    def blocks(self) -> Iterator[tuple[Matrix, Matrix]]:
        """The blocks of both, side by side."""
        yield from zip(self.a(), self.b(), strict=True)

    def delta(self) -> Iterator[Matrix]:
        """The blocks of dW."""
        for A, B in self.blocks():
            yield B - A


@dataclass(frozen=True, slots=True)
class _Vectors:
    """The leading singular vectors of one matrix: `short` of length m, `long` of length n."""

    short: Matrix
    long: Matrix


def difference(pair: Pair, method: Method, backend: str, generator: np.random.Generator) -> Difference:
    """Compares two matrices.

    Args:
        pair: the matrices.
        method: of their spectra; see `spectrum_of_blocks`.
        backend: what sums up Gram matrices.
        generator: for `leading`.

    Raises:
        NonFiniteError: an element is NaN or infinite.
        NotConvergedError: LAPACK gave up.
    """
    a = spectrum_of_blocks(pair.a, pair.n, pair.m, 0, method, backend)
    b = a if pair.same else spectrum_of_blocks(pair.b, pair.n, pair.m, 0, method, backend)
    sums = sums_of(pair.blocks())
    spectral = 0.0 if pair.same else _spectral(pair, backend, generator)
    Xa = _gram(pair.a, pair.m, backend)
    Xb = Xa if pair.same else _gram(pair.b, pair.m, backend)
    alike = similarity(pair.blocks, Xa, Xb, pair.n, pair.tall)
    found = _spaces(pair, Xa, Xb, generator)
    return Difference(sums, spectral, a, b, alike, found)


def _spaces(pair: Pair, Xa: Matrix, Xb: Matrix, generator: np.random.Generator) -> Spaces | Missing:
    """The leading vectors of both, where they are unique."""
    if pair.m < TOP:
        return Missing("too_few_evals")
    of_a = leading(Xa, TOP, generator, _OF_VECTORS)
    of_b = of_a if pair.same else leading(Xb, TOP, generator, _OF_VECTORS)
    if not (_is_determined(of_a) and _is_determined(of_b)):
        return Missing("degenerate")
    a = _vectors(pair.a, of_a, pair.n)
    b = a if pair.same else _vectors(pair.b, of_b, pair.n)
    short, long = agreement(a.short, b.short), agreement(a.long, b.long)
    left, right = (long, short) if pair.tall else (short, long)
    return Spaces(left, right, _intruders(pair, a, b, of_a, Xa), _aligned(pair, a))


def sums_of(blocks: Iterable[tuple[Matrix, Matrix]]) -> Sums:
    """The sums over pairs of blocks, float64; not finite when an element is not, or is too large to be squared."""
    sums = np.zeros(4)
    with np.errstate(over="ignore", invalid="ignore"):
        for A, B in blocks:
            D = B - A
            sums += (np.vdot(A, A), np.vdot(B, B), np.vdot(A, B), np.vdot(D, D))
    return Sums(*map(float, sums))


def _gram(blocks: Blocks, m: int, backend: str) -> Matrix:
    X = gram(blocks, m, backend)
    mirror(X)
    return X


def _spectral(pair: Pair, backend: str, generator: np.random.Generator) -> float:
    """||dW||_2, from X of dW divided by its own largest element: a small difference must not be lost in its squares."""
    largest = max((float(np.abs(D).max()) for D in pair.delta()), default=0.0)
    exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
    X = _gram(lambda: (np.ldexp(D, -exponent) for D in pair.delta()), pair.m, backend)
    top = float(leading(X, 1, generator, _OF_NORM).values[0])
    return float(np.ldexp(np.sqrt(max(top, 0.0)), exponent))


def _is_determined(found: Leading) -> bool:
    """Whether the space of the leading vectors is unique, and none of them belongs to a zero."""
    values = found.values
    noise = max(len(found.V) * EPS * float(values[0]), _EQUAL * float(values[TOP - 1]))
    return bool(values[TOP - 1] > noise and (len(values) <= TOP or values[TOP - 1] - values[TOP] > noise))


def _vectors(blocks: Blocks, found: Leading, n: int) -> _Vectors:
    """Those of length m, and W V / sigma."""
    long = np.empty((n, TOP))
    start = 0
    for block in blocks():
        long[start : start + len(block)] = block @ found.V
        start += len(block)
    return _Vectors(found.V, long / np.linalg.norm(long, axis=0))


def _intruders(pair: Pair, a: _Vectors, b: _Vectors, of_a: Leading, Xa: Matrix) -> int:
    """New ones among the left vectors of b: looked for among the leading ones of a first, then among all of them."""
    new = b.long if pair.tall else b.short
    known = a.long if pair.tall else a.short
    count, undecided = intruders(known.T @ new)
    if not undecided.any():
        return count
    values, V = of_a.everything or np.linalg.eigh(Xa)
    if not pair.tall:
        return count + intruders(V.T @ new[:, undecided])[0]
    seen = values > len(values) * EPS * float(values[-1])  # the others have no left vector
    back = np.zeros((pair.m, int(np.count_nonzero(undecided))))
    start = 0
    for A in pair.a():
        back += A.T @ new[start : start + len(A), undecided]
        start += len(A)
    cosines = (V[:, seen].T @ back) / np.sqrt(values[seen])[:, None]
    return count + int(np.count_nonzero(np.abs(cosines).max(axis=0) < 0.5))


def _aligned(pair: Pair, a: _Vectors) -> float:
    """||U_k^T dW V_k||_F of the leading vectors of a, whichever of them is streamed."""
    core = np.zeros((TOP, TOP))
    start = 0
    for D in pair.delta():
        core += a.long[start : start + len(D)].T @ (D @ a.short)
        start += len(D)
    return float(np.linalg.norm(core))


def difference_bytes(n: int, m: int, backend: str) -> int:
    """Most private memory, in bytes, that `difference` holds at one time, its spectra by the Gram matrix."""
    vectors = 8 * TOP * 6 * (n + m)
    held = 24 * m * m + max(leading_bytes(m), 8 * 4 * m * block_rows(m)) + vectors  # Xa, Xb and one more
    return max(held + 3 * 8 * m * block_rows(m), gram_bytes(m, backend) + 8 * m * block_rows(m)) + 2**22


def difference_flops(n: int, m: int) -> float:
    """What it takes beside the two spectra, in operations of a product of matrices."""
    return 8.0 * n * m**2 + 3 * leading_flops(m)
