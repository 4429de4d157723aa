"""Definitions of the row's shape, of its elements, and of what all eigenvalues give: norms, ranks, entropies."""

from __future__ import annotations

from ww_static.definitions.entry import Definition

ELEMENTS = {
    "moments.v1": Definition(
        "of the stored elements that are finite, in one pass in float64, ddof 0: blocks are merged by their moments; `excess_kurtosis` = m4/m2^2 - 3",
        "Whether a tensor is sound. A large `excess_kurtosis` or `abs_max` says that single elements are huge, which gives a heavy tail of the ESD without any correlation.",
        source="[P]",
    ),
    "rank_sample.v1": Definition(
        "singular values above max(eps/4 norm_F, 64 2^-52 sigma_max) of the elements in rows floor(i n/64) and columns floor(j m/64), i, j = 0 ... 63; n the first axis, m all others, eps of the storage dtype",
        "A lower bound of the rank, which of a matrix of rank below 64 is that rank as a rule: collapse shows without a spectrum. Where most elements are zero the sample may miss the others.",
        "a side below 512; a sampled element is not finite",
    ),
    "geometry.v1": Definition(
        "N = max, M = min of the sides of one matrix, Q = N/M; `rf` matrices are pooled; `num_evals` = M rf, of an adapter at most r rf",
        "What noise of this shape would give: edges, `alpha_hill_null` and Tracy-Widom widths depend on N and M alone. The shape of a pooled row is that of one tap.",
    ),
    "floor.v1": Definition(
        "the table of [the numerical floor](#precision-the-numerical-floor)",
        "Which eigenvalues are noise of the computation. Nothing about the weights: another method has another floor.",
    ),
    "esd_units.v1": Definition(
        "eigenvalues = `esd_scale` x those of W^T W; divided by N where `esd_norm` is `1/N`",
        "Whether two rows may be compared: columns that depend on scale only where both agree.",
        source="[WW]",
    ),
    "lora.v1": Definition(
        "s = alpha/r, or alpha/sqrt(r) for rank-stabilized adapters",
        "The factor in s B A. Where alpha is not in the file it is 1 (`scale_unknown`), and columns that depend on scale compare with nothing.",
    ),
}  # fmt: skip

SPECTRUM = {
    "norm.v1": Definition(
        "sum lambda: a squared Frobenius norm",
        "Size, mostly of the initialization and of weight decay. It depends on `esd_scale` and `esd_norm`.",
        source="[WW]",
    ),
    "lambda_max.v1": Definition(
        "max lambda: a squared 2-norm",
        "The strongest direction. It does not say whether that direction is signal: compare with `tw_edge` and `max_rand_eval`.",
        source="[WW]",
    ),
    "log_norm.v1": Definition("log10 of `norm`", "As `norm`; it exists where `norm` leaves float64.", "`zero_matrix`", "[WW]"),
    "log_spectral_norm.v1": Definition(
        "log10 of `spectral_norm`", "As `spectral_norm`; it exists where that leaves float64.", "`zero_matrix`", "[WW]"
    ),
    "frob_norm.v1": Definition(
        "sqrt(sum sigma^2) of the stored weights: `esd_scale` and 1/N undone, all taps",
        "Size in the units of the weights, comparable between conventions.",
    ),
    "op_norm.v1": Definition(
        "max sigma of the stored weights", "Most that the matrix can stretch a vector, before any bias or non-linearity."
    ),
    "nuclear_norm.v1": Definition(
        "sum sigma of the stored weights", "Size that favours many small directions; large against `frob_norm` means full rank."
    ),
    "sv.v1": Definition(
        "sqrt of the largest and the smallest eigenvalue over all matrices of the row, `esd_scale` included, 1/N not",
        "The range of the singular values. A tiny `sv_min` says that the matrix is nearly singular, not why.",
        "`sv_min`: `below_spectral_floor`",
        "[WW]",
    ),
    "stable_rank.v1": Definition(
        "sum lambda / max lambda",
        "How many directions carry the norm, from 1 to m. One large eigenvalue lowers it whatever the others do; noise has m/(1 + Q^-1/2)^2.",
        "`zero_matrix`",
        "[MM]",
    ),
    "entropy.v1": Definition(
        "-sum p ln p / ln(rank + 1e-10), p = lambda/sum lambda + 1e-10, not renormalized; rank 1 gives 0",
        "How evenly the norm is spread, 1 for equal eigenvalues. Noise is high too: 0.946 for Q = 2, M = 100.",
        "`zero_matrix`, `below_spectral_floor`",
        "[WW]",
    ),
    "erank.roy2007.v1": Definition(
        "exp(-sum p ln p), p = sigma/sum sigma, 0 ln 0 = 0",
        "Effective number of directions, without a threshold. No rank: small singular values count a little each.",
        "`zero_matrix`",
        "[RV]",
    ),
    "erank_lambda.v1": Definition(
        "exp(-sum p ln p), p = lambda/sum lambda, 0 ln 0 = 0",
        "As `erank_sigma`, with more weight on the large ones.",
        "`zero_matrix`",
        "[RV], of lambda",
    ),
    "k_elbow.v1": Definition(
        "number of leading eigenvalues where the cumulative share of sum lambda is farthest from its chord",
        "A rank at which the gain flattens. Every concave curve has one, noise too.",
        "`zero_matrix`, `too_few_evals`",
    ),
    "k_gavish_donoho.v1": Definition(
        "#{sigma > omega(c) median sigma}, c = M/N, omega = 0.56 c^3 - 0.95 c^2 + 1.82 c + 1.43; one matrix per row only, and no s B A",
        "The rank to keep if the rest is white noise of unknown variance. Where it is not, the count means little.",
        "`not_applicable`",
        "[GD] eq. 5",
    ),
}  # fmt: skip

RANKS = {
    "matrix_rank.v1": Definition(
        "#{sigma > sigma_max N eps} over the pooled list of the row",
        "Exact deficiency in float64. A matrix of low rank that was stored in float32 or less has rounding noise above this and counts as full.",
        "`below_spectral_floor`",
        "[WW]",
    ),
    "rank_loss.v1": Definition(
        "M (for s B A: its r eigenvalues) minus the rank of each matrix against its own largest singular value, summed",
        "As `matrix_rank`: 0 does not exclude a collapse that storage has blurred.",
        "`below_spectral_floor`",
        "[WW]",
    ),
    "weak_rank_loss.v1": Definition(
        "#{lambda < 1e-6}",
        "Small eigenvalues on an absolute scale: it counts small weights as well as lost directions.",
        source="[WW]",
    ),
}  # fmt: skip

DETX = {
    "detx.setol.v1": Definition(
        "`detX_num` = `num_ERG_spikes`: the first k with sum of ln e over the k largest below 0, else m; `detX_val` = lambda_(k), "
        "`detX_val_unrescaled` = e_(k), the names being inverted in [WW]; `detX_frac` = detX_num/m",
        "The part of the ESD whose determinant is 1. It is a count for any ESD: Marchenko-Pastur noise has detX_frac 0.73 (Q = 1) to 0.87 (Q = 4).",
        "`too_few_evals`, `zero_matrix`, `constant_esd`, and with `--top-k` `truncated_spectrum` when k > K",
        "[SETOL], [WW]",
    ),
    "erg_gap.v1": Definition(
        "detX_num - num_pl_spikes",
        "Whether the two tails begin together. That alpha = 2 means a gap of 0 is a hypothesis: a pure power law of alpha = 2 has detX_frac 0.284.",
        "no fit; `too_few_evals`, `zero_matrix`, `constant_esd`, and `truncated_spectrum` where `detX_num` is null for it",
        "[SETOL]",
    ),
    "delta_lambda_min.v1": Definition(
        "(xmin - detX_val) m / sum lambda",
        "The same gap in eigenvalues of mean 1: positive when the power-law tail starts above the detX tail.",
        "no fit; `too_few_evals`, `zero_matrix`, `constant_esd`, and `truncated_spectrum` where `detX_num` is null for it",
        "[SETOL] 6.3",
    ),
}  # fmt: skip

ARRAYS = {
    "esd.v1": Definition("the eigenvalues, ascending, in ESD units", "Everything that the row was made from."),
    "explained.v1": Definition(
        "cumulative share of sum lambda, largest first", "How many directions carry which share of the norm.", "`zero_matrix`"
    ),
    "survival.v1": Definition(
        "(m - i)/m for each eigenvalue, ascending, i from 0",
        "On a power law a straight line in log-log axes, of slope -(alpha - 1). So looks much else, over a decade or less.",
        "`zero_matrix`",
    ),
    "histogram.v1": Definition(
        "100 equal bins: of lambda; of log10 of the positive lambda; of sqrt(lambda), as a density of integral 1",
        "The shape at one width of bins: the last bins of a heavy tail hold one eigenvalue each.",
        "`zero_matrix`, `constant_esd`",
    ),
    "kde.v1": Definition(
        "Gaussian kernel density of log10 lambda at 256 points, bandwidth sd m^(-1/5) (Scott)",
        "A smooth shape. It blurs an edge over a bandwidth.",
        "`zero_matrix`, `constant_esd`",
    ),
    "ks_curve.v1": Definition(
        "every candidate of F and its distance; at the winner exactly D",
        "Whether xmin is determined: a flat or ragged curve says it is not.",
        "no fit",
        "[CSN]",
    ),
}  # fmt: skip
