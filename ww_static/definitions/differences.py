"""Where columns and behaviour differ from weightwatcher 0.7.7, and why: a table of the documentation, and a part of every explanation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        subject: column or behaviour, Markdown.
        theirs: what weightwatcher 0.7.7 does.
        ours: what is done here.
        why: the reason.
        columns: whose explanations show it.
    """

    subject: str
    theirs: str
    ours: str
    why: str
    columns: tuple[str, ...] = ()


_FIT = ("alpha", "xmin", "D", "sigma")

DIFFERENCES = (
    Difference(
        "failed fit",
        "alpha = D = sigma = xmin = -1, warning \"over-trained\"; -1 enters the means",
        "null and a reason, `warning` null, left out of the means",
        "a failure is not a measurement",
        (*_FIT, "warning"),
    ),
    Difference(
        "fewer than 20 eigenvalues",
        "another fit; the winner it selects is then overwritten",
        "the same formula from 8 on, and the code `few_evals`",
        "its selection is discarded",
        _FIT,
    ),
    Difference(
        "N, M, Q of even kernels",
        "swapped once per tap: 2x2 with fewer outputs than inputs gives N < M",
        "N >= M always",
        "a wrong aspect ratio enters what depends on it",
        ("N", "M", "Q"),
    ),
    Difference(
        "`sv_min` of several matrices",
        "the maximum over the taps of their smallest singular value",
        "the minimum",
        "the name says minimum",
        ("sv_min",),
    ),
    Difference(
        "`detX_num` of many eigenvalues",
        "a running product, which under- and overflows",
        "a cumulative sum of logarithms",
        "equal as long as the product does not leave float64",
        ("detX_num", "num_ERG_spikes", "detX_val", "detX_val_unrescaled", "ERG_gap"),
    ),
    Difference(
        "detX of a constant ESD; when the product never falls below 1",
        "0; the value is the second smallest eigenvalue",
        "null, `constant_esd`; the smallest",
        "edge cases of the loop",
        ("detX_num", "num_ERG_spikes", "detX_val", "detX_val_unrescaled"),
    ),
    Difference(
        "randomized columns",
        "an unseeded global generator; `max_rand_eval` and `rand_distance` from different draws",
        "seeded; R replicas with mean and standard deviation",
        "reproducible, with error bars",
        ("max_rand_eval", "rand_distance", "ww_softrank", "ww_maxdist", "rand_sigma_mp", "rand_mp_softrank", "rand_W_scale",
         "rand_bulk_max", "rand_bulk_min"),
    ),
    Difference(
        "`rand_num_spikes`, `num_traps`, `max_rand_eval` below 100 eigenvalues",
        "summed, and the largest, over five draws",
        "per replica, median and mean",
        "a count of one thing",
        ("rand_num_spikes", "num_traps", "max_rand_eval"),
    ),
    Difference(
        "`num_spikes`, `num_traps`",
        "above bulk_max + sqrt(width): 4 to 8 Tracy-Widom widths off",
        "above the Tracy-Widom quantile of 1 % over a robust variance",
        "weak spikes and traps were missed",
        ("num_spikes", "rand_num_spikes", "num_traps"),
    ),
    Difference(
        "NaN or infinity in a tensor",
        "ends the run",
        "that row fails (`nonfinite`) with its counts",
        "one bad layer must not hide the rest",
        ("status", "n_nan", "n_inf"),
    ),
    Difference(
        "`entropy` of rank 1 and 0",
        "2278.6, or infinite",
        "0; null for rank 0",
        "division by ln(1 + 1e-10)",
        ("entropy",),
    ),
    Difference(
        "LoRA",
        "no alpha/r; ranks below the minimum vanish",
        "s B A with its scale; a row for every pair; with `--base` W + s B A in full",
        "an adapter acts with its scale",
        ("lora_scale",),
    ),
    Difference(
        "two models, or a model and its base",
        "the base is ignored in one form of the call; layers are paired by order and by parts of names; what has no partner is analysed as if it had",
        "`compare` and `--base` pair by scoped name, exact or without the one prefix that one side has; what has no partner is `no_pair`, a change of shape `shape_mismatch`",
        "pairs that are guessed are wrong in silence",
        ("delta_norm", "rel_delta"),
    ),
    Difference(
        "integer tensors, quantized weights",
        "codes analysed as weights",
        "skipped with a reason, or dequantized with their scale (`quantized`)",
        "codes are not weights",
        ("quantized", "status", "reason"),
    ),
    Difference(
        "skipped tensors",
        "silent",
        "a row with `status` and `reason`",
        "an empty table must explain itself",
        ("status", "reason"),
    ),
    Difference(
        "TPL, E_TPL: tails with a cut-off",
        "`sigma` NaN; the range of xmin mixes log10 and linear units",
        "fitted by maximum likelihood: columns beside alpha, or in its place with `--fit`, where `sigma` is null",
        "a range of mixed units selects nothing",
        ("Lambda", "fit_kind", "sigma", "tpl_alpha", "tpl_Lambda", "etpl_alpha", "etpl_Lambda", "etpl_xmin", "etpl_D"),
    ),
    Difference(
        "an integer xmax above n/2",
        "nothing is clipped, the integer is used as a value, and the fit is a success",
        "refused: the row has no fit (`too_few_evals`)",
        "half of a tail is not its top",
        ("xmax", "alpha"),
    ),
    Difference(
        "fingers",
        "the largest eigenvalues are clipped until alpha falls into a range",
        "alpha without them stands beside alpha, which stays",
        "a sensitivity is no repair",
        ("alpha_drop_top_1", "alpha_drop_top_2", "alpha_drop_top_5", "alpha_drop_top_10"),
    ),
    Difference(
        "size limits",
        "layers above 15000 or 50000 silently skipped",
        "none; `--max-evals` gives rows with `size_limit`",
        "a missing layer must be seen",
        ("status", "reason"),
    ),
    Difference(
        "names",
        "running numbers that shift when a shard is added; \"-\" in a filter negates",
        "the tensor's name is its id; patterns are shell globs or `re:`",
        "a name must mean the same tensor tomorrow",
        ("name",),
    ),
    Difference(
        "SVDSmoothing, SVDSharpness",
        "overwrite the model in memory; cut W at a count that was found in the permuted W; a randomized decomposition",
        "`smooth`, `sharpen`: a new file; the traps of the permuted matrix are taken out of it; exact eigenvectors",
        "the original stays, and what is removed is what was found",
    ),
    Difference(
        "vector columns",
        "a non-symmetric, complex eigensolver",
        "`eigh`: real, orthonormal",
        "X is symmetric",
        tuple(f"{side}_{moment}_{name}" for side in ("bulk", "tail") for moment in ("mean", "var") for name in ("vec_entropy", "loc_ratio", "part_ratio")),
    ),
    Difference(
        "conv1d, conv3d, stacks of matrices; depthwise convolutions",
        "dropped, or three axes sorted; rows of as many values as the kernel has taps",
        "taps, pooled, and a row for every matrix of a stack; skipped, for every tap is a vector",
        "a vector has no spectrum",
        ("N", "M", "rf", "num_evals"),
    ),
    Difference(
        "inverse of pooled eigenvalues, fft, channels, stacked matrices",
        "broken or undefined",
        "not offered",
        "what is undefined has no number",
    ),
    Difference(
        "`log_alpha_norm`",
        "infinite for large lambda^alpha",
        "log-sum-exp form",
        "equal otherwise",
        ("log_alpha_norm",),
    ),
    Difference(
        "`log_*` of a zero matrix",
        "-infinity, NaN",
        "null, `zero_matrix`",
        "a logarithm of 0 is no number",
        ("log_norm", "log_spectral_norm"),
    ),
    Difference(
        "means",
        "failures and rows of wholes included",
        "successes only; a split tensor counts by its parts",
        "nothing counts twice",
    ),
    Difference(
        "precision",
        "depends on host and stored dtype",
        "float64, but for `--precision fast`; upper ends of randomized matrices are found in float32 and evaluated in float64",
        "the same numbers on every machine",
        ("precision", "method"),
    ),
    Difference(
        "`*_compound` keys of version 0.1.2",
        "means over slices, averaged over layers",
        "not offered",
        "with one row per layer they are the means",
    ),
)  # fmt: skip
