"""What a row is about: names, kind, shape, and the statistics of the stored values."""

from __future__ import annotations

from dataclasses import dataclass

from ww_static.columns.column import column


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class IdentityColumns:
    """The tensor that a row is about, and the sizes of its matrices."""

    __slots__ = ()

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
    offset: int | None = column("first byte of the values in the file; null where they do not lie there as they are", "byte")
    dtype: str | None = column("storage dtype, as safetensors spells it")
    quantized: bool | None = column("the tensor holds codes that need a scale")
    status: str | None = column("success, failed, skipped or error")
    reason: str | None = column("why the tensor was not analysed, or why its row has no fit")
    category: str | None = column("status error: category of the refusal")
    message: str | None = column("status error: what is wrong with the file; memory_limit: bytes that are needed")
    N: int | None = column("longer side of one matrix", "1", "geometry.v1")
    M: int | None = column("shorter side of one matrix", "1", "geometry.v1")
    Q: float | None = column("aspect ratio N/M, at least 1", "1", "geometry.v1")
    rf: int | None = column("matrices whose eigenvalues are pooled in the row (kernel taps)", "1", "geometry.v1")
    num_evals: int | None = column(
        "eigenvalues of the row, M rf; of an adapter of rank r at most r rf, the others are exactly 0", "1", "geometry.v1"
    )
    has_esd: bool | None = column("whether the row has eigenvalues")
    mean: float | None = column("mean of the finite elements of the stored tensor", "weight", "moments.v1")
    std: float | None = column("standard deviation of the finite elements, ddof 0", "weight", "moments.v1")
    min: float | None = column("smallest finite element", "weight", "moments.v1")
    max: float | None = column("largest finite element", "weight", "moments.v1")
    abs_max: float | None = column("largest absolute value among the finite elements", "weight", "moments.v1")
    zero_fraction: float | None = column("share of elements that are exactly zero", "1", "moments.v1")
    n_nan: int | None = column("elements that are not a number", "1", "moments.v1")
    n_inf: int | None = column("elements that are infinite", "1", "moments.v1")
    rank_sample: int | None = column(
        "rank, at the precision of the storage dtype, of 64 evenly spaced rows and columns of a tensor with at least 512 of both",
        "1",
        "rank_sample.v1",
    )
    excess_kurtosis: float | None = column("m4/m2^2 - 3 of the finite elements, 0 for a Gaussian", "1", "moments.v1")
