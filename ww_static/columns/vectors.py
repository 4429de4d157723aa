"""The columns of `--vectors`: how localized the eigenvectors of the bulk and of the tail are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_vectors = partial(metric, "vectors")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class VectorsColumns:
    """Eigenvectors of X on the side of length M, those below xmin (bulk) and from xmin on (tail)."""

    __slots__ = ()

    bulk_mean_vec_entropy: float | None = _vectors(
        "entropy of the histogram of |v| - mean |v| in 100 bins, nats, mean over the bulk", "vec_entropy.ww.v1", "nat"
    )
    bulk_var_vec_entropy: float | None = _vectors(
        "variance of the histogram entropy over the bulk, ddof 0", "vec_entropy.ww.v1", "nat^2"
    )
    bulk_mean_loc_ratio: float | None = _vectors(
        "localization ratio |v|_1/|v|_inf: 1 for one element, M for equal ones, mean over the bulk", "loc_ratio.v1"
    )
    bulk_var_loc_ratio: float | None = _vectors("variance of the localization ratio over the bulk, ddof 0", "loc_ratio.v1")
    bulk_mean_part_ratio: float | None = _vectors("participation ratio |v|_2/|v|_4, mean over the bulk", "part_ratio.v1")
    bulk_var_part_ratio: float | None = _vectors("variance of the participation ratio over the bulk, ddof 0", "part_ratio.v1")
    bulk_mean_ipr: float | None = _vectors(
        "inverse participation ratio, the sum of v^4: 1 for one element, 1/M for equal ones, mean over the bulk", "ipr.v1"
    )
    bulk_var_ipr: float | None = _vectors("variance of the inverse participation ratio over the bulk, ddof 0", "ipr.v1")
    bulk_mean_shannon: float | None = _vectors("entropy -sum v^2 ln v^2, mean over the bulk", "shannon.v1", "nat")
    bulk_var_shannon: float | None = _vectors(
        "variance of the entropy -sum v^2 ln v^2 over the bulk, ddof 0", "shannon.v1", "nat^2"
    )
    tail_mean_vec_entropy: float | None = _vectors(
        "entropy of the histogram of |v| - mean |v| in 100 bins, nats, mean over the tail", "vec_entropy.ww.v1", "nat"
    )
    tail_var_vec_entropy: float | None = _vectors(
        "variance of the histogram entropy over the tail, ddof 0", "vec_entropy.ww.v1", "nat^2"
    )
    tail_mean_loc_ratio: float | None = _vectors(
        "localization ratio |v|_1/|v|_inf: 1 for one element, M for equal ones, mean over the tail", "loc_ratio.v1"
    )
    tail_var_loc_ratio: float | None = _vectors("variance of the localization ratio over the tail, ddof 0", "loc_ratio.v1")
    tail_mean_part_ratio: float | None = _vectors("participation ratio |v|_2/|v|_4, mean over the tail", "part_ratio.v1")
    tail_var_part_ratio: float | None = _vectors("variance of the participation ratio over the tail, ddof 0", "part_ratio.v1")
    tail_mean_ipr: float | None = _vectors(
        "inverse participation ratio, the sum of v^4: 1 for one element, 1/M for equal ones, mean over the tail", "ipr.v1"
    )
    tail_var_ipr: float | None = _vectors("variance of the inverse participation ratio over the tail, ddof 0", "ipr.v1")
    tail_mean_shannon: float | None = _vectors("entropy -sum v^2 ln v^2, mean over the tail", "shannon.v1", "nat")
    tail_var_shannon: float | None = _vectors(
        "variance of the entropy -sum v^2 ln v^2 over the tail, ddof 0", "shannon.v1", "nat^2"
    )
    pt_D: float | None = _vectors(
        "Kolmogorov-Smirnov distance of sqrt(M) v from the normal distribution, median over the bulk", "porter_thomas.v1"
    )
    pt_reject: float | None = _vectors(
        "share of the bulk whose distance noise has with a probability below 1 %", "porter_thomas.v1"
    )
    k_loc_elbow: int | None = _vectors(
        "leading eigenvectors before the elbow of the cumulative localization ratio; compare with n_tail", "k_loc_elbow.v1"
    )
