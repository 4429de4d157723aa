"""Definitions of the power-law fit, its variants, its uncertainty, and of the laws that compete with it."""

from __future__ import annotations

from ww_static.definitions.entry import Definition

FIT = {
    "alpha.csn.v1": Definition(
        "the winner of [F](#the-fit-procedure-f): maximum-likelihood exponent, start of the tail, one-sided distance",
        "How fast the tail falls, if it is a power law. A fit always returns a number: Gaussian noise gets 2 to 6 in 35 to 70 % of draws with M from 100 to 300. Ask `gof_p`, `num_spikes` and `tail_frac` first.",
        "no fit",
        "[CSN] eq. 3.1, 3.9; [WW]",
    ),
    "cutoff.v1": Definition(
        "`--fit TPL` and `E_TPL`: alpha = b, `Lambda` = L of x^-b exp(-L x), [as below](#a-law-with-a-cut-off); `fit_kind` says which law the row has",
        "Whether alpha belongs to a power law at all: with Lambda above 0 the tail ends, and alpha is the slope before it does. Numbers of different `fit_kind` do not compare.",
        "no fit; `Lambda`: `not_applicable` (a power law), `tail_too_short`",
        "[CSN] table 2.1, [WW]",
    ),
    "xmax.v1": Definition(
        "largest eigenvalue that was fitted; it is not used in the fit", "Where the data end. The fitted law has no end.", "no fit", "[WW]"
    ),
    "sigma.v1": Definition(
        "(alpha - 1)/sqrt(k), k = size of the fitted tail, no bias correction",
        "The spread of alpha at a known xmin. Null for a law with a cut-off. It is 1.2 to 1.6 times too small on perfect data, about 3 times when the tail is no power law: use `alpha_ci_lo` and `alpha_ci_hi`.",
        "no fit; `not_applicable`",
        "[CSN] eq. 3.2, [WW]",
    ),
    "alpha_error.v1": Definition(
        "2 (alpha - 1)^2 spectral_floor/xmin",
        "What rounding can do to alpha while the tail stays the same. Nothing about sampling error, which is far larger.",
        "no fit; `not_applicable`",
    ),
    "n_tail.v1": Definition(
        "#{lambda >= xmin}", "How many values alpha rests on. Below 50 little can be said (`tail_lt_50`).", "no fit", "[WW]"
    ),
    "tail_frac.v1": Definition(
        "n_tail/m", "Whether the tail is most of the ESD or a few values at its end.", "no fit"
    ),
    "n_fit.v1": Definition(
        "eigenvalues above the fit cut of 1e-5, less those that `--xmax -k` leaves out at the top; eigenvalues that are not above the cut",
        "Whether the absolute cut removed part of the ESD, which then depends on the scale of the weights.",
        source="[WW]",
    ),
    "alpha_weighted.v1": Definition(
        "alpha log10 lambda_max, also called alpha-hat",
        "Shape and size in one number: it changes sign with the normalization, so compare only rows of one `esd_norm` and `esd_scale`.",
        "no fit",
        "[MM]",
    ),
    "log_alpha_norm.v1": Definition(
        "log10 sum lambda^alpha, as alpha log10 lambda_max + log10 sum (lambda/lambda_max)^alpha",
        "As `alpha_weighted`, of all eigenvalues.",
        "no fit",
        "[MM]",
    ),
    "warning.v1": Definition(
        "`over-trained` if alpha < 2, `under-trained` if alpha > 6, else empty",
        "Nothing by itself: it repeats weightwatcher's words for comparison, and is no verdict.",
        "no fit",
        "[WW]",
    ),
}  # fmt: skip

TAIL = {
    "D_two_sided.v1": Definition(
        "max_j of F_j - j/k and (j + 1)/k - F_j at alpha and xmin",
        "The standard distance of the fit that weightwatcher's one-sided distance has chosen.",
        "no fit",
        "[CSN] eq. 3.9",
    ),
    "local_minima.v1": Definition(
        "candidates whose D is below those of their neighbours and within 10 % of the smallest: their number, and largest less smallest of their alphas",
        "Whether several tails fit nearly as well. A range above 0.5 is `degenerate_xmin`: alpha is then a choice.",
        "no fit",
        "[SETOL] 2.1",
    ),
    "alpha_xmax.v1": Definition(
        "maximum likelihood for p = (a - 1)/(xmin^(1-a) - xmax^(1-a)) x^-a on [xmin, xmax], a in (0, 20]",
        "What alpha is if the law ends at the largest eigenvalue. Below `alpha` on short tails; equal on long ones.",
        "no fit; `alpha_at_bound`",
    ),
    "alpha_drop_top.v1": Definition(
        "alpha of F without the 1, 2, 5, 10 largest values; null where fewer than 8 or twice as many as were left out remain",
        "Whether a few eigenvalues decide alpha (`fingers` where it moves by more than 1). A sensitivity, no repair.",
        "no fit",
        "[WW], as fingers",
    ),
    "alpha_hill.v1": Definition(
        "`alpha_hill` = 1 + (m - i)/sum_(j >= i) ln(lambda_j/lambda_i), i = floor(m/2), of all eigenvalues ascending; `alpha_hill_null` = "
        "1 + 0.5/(integral of ln(x/median) over the upper half of the Marchenko-Pastur law of this Q); `alpha_hill_excess` = their difference",
        "A shape of the upper half that needs no xmin, so it moves smoothly between checkpoints. A tail index only where that half is a power law; it rises with Q even for noise (2.12 for Q = 1, 4.47 for Q = 8), which the excess removes.",
        "`zero_matrix`, `below_spectral_floor`, `constant_esd`, `not_applicable`",
        "[TB]",
    ),
    "alpha_farms.v1": Definition(
        "`alpha_hill` of the pooled eigenvalues of windows of 2 m0 rows (N side) and m0 columns, m0 = min(100, M, floor(N/2)), "
        "up to 10 x 10 evenly spaced places in every matrix of the row",
        "As `alpha_hill`, comparable between shapes: noise has 2.70 whatever they are. It sees correlations inside a window only.",
        "`too_few_evals` (M < 20), `not_applicable`, `not_converged`, `zero_matrix`, `below_spectral_floor`, `constant_esd`",
        "[FARMS]",
    ),
}  # fmt: skip

REPLICAS = {
    "bootstrap.v1": Definition(
        "of alpha over 200 samples drawn with replacement from the n fitted eigenvalues, xmin selected anew: standard deviation (ddof 1), 2.5th and 97.5th percentile",
        "How sure alpha is, the choice of xmin included: on known laws the interval covered in 0.93 to 0.98 of samples. Not whether the tail is a power law.",
        "no fit",
        "[E]",
    ),
    "gof.csn.v1": Definition(
        "the fit F with the two-sided distance and tails of at least 50 values (`alpha_gof`, `xmin_gof`, `D_gof`, `n_tail_gof`); `gof_p` = share of "
        "`gof_B` = 100 samples of the fitted law with a distance of at least `D_gof`",
        "Below 0.1 the tail is no power law. Above it nothing is proved: half of exponential samples pass.",
        "no fit; `too_few_evals` (n < 100)",
        "[CSN] section 4",
    ),
}  # fmt: skip

LAWS = {
    "exponential.v1": Definition(
        "L exp(-L (x - xmin)): `exp_rate` = L = 1/(mean - xmin)",
        "The tail if it had no memory. Its fit is a number for any tail; `R_exp` compares.",
        "no fit; `tail_too_short`",
        "[CSN] table 2.1",
    ),
    "lognormal.v1": Definition(
        "N(ln x; mu, s)/(x P(X >= xmin)): `ln_mu`, `ln_s`",
        "The tail if logarithms were normal. Up to 1000 values it can hardly be told from a power law.",
        "no fit; `tail_too_short`, `alpha_at_bound`",
        "[CSN] table 2.1",
    ),
    "stretched_exponential.v1": Definition(
        "b L x^(b-1) exp(L xmin^b - L x^b), b in (0, 5]: `sexp_b`, `sexp_rate` = L",
        "The tail between power law (b -> 0) and exponential (b = 1).",
        "no fit; `tail_too_short`, `alpha_at_bound`",
        "[CSN] table 2.1",
    ),
    "tpl.v1": Definition(
        "x^-b exp(-L x), normalized, b in [0, 20], L >= 0: `tpl_alpha` = b, `tpl_Lambda` = L",
        "Whether the power law ends within the data: Lambda = 0 says it does not. b alone is no tail index where L is not 0.",
        "no fit; `tail_too_short`",
        "[CSN] table 2.1",
    ),
    "etpl.v1": Definition(
        "the law with a cut-off from the eigenvalue in [0.95, 1.5] times the peak of the ESD that gives the smallest two-sided distance; "
        "the peak is the left edge of the fullest of 100 bins of log10 lambda",
        "The same for the whole ESD beyond its peak, so for the bulk as well as the tail.",
        "no fit; `tail_too_short`",
        "[WW], really fitted",
    ),
    "vuong.v1": Definition(
        "R = sum(l_PL - l_alt)/(sqrt(k) sd), sd with ddof 0; p = erfc(abs(R)/sqrt 2). **R > 0 favours the power law, R < 0 the other**",
        "Which of two laws is better, not whether either is right. With p above 0.1 they cannot be told apart.",
        "no fit; `tail_too_short`, `alpha_at_bound`",
        "[V], [CSN] section 5",
    ),
    "nested_ratio.v1": Definition(
        "`R_tpl` = sum(l_PL - l_TPL) <= 0; `p_tpl` = chi-square tail of 2 abs(R_tpl), one degree of freedom",
        "Whether a cut-off improves the fit more than one more parameter would by chance.",
        "no fit; `tail_too_short`",
        "[CSN] section 5",
    ),
    "best_fit.v1": Definition(
        "of the laws with R < 0 and p < 0.1 the one of the largest likelihood; without one, `none` if gof_p < 0.1, `power_law` if R > 0 and p < 0.1 against some law, else `undecided`",
        "The best of five laws for this tail. It is a choice among these, and `power_law` is not yet a test: read `gof_p`.",
        "no fit; `tail_too_short`",
    ),
}  # fmt: skip

CROSSCHECK = {
    "crosscheck.v1": Definition(
        "alpha, xmin and D of `powerlaw.Fit` on the same eigenvalues, alpha from 1 on; `crosscheck_difference` = its alpha less that of F",
        "Whether two programs agree on the same convention: the difference is rounding, 1e-12 or less, but where several candidates tie or values are equal. Not whether either is right.",
        "no fit; `fit_failed`, `memory_limit`",
        "[CSN], powerlaw 2",
    ),
}  # fmt: skip
