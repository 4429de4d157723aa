"""Definitions of what compares a spectrum with noise: the Marchenko-Pastur bulk, spikes, permuted copies."""

from __future__ import annotations

from ww_static.definitions.entry import Definition

BULK = {
    "W_scale.v1": Definition(
        "sqrt(m/sum lambda)", "The factor on W that makes the mean eigenvalue 1: a size.", "`zero_matrix`", "[WW]"
    ),
    "sigma_mp.ww.v1": Definition(
        "weightwatcher's fit (above): `sigma_mp` for mean eigenvalue 1, `bulk_min`, `bulk_max` = (sigma_mp (1 -+ Q^-1/2))^2/W_scale^2; of permuted copies the median",
        "Where a bulk would lie. It follows the mode of a smoothed density, so a heavy tail pulls it; `mp_sigma2` is not pulled. At 0.05 s0 the fit has failed.",
        "`fit_failed`, `zero_matrix`, `not_applicable`",
        "[WW]",
    ),
    "mp_softrank.v1": Definition(
        "bulk_max/lambda_max",
        "1 for noise, small where something stands far out of the fitted bulk; it inherits the weakness of that fit.",
        "`fit_failed`, `zero_matrix`, `not_applicable`",
        "[MM], [WW]",
    ),
    "mp_sigma2.v1": Definition(
        "median over 26 levels of quantile_q(lambda)/(N x_q) (above); `mp_shape_spread` = max/min - 1 of the 26 ratios",
        "The variance of the elements if the lower part of the ESD is noise. The spread says whether it is: 0.02 to 0.16 for noise.",
        "`too_few_evals`, `zero_matrix`, `not_applicable`",
        "[MP]",
    ),
    "mp_edge.v1": Definition(
        "N mp_sigma2 (1 -+ sqrt c)^2",
        "Where noise of that variance ends in the limit. A finite matrix reaches a little further: `tw_edge`.",
        "`too_few_evals`, `zero_matrix`, `not_applicable`",
        "[MP]",
    ),
    "tw_edge.v1": Definition(
        "mp_sigma2 (mu + 2.0234 tau), mu = (sqrt(N - 1/2) + sqrt(m' - 1/2))^2, tau = sqrt(mu) (1/sqrt(N - 1/2) + 1/sqrt(m' - 1/2))^(1/3)",
        "What noise exceeds in 1 % of matrices. It holds for independent elements with finite fourth moment: single huge elements pass it without correlation.",
        "`too_few_evals`, `zero_matrix`, `not_applicable`",
        "[J], [Ma]",
    ),
    "tw_p.v1": Definition(
        "P(TW_1 > (lambda_max/mp_sigma2 - mu)/tau), mu and tau as for `tw_edge`; over rf matrices 1 - (1 - p)^rf; the law as a shifted gamma law",
        "Uniform for noise, about 0 for a trained matrix: a large one says that the largest eigenvalue tells it from no initialization. It looks at nothing but the largest eigenvalue, and one huge element makes it 0. Elements without tails (uniform ones) make it larger, by up to 0.2 in the middle.",
        "`too_few_evals`, `zero_matrix`, `not_applicable`",
        "[J], [Ma], Chiani 2014",
    ),
    "num_spikes.v1": Definition(
        "#{lambda > tw_edge}",
        "Directions that noise does not explain. A weak signal, below t = Q^-1/4, has no spike and is not seen.",
        "`too_few_evals`, `zero_matrix`, `not_applicable`",
        "[BBP]",
    ),
    "frac_out.v1": Definition(
        "share of the eigenvalues, and of their sum, above the same edge for 0.1 % (3.2724)",
        "How much of the ESD is no noise: few spikes, or a tail.",
        "`too_few_evals`, `zero_matrix`, `not_applicable`",
        "[J], [Ma]",
    ),
    "D_bulk.v1": Definition(
        "max abs(F(lambda_i) - (i - 1/2)/count) of the eigenvalues below that edge, F the law cut off there",
        "Whether the rest is a Marchenko-Pastur bulk. Small for noise and for a bulk under spikes; a trained matrix with a large value has no such bulk.",
        "`too_few_evals`, `zero_matrix`, `not_applicable`",
        "[MP]",
    ),
    "spike_theta.v1": Definition(
        "per spike, largest first: the larger root t of lambda/(N mp_sigma2) = (1 + t^2)(c + t^2)/t^2; overlaps 1 - c(1 + t^2)/(t^2(t^2 + c)) on the M side, 1 - (c + t^2)/(t^2(t^2 + 1)) on the N side",
        "The strength before noise was added, and how far the observed vectors can be trusted. Meant for few spikes over noise, not for a heavy tail.",
        "`no_spikes`, `too_few_evals`, `zero_matrix`, `not_applicable`",
        "[BBP], [BN]",
    ),
    "level_spacing_r.v1": Definition(
        "mean min/max of neighbouring spacings over the middle half",
        "Whether neighbouring eigenvalues repel: 0.5307 for noise, 0.3863 for unrelated levels. Trained matrices keep the value of noise, so it shows little of training.",
        "`too_few_evals` (m < 50), `constant_esd`, `not_applicable`",
        "[A]",
    ),
}  # fmt: skip

RANDOM = {
    "replicas.v1": Definition(
        "R = 5 for N M <= 2^22, 3 up to 2^24, else 1", "How many copies the numbers beside it rest on.", "`zero_matrix`, `not_applicable`"
    ),
    "max_rand_eval.v1": Definition(
        "largest eigenvalue of a permuted copy: mean and standard deviation (ddof 1) over the R",
        "What the elements give without their arrangement. Huge elements raise it, as they raise lambda_max.",
        "`one_replica`, `zero_matrix`, `not_applicable`, `memory_limit`, `not_converged`",
        "[WW]",
    ),
    "ww_softrank.v1": Definition(
        "max_rand_eval/lambda_max",
        "Below 1 as far as correlations carry the top of the ESD; near 1 for noise.",
        "`zero_matrix`, `not_applicable`, `memory_limit`, `not_converged`",
        "[WW]",
    ),
    "ww_maxdist.v1": Definition(
        "lambda_max - max_rand_eval",
        "The same difference in ESD units.",
        "`zero_matrix`, `not_applicable`, `memory_limit`, `not_converged`",
        "[WW]",
    ),
    "rand_distance.ww.v1": Definition(
        "sqrt((KL(p, m) + KL(q, m))/2) of the two sorted lists p, q of eigenvalues, each divided by its sum, m = (p + q)/2: mean, and sd over copies with all eigenvalues",
        "How far training moved the ESD from that of its elements. A divergence of two sorted lists, not of two densities: `rand_jsd` is that.",
        "`one_replica`, `zero_matrix`, `not_applicable`, `memory_limit`, `not_converged`",
        "[WW]",
    ),
    "rand_jsd.v1": Definition(
        "the same of two densities: shares in 100 common bins of log10 lambda, what is at or below the floor left out; in [0, sqrt(ln 2)]",
        "As `rand_distance`, free of scale. With few eigenvalues the bins alone give a distance.",
        "`one_replica`, `zero_matrix`, `constant_esd`, `not_applicable`, `memory_limit`, `not_converged`",
    ),
    "w1_rand_distance.v1": Definition(
        "mean abs(lambda_(i) - lambda_rand,(i)) / mean lambda",
        "How much eigenvalue mass moved how far; the largest eigenvalues rule it.",
        "`one_replica`, `zero_matrix`, `not_applicable`, `memory_limit`, `not_converged`",
    ),
    "num_traps.v1": Definition(
        "eigenvalues of a permuted copy above its tw_edge, median, fewest and most over the R; `num_traps_demeaned` after the mean of each matrix is subtracted",
        "Elements that stand out without any arrangement: a mean that is not zero, or single huge elements. Under pure noise one matrix in a hundred shows one.",
        "`zero_matrix`, `too_few_evals`, `not_applicable`, `memory_limit`, `not_converged`",
        "[WW], other edge",
    ),
    "trap_ratio.v1": Definition(
        "largest eigenvalue of a permuted copy over its mp_edge_hi, median",
        "How far the worst trap stands out; noise lies a little around 1.",
        "`zero_matrix`, `too_few_evals`, `not_applicable`, `memory_limit`, `not_converged`",
    ),
}  # fmt: skip
