"""The rows of the result: every column's name, type, unit and meaning, once. Arrow types, Parquet metadata, the JSON
Schema and the column page of the docs are generated from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = "1"
DEFINITIONS_VERSION = "1"

Curve = Sequence[float]  # an array.array of doubles: a tuple of Python floats would take four times the memory


def column(meaning: str, unit: str = "", definition: str = "", group: str = "identity") -> Any:
    """A nullable column: one line of meaning, a unit, the id of its formula, and the metric group it belongs to."""
    return field(
        default=None, metadata={"doc": meaning, "unit": unit, "definition": definition, "group": group, "since": "0.1"}
    )


def _metric(meaning: str, definition: str, unit: str = "1") -> Any:
    return column(meaning, unit, definition, "default")


def _random(meaning: str, definition: str, unit: str = "1") -> Any:
    return column(meaning, unit, definition, "randomize")


def _tail(meaning: str, definition: str, unit: str = "1") -> Any:
    return column(meaning, unit, definition, "tail")


def _law(meaning: str, definition: str, unit: str = "1") -> Any:
    return column(meaning, unit, definition, "alternatives")


def _boot(meaning: str, definition: str, unit: str = "1") -> Any:
    return column(meaning, unit, definition, "bootstrap")


def _gof(meaning: str, definition: str, unit: str = "1") -> Any:
    return column(meaning, unit, definition, "gof")


def _curve(meaning: str, unit: str = "1") -> Any:
    return column(meaning, unit, "", "esd")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One row per view of a tensor: a matrix, the pooled taps of a convolution, a part, a skipped tensor, or a file
    that could not be read (status error)."""

    model_id: str | None = column("name of the model: the file name without shard and format suffixes")
    file: str | None = column("file or shard that holds the tensor, relative to what was named")
    name: str | None = column("scoped tensor name, verbatim")
    part: str | None = column(
        "null for the tensor itself, whole beside its parts, else q, k, v, gate_i, tap_0_1, expert_7, delta ..."
    )
    slice_id: int | None = column("order of the parts")
    kind: str | None = column("what the tensor is: dense, attention, embedding, conv2d, norm, buffer ...")
    kind_source: str | None = column("evidence for the kind: graph, file, config, name or shape")
    confidence: str | None = column("how sure the kind is: high, medium or low")
    orientation: str | None = column("what the axes are (out,in  in,out  OIHW  HWIO ...), or ambiguous")
    op_path: str | None = column(
        "path of the graph operator that uses the tensor, for formats with a graph; the user's name of the layer, in Keras 3"
    )
    layer_type: str | None = column(
        "weightwatcher's word: dense, conv1d, conv2d, embedding; ours adds conv3d, recurrent, expert, lora_delta, other"
    )
    shape: tuple[int, ...] | None = column("elements along each axis")
    numel: int | None = column("elements", "1")
    dtype: str | None = column("storage dtype, as safetensors spells it")
    quantized: bool | None = column("the tensor holds codes that need a scale")
    status: str | None = column("success, failed, skipped or error")
    reason: str | None = column("why the tensor was not analysed, or why its row has no fit")
    category: str | None = column("status error: category of the refusal")
    message: str | None = column("status error: what is wrong with the file; memory_limit: bytes that are needed")
    N: int | None = column("longer side of one matrix", "1")
    M: int | None = column("shorter side of one matrix", "1")
    Q: float | None = column("aspect ratio N/M, at least 1", "1")
    rf: int | None = column("matrices whose eigenvalues are pooled in the row (kernel taps)", "1")
    num_evals: int | None = column(
        "eigenvalues of the row, M rf; of an adapter of rank r at most r rf, the others are exactly 0", "1"
    )
    has_esd: bool | None = column("whether the row has eigenvalues")
    mean: float | None = column("mean of the finite elements of the stored tensor", "weight")
    std: float | None = column("standard deviation of the finite elements, ddof 0", "weight")
    min: float | None = column("smallest finite element", "weight")
    max: float | None = column("largest finite element", "weight")
    abs_max: float | None = column("largest absolute value among the finite elements", "weight")
    zero_fraction: float | None = column("share of elements that are exactly zero", "1")
    n_nan: int | None = column("elements that are not a number", "1")
    n_inf: int | None = column("elements that are infinite", "1")
    excess_kurtosis: float | None = column("m4/m2^2 - 3 of the finite elements, 0 for a Gaussian", "1")

    norm: float | None = _metric("sum of eigenvalues: squared Frobenius norm in ESD units", "norm.v1", "weight^2")
    spectral_norm: float | None = _metric("largest eigenvalue: squared 2-norm in ESD units", "lambda_max.v1", "weight^2")
    lambda_max: float | None = _metric("largest eigenvalue", "lambda_max.v1", "weight^2")
    log_norm: float | None = _metric("log10 of norm", "log_norm.v1")
    log_spectral_norm: float | None = _metric("log10 of spectral_norm", "log_spectral_norm.v1")
    frob_norm: float | None = _metric("Frobenius norm of the stored weights, all taps", "frob_norm.v1", "weight")
    op_norm: float | None = _metric("largest singular value of the stored weights", "op_norm.v1", "weight")
    nuclear_norm: float | None = _metric("sum of singular values of the stored weights", "nuclear_norm.v1", "weight")
    sv_max: float | None = _metric("largest singular value, with the scale of the ESD", "sv.v1", "weight")
    sv_min: float | None = _metric("smallest singular value over the matrices, with the scale of the ESD", "sv.v1", "weight")
    stable_rank: float | None = _metric("norm / spectral_norm", "stable_rank.v1")
    matrix_rank: int | None = _metric("singular values above sigma_max N 2^-52, over the pooled list", "matrix_rank.v1")
    rank_loss: int | None = _metric(
        "M minus the rank, summed over the matrices; of an adapter num_evals minus the rank", "rank_loss.v1"
    )
    weak_rank_loss: int | None = _metric("eigenvalues below 1e-6", "weak_rank_loss.v1")
    entropy: float | None = _metric("-sum p ln p / ln rank with p = lambda/sum + 1e-10", "entropy.v1")
    erank_sigma: float | None = _metric("effective rank exp(-sum p ln p) of p = sigma/sum sigma", "erank.roy2007.v1")
    erank_lambda: float | None = _metric("effective rank exp(-sum p ln p) of p = lambda/sum lambda", "erank_lambda.v1")
    k_elbow: int | None = _metric("leading eigenvalues before the elbow of the explained share", "k_elbow.v1")
    k_gavish_donoho: int | None = _metric("singular values above the Gavish-Donoho threshold", "k_gavish_donoho.v1")

    alpha: float | None = _metric("power-law exponent of the tail of the ESD", "alpha.csn.v1")
    xmin: float | None = _metric("smallest eigenvalue of the tail", "alpha.csn.v1", "weight^2")
    xmax: float | None = _metric("largest eigenvalue that was fitted", "xmax.v1", "weight^2")
    D: float | None = _metric("one-sided Kolmogorov-Smirnov distance of tail and fit", "alpha.csn.v1")
    sigma: float | None = _metric("(alpha - 1)/sqrt(tail size): understates the spread", "sigma.v1")
    alpha_error: float | None = _metric(
        "most that numerical errors up to spectral_floor can change alpha, the tail being the same", "alpha_error.v1"
    )
    num_pl_spikes: int | None = _metric("eigenvalues at or above xmin", "n_tail.v1")
    n_tail: int | None = _metric("eigenvalues at or above xmin", "n_tail.v1")
    tail_frac: float | None = _metric("n_tail / num_evals", "tail_frac.v1")
    n_fit: int | None = _metric("eigenvalues above the fit cut of 1e-5", "n_fit.v1")
    n_below_cut: int | None = _metric(
        "eigenvalues that are not fitted: at or below the cut, or below the numerical floor of an SVD", "n_fit.v1"
    )
    alpha_weighted: float | None = _metric("alpha log10 lambda_max, also called alpha-hat", "alpha_weighted.v1")
    log_alpha_norm: float | None = _metric("log10 of the sum of lambda^alpha", "log_alpha_norm.v1")
    warning: str | None = _metric("weightwatcher's label from alpha alone; no verdict", "warning.v1")

    detX_num: int | None = _metric("eigenvalues in the effective correlation space", "detx.setol.v1")
    num_ERG_spikes: int | None = _metric("the same as detX_num", "detx.setol.v1")
    detX_val: float | None = _metric("smallest eigenvalue of that space, in ESD units", "detx.setol.v1", "weight^2")
    detX_val_unrescaled: float | None = _metric("the same rescaled to mean 1 (weightwatcher's name)", "detx.setol.v1")
    detX_frac: float | None = _metric("detX_num / num_evals", "detx.setol.v1")
    ERG_gap: int | None = _metric("detX_num - num_pl_spikes", "erg_gap.v1")
    delta_lambda_min: float | None = _metric("(xmin - detX_val), rescaled to mean 1", "delta_lambda_min.v1")

    W_scale: float | None = _metric("factor on W that makes the mean eigenvalue 1", "W_scale.v1", "1/weight")
    sigma_mp: float | None = _metric(
        "standard deviation of the Marchenko-Pastur law that fits the density, mean eigenvalue 1", "sigma_mp.ww.v1"
    )
    bulk_min: float | None = _metric("lower edge of that law", "sigma_mp.ww.v1", "weight^2")
    bulk_max: float | None = _metric("upper edge of that law", "sigma_mp.ww.v1", "weight^2")
    mp_softrank: float | None = _metric("bulk_max / lambda_max", "mp_softrank.v1")
    mp_sigma2: float | None = _metric(
        "variance of the elements whose Marchenko-Pastur law has the lower quantiles of the ESD", "mp_sigma2.v1", "weight^2"
    )
    mp_shape_spread: float | None = _metric("how much that variance differs between quantiles, max/min - 1", "mp_sigma2.v1")
    mp_edge_lo: float | None = _metric("lower Marchenko-Pastur edge of that variance", "mp_edge.v1", "weight^2")
    mp_edge_hi: float | None = _metric("upper Marchenko-Pastur edge of that variance", "mp_edge.v1", "weight^2")
    tw_edge: float | None = _metric(
        "Tracy-Widom edge: noise has an eigenvalue above it with a probability of 1 %", "tw_edge.v1", "weight^2"
    )
    num_spikes: int | None = _metric("eigenvalues above tw_edge", "num_spikes.v1")
    frac_out: float | None = _metric("share of the eigenvalues above the Tracy-Widom edge of 0.1 %", "frac_out.v1")
    mass_out: float | None = _metric("share of the sum of eigenvalues above the Tracy-Widom edge of 0.1 %", "frac_out.v1")
    D_bulk: float | None = _metric(
        "two-sided Kolmogorov-Smirnov distance of the rest and the Marchenko-Pastur law", "D_bulk.v1"
    )
    spike_theta: Curve | None = _metric(
        "singular value that made each spike, in units of sqrt(N mp_sigma2), largest first", "spike_theta.v1"
    )
    spike_overlap_M: Curve | None = _metric(
        "squared cosine between the vector of length M of each spike and of what made it", "spike_theta.v1"
    )
    spike_overlap_N: Curve | None = _metric("the same of the vectors of length N", "spike_theta.v1")
    level_spacing_r: float | None = _metric(
        "mean ratio of neighbouring spacings: 0.5307 for noise, 0.3863 for unrelated values", "level_spacing_r.v1"
    )

    rand_replicas: int | None = _random("permuted copies of the row's matrices", "replicas.v1")
    max_rand_eval: float | None = _random("largest eigenvalue of a permuted copy, mean", "max_rand_eval.v1", "weight^2")
    max_rand_eval_sd: float | None = _random("standard deviation of it, ddof 1", "max_rand_eval.v1", "weight^2")
    ww_softrank: float | None = _random("max_rand_eval / lambda_max", "ww_softrank.v1")
    ww_maxdist: float | None = _random("lambda_max - max_rand_eval", "ww_maxdist.v1", "weight^2")
    rand_distance: float | None = _random(
        "divergence of the sorted eigenvalues from those of the permuted copy, mean (weightwatcher's)", "rand_distance.ww.v1"
    )
    rand_distance_sd: float | None = _random("standard deviation of it, ddof 1", "rand_distance.ww.v1")
    rand_jsd: float | None = _random(
        "root of the Jensen-Shannon divergence of the densities of log10 lambda, mean", "rand_jsd.v1"
    )
    rand_jsd_sd: float | None = _random("standard deviation of it, ddof 1", "rand_jsd.v1")
    w1_rand_distance: float | None = _random(
        "Wasserstein-1 distance of the two ESDs over mean lambda, mean", "w1_rand_distance.v1"
    )
    w1_rand_distance_sd: float | None = _random("standard deviation of it, ddof 1", "w1_rand_distance.v1")
    rand_sigma_mp: float | None = _random("sigma_mp of the permuted copy, median", "sigma_mp.ww.v1")
    rand_mp_softrank: float | None = _random("mp_softrank of the permuted copy, median", "mp_softrank.v1")
    rand_W_scale: float | None = _random("W_scale of the permuted copy, median", "W_scale.v1", "1/weight")
    rand_bulk_max: float | None = _random("bulk_max of the permuted copy, median", "sigma_mp.ww.v1", "weight^2")
    rand_bulk_min: float | None = _random("bulk_min of the permuted copy, median", "sigma_mp.ww.v1", "weight^2")
    rand_num_spikes: int | None = _random("the same as num_traps", "num_traps.v1")
    num_traps: int | None = _random("eigenvalues of a permuted copy above its tw_edge, median", "num_traps.v1")
    num_traps_min: int | None = _random("the fewest of any copy", "num_traps.v1")
    num_traps_max: int | None = _random("the most of any copy", "num_traps.v1")
    num_traps_demeaned: int | None = _random("the same after subtracting the mean of the elements, median", "num_traps.v1")
    trap_ratio: float | None = _random("largest eigenvalue of a permuted copy over its mp_edge_hi, median", "trap_ratio.v1")

    D_two_sided: float | None = _tail("two-sided Kolmogorov-Smirnov distance at alpha and xmin", "D_two_sided.v1")
    alpha_robust: float | None = _tail(
        "exponent of the fit with the two-sided distance, and at least 10 values and 2 % of them in the tail", "alpha_robust.v1"
    )
    xmin_robust: float | None = _tail("smallest eigenvalue of its tail", "alpha_robust.v1", "weight^2")
    D_robust: float | None = _tail("its distance", "alpha_robust.v1")
    n_tail_robust: int | None = _tail("eigenvalues at or above xmin_robust", "alpha_robust.v1")
    n_local_minima: int | None = _tail("local minima of D against xmin within 10 % of the smallest", "local_minima.v1")
    alpha_range_minima: float | None = _tail("largest less smallest alpha of these minima", "local_minima.v1")
    alpha_xmax: float | None = _tail("exponent of a power law that ends at the largest eigenvalue", "alpha_xmax.v1")
    alpha_drop_top_1: float | None = _tail("alpha of the fit without the largest eigenvalue", "alpha_drop_top.v1")
    alpha_drop_top_2: float | None = _tail("alpha of the fit without the largest 2", "alpha_drop_top.v1")
    alpha_drop_top_5: float | None = _tail("alpha of the fit without the largest 5", "alpha_drop_top.v1")
    alpha_drop_top_10: float | None = _tail("alpha of the fit without the largest 10", "alpha_drop_top.v1")
    alpha_hill: float | None = _tail("Hill's exponent of the upper half of the eigenvalues", "alpha_hill.v1")
    alpha_hill_null: float | None = _tail("what alpha_hill is for noise of the same Q", "alpha_hill.v1")
    alpha_hill_excess: float | None = _tail("alpha_hill - alpha_hill_null", "alpha_hill.v1")
    alpha_farms: float | None = _tail(
        "alpha_hill of windows of aspect ratio 2, pooled over the matrix: noise has 2.70 whatever the shape", "alpha_farms.v1"
    )

    alpha_sigma_boot: float | None = _boot(
        "standard deviation of alpha over 200 samples of the eigenvalues, drawn with replacement, ddof 1", "bootstrap.v1"
    )
    alpha_ci_lo: float | None = _boot("2.5th percentile of it", "bootstrap.v1")
    alpha_ci_hi: float | None = _boot("97.5th percentile of it", "bootstrap.v1")
    gof_p: float | None = _gof(
        "share of samples of the fitted law whose own fit is as far off; below 0.1 the tail is no power law", "gof.csn.v1"
    )
    gof_B: int | None = _gof("samples of the fitted law", "gof.csn.v1")
    alpha_gof: float | None = _gof("exponent of the fit that is tested: two-sided distance, at least 50 values", "gof.csn.v1")
    xmin_gof: float | None = _gof("smallest eigenvalue of its tail", "gof.csn.v1", "weight^2")
    D_gof: float | None = _gof("its two-sided Kolmogorov-Smirnov distance", "gof.csn.v1")
    n_tail_gof: int | None = _gof("eigenvalues at or above xmin_gof", "gof.csn.v1")

    exp_rate: float | None = _law("rate of an exponential tail from xmin on", "exponential.v1", "1/weight^2")
    ln_mu: float | None = _law("mean of ln lambda of a lognormal tail, before it is cut at xmin", "lognormal.v1", "ln weight^2")
    ln_s: float | None = _law("its standard deviation", "lognormal.v1")
    sexp_b: float | None = _law("exponent of a stretched exponential tail", "stretched_exponential.v1")
    sexp_rate: float | None = _law("its rate", "stretched_exponential.v1", "weight^(-2 sexp_b)")
    tpl_alpha: float | None = _law("exponent of a power-law tail with an exponential cut-off", "tpl.v1")
    tpl_Lambda: float | None = _law("rate of the cut-off; 0 for none", "tpl.v1", "1/weight^2")
    etpl_alpha: float | None = _law("the same with its own xmin, near the peak of the ESD", "etpl.v1")
    etpl_Lambda: float | None = _law("its cut-off", "etpl.v1", "1/weight^2")
    etpl_xmin: float | None = _law("its smallest eigenvalue", "etpl.v1", "weight^2")
    etpl_D: float | None = _law("its two-sided Kolmogorov-Smirnov distance", "etpl.v1")
    R_exp: float | None = _law(
        "likelihood ratio against the exponential; positive: power law, negative: exponential", "vuong.v1"
    )
    p_exp: float | None = _law("probability of a ratio that far from 0 when neither is better", "vuong.v1")
    R_ln: float | None = _law("likelihood ratio against the lognormal; positive: power law", "vuong.v1")
    p_ln: float | None = _law("probability of that ratio", "vuong.v1")
    R_sexp: float | None = _law("likelihood ratio against the stretched exponential; positive: power law", "vuong.v1")
    p_sexp: float | None = _law("probability of that ratio", "vuong.v1")
    R_tpl: float | None = _law(
        "log-likelihood of the power law less that of the one with a cut-off, which contains it: at most 0", "nested_ratio.v1"
    )
    p_tpl: float | None = _law("probability of that ratio when there is no cut-off", "nested_ratio.v1")
    best_fit: str | None = _law(
        "law that the data prefer: power_law, exponential, lognormal, stretched_exponential, truncated_power_law, undecided, none",
        "best_fit.v1",
    )

    esd: Curve | None = _curve("eigenvalues, ascending", "weight^2")
    explained_k: Curve | None = _curve("cumulative share of the eigenvalues, largest first")
    survival: Curve | None = _curve("share of eigenvalues at or above each eigenvalue")
    hist_edges: Curve | None = _curve("edges of 100 equal bins", "weight^2")
    hist_counts: Curve | None = _curve("eigenvalues per bin")
    log_hist_edges: Curve | None = _curve("edges of 100 equal bins of log10 lambda, positive eigenvalues", "log10 weight^2")
    log_hist_counts: Curve | None = _curve("eigenvalues per bin of log10 lambda")
    kde_x: Curve | None = _curve("points of the kernel density of log10 lambda", "log10 weight^2")
    kde_density: Curve | None = _curve("Gaussian kernel density of log10 lambda, Scott's bandwidth")
    sv_hist_edges: Curve | None = _curve("edges of 100 equal bins of the singular values", "weight")
    sv_density: Curve | None = _curve("density of the singular values, integral 1", "1/weight")
    ks_xmins: Curve | None = _curve("every candidate for xmin", "weight^2")
    ks_D: Curve | None = _curve("distance of each candidate, 1 where there is no fit")

    warning_codes: tuple[str, ...] | None = column("what limits the reading of the row: few_evals, near_tie, rank_loss ...")
    null_reasons: Mapping[str, str] | None = column("column -> reason, for every metric that is null in a row that has an ESD")
    method: str | None = column("how the eigenvalues were computed: gram, svd, or lowrank for the product of two factors")
    eig_backend: str | None = column(
        "what computed W^T W and its eigenvalues: a library called directly (its two stages above M = 1600), or numpy, as for svd"
    )
    precision: str | None = column("exact: float64; fast: float32, of which metrics of the tail and norms are kept")
    spectral_floor: float | None = column("eigenvalues at or below it are numerical noise", "weight^2")
    n_below_floor: int | None = column("eigenvalues at or below the floor", "1")
    n_missing_evals: int | None = column("eigenvalues that were not computed", "1")
    esd_norm: str | None = column("none: eigenvalues of W^T W; 1/N: divided by N")
    esd_scale: float | None = column("factor on the eigenvalues of the stored weights (0.5 for pooled 2-D convolutions)", "1")
    lora_scale: float | None = column(
        "s of an adapter's s B A: alpha/r, or alpha/sqrt(r); 1 where alpha is not known", "1", "lora.v1"
    )
    seed: int | None = column("seed of the run")
    reader: str | None = column("reader that opened the file")
    content_hash: str | None = column(
        "sha256 of dtype, shape and little-endian row-major stored values, those of a quantized weight dequantized; of an adapter's s B A made from those of A and B, and s"
    )
    tied_to: str | None = column("first tensor with the same stored values; the row repeats its numbers")
    params_id: str | None = column("name of the set of options")
    definitions_version: str | None = column("version of the formulas")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRow:
    """One row per tensor, from headers only: what is there and what an analysis would do with it."""

    model_id: str | None = column("name of the model")
    file: str | None = column("file or shard that holds the tensor")
    name: str | None = column("scoped tensor name, verbatim")
    kind: str | None = column("what the tensor is")
    kind_source: str | None = column("evidence for the kind: graph, file, config, name or shape")
    confidence: str | None = column("how sure the kind is: high, medium or low")
    orientation: str | None = column("what the axes are, or ambiguous")
    layer_type: str | None = column("weightwatcher's word for the kind")
    shape: tuple[int, ...] | None = column("elements along each axis")
    numel: int | None = column("elements", "1")
    nbytes: int | None = column("bytes in the file", "byte")
    offset: int | None = column("first byte in the file", "byte")
    dtype: str | None = column("storage dtype")
    quantized: bool | None = column("the tensor holds codes that need a scale")
    status: str | None = column("planned, skipped or error")
    reason: str | None = column("why it would not be analysed")
    category: str | None = column("status error: category of the refusal")
    message: str | None = column("status error: what is wrong with the file")
    parts: tuple[str, ...] | None = column("rows beside the unsplit one: q, k, v, expert_0 ...")
    rows: int | None = column("rows that an analysis gives", "1")
    N: int | None = column("longer side of one matrix", "1")
    M: int | None = column("shorter side of one matrix", "1")
    Q: float | None = column("aspect ratio N/M", "1")
    rf: int | None = column("matrices per row", "1")
    num_evals: int | None = column("eigenvalues of the first row", "1")
    flops: float | None = column("estimated floating-point operations of all rows", "1")
    memory_bytes: int | None = column("private memory that the largest matrix needs, at most", "byte")
    tied_to: str | None = column("first tensor whose bytes these are")
    reader: str | None = column("reader that opened the file")


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """One row per finding: something that a file gave away, or that its values show."""

    model_id: str | None = column("name of the model")
    file: str | None = column("file as it was named")
    name: str | None = column("tensor that it is about, when it is about one")
    category: str | None = column("what kind of finding: docs/formats.md lists them")
    where: str | None = column("part of the file")
    message: str | None = column("the fact")
    inconclusive: bool | None = column("something was left unread, so that the file cannot pass as clean")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """One row per file that was read or refused."""

    model_id: str | None = column("name of the model that the file belongs to")
    file: str | None = column("file, relative to what was named")
    nbytes: int | None = column("size", "byte")
    sha256: str | None = column("sha256 of the whole file; null when nothing was analysed")
    reader: str | None = column("reader that opened it")
    tensors: int | None = column("tensors in it", "1")
    status: str | None = column("ok or error")
    category: str | None = column("category of the refusal")
    message: str | None = column("what is wrong with it")


TABLES: dict[str, type[Any]] = {"layers": LayerRow, "tensors": TensorRow, "findings": FindingRow, "files": FileRow}
