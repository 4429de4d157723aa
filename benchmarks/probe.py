"""The measured side: runs single calls of either library on request, one JSON object per line on stdin and stdout.

Needs no other module of this folder, so that it runs in the peer's environment too. A request is
`{"task": name, "shape": [n, m]}`, an answer `{"cpu": s, "wall": s, "values": [...]}`, seconds of one call.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import import_module, metadata
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

LEAST_SECONDS = 0.02  # shorter calls are repeated until they have taken this

Shape: TypeAlias = tuple[int, int]
Call: TypeAlias = Callable[[], NDArray[np.float64]]


@lru_cache(maxsize=1)
def matrix(shape: Shape) -> NDArray[np.float32]:
    """Gaussian float32 values from a fixed seed; kept, so that only the first request of a shape makes them."""
    return np.random.default_rng(7).standard_normal(shape, np.float32)


def pareto(generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A pure power law, where the distances of all candidates are most alike."""
    return generator.uniform(0.0, 1.0, n) ** (-1 / 1.5)


def bulk(generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A uniform bulk, and a Pareto fifth."""
    return np.concatenate([generator.uniform(0.05, 1.0, n - n // 5), generator.uniform(0.0, 1.0, n // 5) ** (-1 / 1.7)])


def noise(generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Eigenvalues of Gaussian matrices of at most 512 columns, pooled."""
    return _pooled(generator.standard_normal, n)


def student(generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    """The same with elements that have Student's t distribution with 2.5 degrees of freedom."""
    return _pooled(lambda shape: generator.standard_t(2.5, shape), n)


def _pooled(draw: Callable[[Shape], NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    m = min(n, 512)
    return np.concatenate([np.square(np.linalg.svd(draw((2 * m, m)), compute_uv=False)) for _ in range(n // m)])


FAMILIES: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "pareto": pareto, "bulk": bulk, "noise": noise, "student": student,
}  # fmt: skip


@lru_cache(maxsize=1)
def eigenvalues(family: str, n: int) -> NDArray[np.float64]:
    """n values of a family from a fixed seed, ascending; kept, so that only the first request makes them."""
    return np.sort(FAMILIES[family](np.random.default_rng(11), n))


def esd_ours(shape: Shape) -> Call:
    """`ww_static.spectrum` with its default method."""
    from ww_static.spectral.eigen import spectrum

    W = matrix(shape)
    return lambda: spectrum(W).eigenvalues


def esd_fast(shape: Shape) -> Call:
    """The same in float32, where `spectrum` has a precision to choose."""
    from ww_static.spectral import eigen

    W, spectrum = matrix(shape), eigen.spectrum
    chosen: dict[str, Any] = {"precision": "fast"}
    return lambda: np.asarray(spectrum(W, **chosen).eigenvalues, np.float64)


def esd_numpy(shape: Shape) -> Call:
    """The same with nothing but numpy's own functions."""
    from ww_static.spectral.eigen import spectrum

    W = matrix(shape)
    return lambda: spectrum(W, backend="numpy").eigenvalues


def gram_ours(shape: Shape) -> Call:
    """X = W^T W alone, widening included."""
    from ww_static.spectral.gram import blocks_of, gram

    blocks, _, m = blocks_of(matrix(shape))
    return lambda: gram(blocks, m)[0, :1].copy()


def eig_ours(shape: Shape) -> Call:
    """The eigenvalues of X alone, by the route that its size takes."""
    from ww_static.spectral import lapack
    from ww_static.spectral.gram import blocks_of, gram

    blocks, _, m = blocks_of(matrix(shape))
    X, routines = gram(blocks, m), lapack.routines()
    work = np.empty_like(X)

    def call() -> NDArray[np.float64]:
        if routines is None or m <= lapack.LARGEST_ONE_STAGE:
            return np.linalg.eigvalsh(X, UPLO="U").astype(np.float64)
        np.copyto(work, X)
        values = lapack.two_stage_eigenvalues(routines, work, lapack.band_width(m))
        return np.array([]) if values is None else values

    return call


def esd_peer(shape: Shape) -> Call:
    """weightwatcher's own values-only SVD, in float64 as it calls it."""
    from weightwatcher.RMT_Util import svd_vals

    W = matrix(shape)
    return lambda: np.sort(np.square(svd_vals(W.astype(float))))


def esd_stand_in(shape: Shape) -> Call:
    """Where weightwatcher is absent: the same LAPACK routine through numpy."""
    W = matrix(shape)
    return lambda: np.sort(np.square(np.linalg.svd(W.astype(float), compute_uv=False)))


def esd_diffract(shape: Shape) -> Call:
    """diffract-core's ESD (sigma^2 / N), times N; it computes the singular vectors too, in the dtype of the weights."""
    import diffract

    diffract.Session(profile="ram")  # wires the registry, without which the kernels cannot be imported
    from diffract.core.compute.kernels import mat_decomposition as kernels

    W = matrix(shape)
    return lambda: np.asarray(kernels.esd(kernels.svd(W)[1], max(shape)) * max(shape), np.float64)


def esd_vectors(shape: Shape) -> Call:
    """Where diffract-core cannot be installed: the one numpy call in which its ESD spends its time."""
    W = matrix(shape)
    return lambda: np.sort(np.square(np.linalg.svd(W, full_matrices=False)[1]).astype(np.float64))


def fit_ours(family: str, shape: Shape) -> Call:
    """`ww_static.tail`: alpha, xmin, D."""
    from ww_static.spectral.missing import Missing
    from ww_static.spectral.powerlaw import tail

    values = eigenvalues(family, shape[0])

    def call() -> NDArray[np.float64]:
        fit = tail(values)
        return np.array([]) if isinstance(fit, Missing) else np.array([fit.alpha, fit.xmin, fit.D])

    return call


def fit_count(family: str, shape: Shape) -> Call:
    """How many candidates that fit evaluates in full, and how many there are."""
    from ww_static.spectral import scan

    tails = scan.tails(eigenvalues(family, shape[0]), 2)
    return lambda: np.array([scan.nearest(tails, 1, 1e-9).evaluated, len(tails.admissible)], dtype=np.float64)


def fit_peer(family: str, shape: Shape) -> Call:
    """`WWFit`: alpha, xmin, D."""
    from weightwatcher.WW_powerlaw import WWFit

    values = eigenvalues(family, shape[0])

    def call() -> NDArray[np.float64]:
        fit = WWFit(values)
        return np.array([fit.alpha, fit.xmin, fit.D])

    return call


def fit_powerlaw(family: str, shape: Shape) -> Call:
    """`powerlaw.Fit`: alpha, xmin, D; without the upper bound on alpha that its second version has."""
    import powerlaw

    values = eigenvalues(family, shape[0])
    unbounded = {} if _powerlaw_version().startswith("1.") else {"parameter_ranges": {"alpha": [1, None]}}

    def call() -> NDArray[np.float64]:
        fit = powerlaw.Fit(values, verbose=False, **unbounded)
        return np.array([fit.alpha, fit.xmin, fit.D])

    return call


@lru_cache(maxsize=1)
def stored(shape: Shape, bits: int) -> NDArray[Any]:
    """The same matrix as it is stored: the bits of float32, or of BF16 (cut off)."""
    wide = matrix(shape).view(np.uint32).reshape(-1)
    return wide if bits == 32 else (wide >> 16).astype(np.uint16)


def _core(name: str) -> Any:
    """A module of the spectral core that not every version has."""
    return import_module(f"ww_static.spectral.{name}")


def permute_ours(bits: int, shape: Shape) -> Call:
    """The stored values in random order."""
    permuted = _core("permutation").permuted
    values = stored(shape, bits)
    step = 2**18
    blocks = [values[start : start + step] for start in range(0, len(values), step)]
    return lambda: permuted(blocks, len(values), np.random.default_rng(1))[:1].astype(np.float64)


def permute_numpy(bits: int, shape: Shape) -> Call:
    """`numpy.random.Generator.permutation` of the same values."""
    values = stored(shape, bits)
    return lambda: np.random.default_rng(1).permutation(values)[:1].astype(np.float64)


def upper_ours(shape: Shape) -> Call:
    """The largest eigenvalue, and how many are above the edge that pure noise exceeds once in a hundred times."""
    upper, tracy_widom = _core("upper"), _core("tracy_widom")
    W = upper.Matrix(matrix(shape), lambda rows: rows.astype(np.float64), lambda rows: rows.astype(np.float32))
    edge = tracy_widom.edge(*shape, 0.01)
    return lambda: np.array([upper.upper_end(W, edge, np.random.default_rng(2)).largest])


def replica_ours(shape: Shape) -> Call:
    """One replica by its upper end: permuted in the stored dtype, then its largest eigenvalue."""
    upper, tracy_widom, permuted = _core("upper"), _core("tracy_widom"), _core("permutation").permuted
    values, edge = stored(shape, 32), tracy_widom.edge(*shape, 0.01)

    def call() -> NDArray[np.float64]:
        W = permuted([values], len(values), np.random.default_rng(1)).view(np.float32).reshape(shape)
        lazy = upper.Matrix(W, lambda rows: rows.astype(np.float64), lambda rows: rows.astype(np.float32))
        return np.array([upper.upper_end(lazy, edge, np.random.default_rng(2)).largest])

    return call


def replica_peer(shape: Shape) -> Call:
    """weightwatcher's replica: permuted by an index, the same SVD as of the layer, and its largest eigenvalue."""
    from weightwatcher.RMT_Util import permute_matrix, svd_vals

    W = matrix(shape)
    return lambda: np.array([float(np.max(np.square(svd_vals(permute_matrix(W.astype(float))[0]))))])


def _spectrum_of(shape: Shape) -> NDArray[np.float64]:
    """Eigenvalues of the matrix by numpy alone, so that both sides have the same."""
    W = matrix(shape).astype(np.float64)
    return np.linalg.eigvalsh(W.T @ W).astype(np.float64)


def mp_ours(shape: Shape) -> Call:
    """The Marchenko-Pastur fit: sigma_mp."""
    mp_fit = _core("mp_fit").mp_fit
    values, Q = _spectrum_of(shape), max(shape) / min(shape)
    return lambda: np.array([mp_fit(values, Q).sigma_mp])


def mp_peer(shape: Shape) -> Call:
    """weightwatcher's, of eigenvalues with mean 1."""
    from weightwatcher.RMT_Util import fit_density_with_range

    values, Q = _spectrum_of(shape), max(shape) / min(shape)
    values = values * len(values) / values.sum()
    return lambda: np.array([float(fit_density_with_range(values, Q, bw=0.1)[0])])


def powerlaw_version(shape: Shape) -> Call:
    """The version of powerlaw as numbers; none where it is not installed."""
    return lambda: np.array([float(part) for part in _powerlaw_version().split(".") if part])


def _powerlaw_version() -> str:
    try:
        return metadata.version("powerlaw")
    except metadata.PackageNotFoundError:
        return ""


def gemm(dtype: type[np.floating[Any]]) -> Callable[[Shape], Call]:
    """A matrix product n x m by m x n of this type."""

    def prepare(shape: Shape) -> Call:
        A = np.random.default_rng(3).standard_normal(shape).astype(dtype)
        B = np.ascontiguousarray(A.T)
        out = np.empty((shape[0], shape[0]), dtype)

        def call() -> NDArray[np.float64]:
            np.matmul(A, B, out=out)
            return np.array([float(out[0, 0])])

        return call

    return prepare


TASKS: dict[str, Callable[[Shape], Call]] = {
    "esd_ours": esd_ours, "esd_peer": esd_peer, "esd_stand_in": esd_stand_in, "esd_fast": esd_fast, "esd_numpy": esd_numpy,
    "esd_diffract": esd_diffract, "esd_vectors": esd_vectors, "gram_ours": gram_ours, "eig_ours": eig_ours,
    "upper_ours": upper_ours, "replica_ours": replica_ours, "replica_peer": replica_peer, "mp_ours": mp_ours, "mp_peer": mp_peer,
    "dgemm": gemm(np.float64), "sgemm": gemm(np.float32), "powerlaw_version": powerlaw_version,
} | {
    f"{fit.__name__} {family}": partial(fit, family)
    for fit in (fit_ours, fit_count, fit_peer, fit_powerlaw) for family in FAMILIES
} | {
    f"{permute.__name__} {bits}": partial(permute, bits) for permute in (permute_ours, permute_numpy) for bits in (16, 32)
}  # fmt: skip


def main() -> None:
    """Answers requests until stdin ends; says `ready` before each call, so that the caller can sample its memory."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    for line in sys.stdin:
        request = json.loads(line)
        call = TASKS[request["task"]](tuple(request["shape"]))
        channel.write("ready\n")
        sys.stdin.readline()
        begin_wall, begin, calls, cpu = time.perf_counter(), time.process_time(), 0, 0.0
        while cpu < LEAST_SECONDS:
            values, calls = call(), calls + 1
            cpu = time.process_time() - begin
        wall = time.perf_counter() - begin_wall
        channel.write(json.dumps({"cpu": cpu / calls, "wall": wall / calls, "values": values.tolist()}) + "\n")


if __name__ == "__main__":
    main()
