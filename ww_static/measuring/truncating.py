"""The K largest eigenvalues of a row, by request: for matrices whose whole spectrum costs too much, sparse ones first of all.

The sum of all eigenvalues is known exactly, ||W||_F^2, and so is what it and the largest ones determine; the rest is null.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ww_static.errors import NonFiniteError
from ww_static.layout.layers import LayerView
from ww_static.measuring import reading, resampling
from ww_static.options import Options
from ww_static.seam import OpenCheckpoint
from ww_static.spectral.eigen import EPS, Spectrum
from ww_static.spectral.gram import Blocks, block_rows, scaled
from ww_static.spectral.lanczos import Product
from ww_static.spectral.truncated import largest_eigenvalues, most_steps, truncated_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORTH = 4  # times K: with fewer columns all eigenvalues cost no more
_COLLECTED_BYTES = 40  # of an entry of a sparse matrix, beside what the reader holds: its place and value, twice, and a product
_BLOCKS = 3  # the block, and what widening it may need beside it
_SPARE_BYTES = 2**22

# columns of a truncated spectrum: those of the largest eigenvalues, of the sum of all, and of the fitted tail
KEPT = frozenset(
    ("norm", "spectral_norm", "lambda_max", "log_norm", "log_spectral_norm", "frob_norm", "op_norm", "sv_max", "stable_rank",
     "alpha", "xmin", "xmax", "D", "Lambda", "fit_kind", "sigma", "alpha_error", "num_pl_spikes", "n_tail", "tail_frac", "n_fit",
     "alpha_weighted", "detX_num", "num_ERG_spikes", "detX_val", "detX_val_unrescaled", "detX_frac", "ERG_gap", "delta_lambda_min",
     "warning", "D_two_sided", "alpha_robust", "xmin_robust", "D_robust", "n_tail_robust", "n_local_minima",
     "alpha_range_minima", "alpha_xmax", "alpha_drop_top_1", "alpha_drop_top_2", "alpha_drop_top_5", "alpha_drop_top_10",
     "alpha_sigma_boot", "alpha_ci_lo", "alpha_ci_hi", "gof_p", "gof_B", "alpha_gof", "xmin_gof", "D_gof", "n_tail_gof", "verdict",
     "verdict_evidence", "exp_rate", "ln_mu", "ln_s", "sexp_b", "sexp_rate", "tpl_alpha", "tpl_Lambda", "etpl_alpha", "etpl_Lambda",
     "etpl_xmin", "etpl_D", "R_exp", "p_exp", "R_ln", "p_ln", "R_sexp", "p_sexp", "R_tpl", "p_tpl", "best_fit", "crosscheck_alpha",
     "crosscheck_xmin", "crosscheck_D", "crosscheck_difference", "esd", "explained_k", "ks_xmins", "ks_D")
)  # fmt: skip


def shortens(view: LayerView, options: Options) -> bool:
    """Whether a row has the K largest eigenvalues only: one matrix, of more than K columns."""
    single = view.left is None and len(view.matrices) == 1
    return options.top_k is not None and single and (view.m or 0) > options.top_k


def applies(view: LayerView, options: Options) -> bool:
    """Whether they are searched for: of more than 4 K columns. Of fewer all are computed, and the others are left out."""
    return shortens(view, options) and (view.m or 0) > _WORTH * (options.top_k or 0)


def needed_bytes(view: LayerView, options: Options) -> int:
    """Least private memory, in bytes, in which `spectrum` works: the matrix or its entries, and then blocks or Lanczos vectors."""
    n, m = view.n or 0, view.m or 0
    sparse = view.spec.encoding == "sparse"
    held = _COLLECTED_BYTES * reading.most_entries(view.spec) if sparse else 8 * n * m
    blocks = _BLOCKS * 8 * m * min(n, block_rows(m))
    searching = 24 * (n + m) + truncated_bytes(m, options.top_k or 0)
    return reading.held_bytes(view.spec) + held + max(blocks, searching) + _SPARE_BYTES


def needed_flops(view: LayerView, options: Options) -> float:
    """Estimated operations: products with W, and orthogonalization, which memory bounds, for all steps but rarely more."""
    n, m = view.n or 0, view.m or 0
    steps = most_steps(m, options.top_k or 0)
    return float(4 * n * m * steps + 16 * m * steps * steps)


def spectrum(checkpoint: OpenCheckpoint, view: LayerView, exponent: int, options: Options) -> Spectrum:
    """The K largest eigenvalues of the matrix of a view, and how many are missing.

    The start of the search depends on the seed of the run, the name and the part alone.

    Raises:
        NonFiniteError: an element is NaN or infinite.
        NotConvergedError: they are not known in time.
    """
    import numpy as np

    assert options.top_k is not None  # the caller has looked
    (matrix,) = view.matrices
    blocks, n, m = reading.matrix_blocks(checkpoint, view.spec, matrix)
    if view.spec.encoding == "sparse":
        product, total = _sparse(scaled(blocks, exponent), n, m)
    else:
        product, total = _dense(scaled(blocks, exponent), n, m)
    if not np.isfinite(total):
        raise NonFiniteError("the matrix holds a NaN or an infinity")
    generator = resampling.generators(view, options.seed, "truncated")(0)
    found = largest_eigenvalues(product, m, options.top_k, generator)
    floor = m * EPS * float(found[-1])
    return Spectrum(found, n, "lanczos", floor, exponent, missing=m - len(found), total=total)


def shortened(found: Spectrum, options: Options) -> Spectrum:
    """The K largest eigenvalues of a spectrum that was taken whole, and the sum of all."""
    assert options.top_k is not None  # the caller has looked
    missing = len(found.eigenvalues) - options.top_k
    clipped, total = max(0, found.clipped - missing), float(found.eigenvalues.sum())
    return replace(found, eigenvalues=found.eigenvalues[missing:].copy(), clipped=clipped, missing=missing, total=total)


def _dense(blocks: Blocks, n: int, m: int) -> tuple[Product, float]:
    """X v = W^T (W v) from W, which is never in memory twice, and the sum of its squares."""
    import numpy as np

    W = np.empty((n, m))
    start = 0
    for block in blocks():
        W[start : start + len(block)] = block
        start += len(block)
        del block  # else it would be held while the next one is made
    return (lambda v: W.T @ (W @ v)), float(np.einsum("ij,ij->", W, W))


def _sparse(blocks: Blocks, n: int, m: int) -> tuple[Product, float]:
    """X v = W^T (W v) from the entries of W that are not zero, and the sum of their squares."""
    import numpy as np

    pieces, start = [], 0
    for block in blocks():
        rows, columns = np.nonzero(block)
        pieces.append(((rows + start).astype(np.int32), columns.astype(np.int32), block[rows, columns]))
        start += len(block)
    rows, columns, values = (np.concatenate([piece[part] for piece in pieces]) for part in range(3))

    def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
        u = np.bincount(rows, weights=values * v[columns], minlength=n)
        return np.asarray(np.bincount(columns, weights=values * u[rows], minlength=m), np.float64)

    return product, float(values @ values)
