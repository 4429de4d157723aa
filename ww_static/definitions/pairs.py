"""Definitions of what two checkpoints are compared by."""

from __future__ import annotations

from ww_static.definitions.entry import Definition

_SPACES = "`too_few_evals` (M < 10), `degenerate` (the ten leading values are not apart from the next, or zero), `not_applicable` (pooled taps)"

PAIRS = {
    "delta_norm.v1": Definition(
        "norm_F(Wb - Wa), summed over all taps; rel: over norm_F(Wa)",
        "How far the weights moved. Small steps in every element and one large change give the same norm: look at `delta_stable_rank`.",
        "`zero_matrix` (rel)",
        "standard",
    ),
    "delta_spectral.v1": Definition(
        "norm_2(dW), the largest over the taps; stable rank: norm_F(dW)^2/norm_2(dW)^2; error: over norm_2(Wa)",
        "The stable rank is about r for an update of rank r, about M/4 and more for rounding. norm_2(dW) is exact to 1e-7 of itself.",
        "`zero_delta` (stable rank), `zero_matrix` (error)",
        "standard",
    ),
    "cosine.v1": Definition(
        "sum(Wa Wb)/(norm_F(Wa) norm_F(Wb))", "1 for a matrix scaled, 0 for an unrelated one.", "`zero_matrix`", "standard"
    ),
    "change.v1": Definition(
        "the column of the new tensor less that of the old one",
        "Its size says little without the spread of the column: see `alpha_z`.",
        "the reason of the side that is null; `not_applicable` (another esd_norm or esd_scale)",
        "as the column",
    ),
    "alpha_z.v1": Definition(
        "d_alpha/sqrt(alpha_sigma_boot_a^2 + alpha_sigma_boot_b^2)",
        "How many standard deviations alpha moved. The two are taken for independent; fits of nearly the same weights are not, so it is cautious.",
        "either is null; `zero_spread`",
        "[E]",
    ),
    "spectral_w1.v1": Definition(
        "mean abs(lambda_a,(i) - lambda_b,(i))/mean lambda_a, sorted eigenvalues",
        "How far the ESD moved, whatever the vectors did.",
        "`zero_matrix`",
        "Wasserstein-1 distance of two samples",
    ),
    "spectral_l2_rel.v1": Definition(
        "norm_2(sigma_a - sigma_b)/norm_2(sigma_a), sorted singular values",
        "Never more than `rel_delta`. Where it is much less, the weights turned rather than grew.",
        "`zero_matrix`",
        "Mirsky 1960",
    ),
    "overlap.v1": Definition(
        "norm_F(Ua^T Ub)^2/k, k = 10 leading singular vectors; l: of the first axis as stored, r: of the second",
        "1 when the leading space is the same, k/d (d elements) when it is unrelated.",
        _SPACES,
        "mean cos^2 of principal angles",
    ),
    "agreement.v1": Definition(
        "mean of the diagonal, and mean over the rows of the largest, of abs(Ua^T Ub), k = 10",
        "Whether single vectors kept their places. Unrelated ones: about 1/sqrt(d) and sqrt(2 ln(k)/d). Vectors of nearly equal values turn into each other freely.",
        _SPACES,
        "diffract",
    ),
    "max_angle.v1": Definition(
        "the largest principal angle between the leading spaces of k = 10, the larger one of both sides",
        "One of ten vectors that was replaced makes it pi/2.",
        _SPACES,
        "standard",
    ),
    "intruders.v1": Definition(
        "of the 10 leading left vectors of b, those with max_j abs(cos(u_b, u_a,j)) < 0.5 over all left vectors of a",
        "Directions that a fine-tune put at the top: typical of adapters of low rank, rare in full fine-tunes.",
        _SPACES,
        "arXiv 2410.21228",
    ),
    "cka.v1": Definition(
        "norm_F(Wa^T Wb)/sqrt(norm_F(Wa^T Wa) norm_F(Wb Wb^T)); linear: its square; centered: its square after the mean of every column (over the first axis) is subtracted",
        "1 for equal matrices and for rotated second axes. Uncentered, weights with a common mean look alike.",
        "`zero_matrix`, `degenerate` (centering leaves nothing), `not_applicable` (pooled taps)",
        "[WW]; Kornblith et al. 2019",
    ),
    "sqnr.v1": Definition(
        "10 log10(norm_F(Wa)^2/norm_F(dW)^2)",
        "Of rounding to bfloat16 about 55.6, float16 73.6, three bits of mantissa 31.5 for Gaussian weights; of integers with a step 10 log10(12 mean(W^2)/step^2).",
        "`zero_delta`, `zero_matrix`",
        "standard",
    ),
    "quant_floor.v1": Definition(
        "(N - r) s^2 (1 -+ sqrt((M - r)/(N - r)))^2 esd_scale, s^2 = mean step^2/12 of b, r = rank of Wa",
        "Rounding fills the null space of Wa with eigenvalues between the two; smaller structure of b is noise.",
        "`steps_unknown` (b is not quantized), `not_applicable` (full rank, or pooled taps), `below_spectral_floor`",
        "[MP]",
    ),
    "dw_align.v1": Definition(
        "norm_F(Uk^T dW Vk)/norm_F(dW), k = 10 leading vectors of Wa",
        "Near 1 when an update lives in the leading space of the weights, about k/sqrt(N M) when it ignores it.",
        "`zero_delta`; " + _SPACES,
        "Hu et al. 2021 (LoRA), section 7.3",
    ),
}
