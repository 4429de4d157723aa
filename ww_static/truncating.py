"""The K largest eigenvalues of a row, by request: for matrices whose whole spectrum costs too much, sparse ones first of all.

The sum of all eigenvalues is known exactly, ||W||_F^2, and so is what it and the largest ones determine; the rest is null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ww_static import reading, resampling
from ww_static.errors import NonFiniteError
from ww_static.layers import LayerView
from ww_static.options import Options
from ww_static.protocol import Limits
from ww_static.seam import OpenCheckpoint
from ww_static.spectral.eigen import EPS, Spectrum
from ww_static.spectral.gram import Blocks, scaled
from ww_static.spectral.lanczos import Product
from ww_static.spectral.truncated import largest_eigenvalues, most_steps, truncated_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORTH = 4  # times K: with fewer columns all eigenvalues cost no more
_ENTRY_BYTES = 88  # of an entry of a sparse matrix: in the two orders of the reader, and collected

# columns of a truncated spectrum: those of the largest eigenvalues, of their sum, and of the fitted tail
KEPT = frozenset(
    ("norm", "spectral_norm", "lambda_max", "log_norm", "log_spectral_norm", "frob_norm", "op_norm", "sv_max", "stable_rank",
     "alpha", "xmin", "xmax", "D", "Lambda", "fit_kind", "sigma", "alpha_error", "num_pl_spikes", "n_tail", "tail_frac", "n_fit",
     "alpha_weighted", "warning", "D_two_sided", "alpha_robust", "xmin_robust", "D_robust", "n_tail_robust", "n_local_minima",
     "alpha_range_minima", "alpha_xmax", "alpha_drop_top_1", "alpha_drop_top_2", "alpha_drop_top_5", "alpha_drop_top_10",
     "alpha_sigma_boot", "alpha_ci_lo", "alpha_ci_hi", "gof_p", "gof_B", "alpha_gof", "xmin_gof", "D_gof", "n_tail_gof", "verdict",
     "verdict_evidence", "exp_rate", "ln_mu", "ln_s", "sexp_b", "sexp_rate", "tpl_alpha", "tpl_Lambda", "etpl_alpha", "etpl_Lambda",
     "etpl_xmin", "etpl_D", "R_exp", "p_exp", "R_ln", "p_ln", "R_sexp", "p_sexp", "R_tpl", "p_tpl", "best_fit", "crosscheck_alpha",
     "crosscheck_xmin", "crosscheck_D", "crosscheck_difference", "esd", "explained_k", "ks_xmins", "ks_D")
)  # fmt: skip


def applies(view: LayerView, options: Options) -> bool:
    """Whether a row has the K largest eigenvalues only: one matrix, of more than 4 K columns, in float64."""
    single = view.left is None and len(view.matrices) == 1
    return options.top_k is not None and single and (view.m or 0) > _WORTH * options.top_k


def needed_bytes(view: LayerView, options: Options) -> int:
    """Least private memory, in bytes, in which `spectrum` works: the matrix or its entries, and the Lanczos vectors."""
    n, m = view.n or 0, view.m or 0
    held = 8 * n * m
    if view.spec.encoding == "sparse":
        held = _ENTRY_BYTES * min(n * m, Limits().sparse_entries)
    return held + 24 * (n + m) + truncated_bytes(m, options.top_k or 0)


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
        W = np.concatenate(list(scaled(blocks, exponent)()))
        product, total = (lambda v: W.T @ (W @ v)), float(np.einsum("ij,ij->", W, W))
    if not np.isfinite(total):
        raise NonFiniteError("the matrix holds a NaN or an infinity")
    generator = resampling.generators(view, options.seed, "truncated")(0)
    found = largest_eigenvalues(product, m, options.top_k, generator)
    floor = m * EPS * float(found[-1])
    return Spectrum(found, n, "lanczos", floor, exponent, missing=m - len(found), total=total)


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
