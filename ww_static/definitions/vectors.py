"""Definitions of what the eigenvectors of bulk and tail are."""

from __future__ import annotations

from ww_static.definitions.entry import Definition

_NULL = "no fit; `too_few_evals` (an empty side), `degenerate`, `not_applicable`, `memory_limit`, `not_converged`"

VECTORS = {
    "vec_entropy.ww.v1": Definition(
        "-sum p ln p, p = density + 1e-10, normalized, of abs(v) - mean abs(v) in 100 bins; 0 for equal elements; mean and variance (ddof 0) over the side",
        "How evenly the sizes of the elements are spread; it depends on M and on the largest element, so compare sides of one row only.",
        _NULL,
        "[WW]",
    ),
    "loc_ratio.v1": Definition(
        "L = norm_1(v)/norm_inf(v); mean and variance over the side",
        "About how many elements as large as the largest one a vector has: M for equal elements, 1 for a single one.",
        _NULL,
        "[MM], [WW]",
    ),
    "part_ratio.v1": Definition(
        "norm_2(v)/norm_4(v); mean and variance over the side",
        "`ipr`^(-1/4): M^(1/4) for equal elements, 1 for a single one.",
        _NULL,
        "[MM], [WW]",
    ),
    "ipr.v1": Definition(
        "sum v^4; mean and variance over the side",
        "1/`ipr` elements carry a vector: 1/M for equal elements, 1 for a single one, 3/(M + 2) in the mean for random directions.",
        _NULL,
        "[MM]",
    ),
    "shannon.v1": Definition(
        "-sum v^2 ln v^2, 0 ln 0 = 0; mean and variance over the side",
        "ln M for equal elements, 0 for a single one, psi(M/2 + 1) - psi(3/2) in the mean for random directions, psi the digamma function.",
        _NULL,
        "[MM]",
    ),
    "porter_thomas.v1": Definition(
        "two-sided Kolmogorov-Smirnov distance D of sqrt(M) v from the standard normal distribution over the bulk: `pt_D` its median, `pt_reject` the share with (sqrt M + 0.12 + 0.11/sqrt M) D > 1.628",
        "Whether the bulk is random directions: `pt_reject` is 0.01 then. Trained matrices can have a random bulk as well; the tail is not tested.",
        _NULL,
        "arXiv 2203.14661",
    ),
    "k_loc_elbow.v1": Definition(
        "`k_elbow` with `loc_ratio` in place of lambda, vectors in descending order of lambda: where the cumulative ratio is farthest from its chord",
        "Where the mean of the localization ratio changes most along the index; compare with n_tail. Without such a change it is anywhere.",
        "no fit; `degenerate`, `too_few_evals`, `not_applicable`, `memory_limit`, `not_converged`",
        "[MM]",
    ),
}
