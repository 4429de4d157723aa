"""The reader contract on one page: what a reader gives, and the limits it keeps.

A reader is a module (or object) with two functions, `sniff` and `open`, registered under the entry-point group
``ww_static.readers``. `open` reads the header only. `read` is the only call that touches payload. The seam re-checks
every promise made here, so a reader that breaks one costs a clear error, never a wrong number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

Window = tuple[slice, ...]
SNIFF_BYTES = 512


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask for before anything is allocated for it. Every field has a test.

    Attributes:
        header_bytes: longest header or shard index.
        tensors: most tensors in one model.
        name_bytes: longest tensor name that raises no finding, UTF-8.
        rank: most dimensions of a tensor (numpy's own limit).
        config_bytes: longest ``config.json`` or ``adapter_config.json`` that is looked at.
        parts: most files of one sharded model.
        matrices: most matrices that one tensor is cut into (kernel taps, experts, heads).
        rows: most rows that the tensors of one model are cut into.
        npy_header_bytes: longest header of a numpy array.
        inflation_bytes: size up to which a member of a zip archive may be deflated to any ratio.
        inflation_ratio: most times its stored size that a larger member, or all members together, may inflate to.
        inflated_bytes: largest deflated tensor that is held in memory while it is read out of order, and largest deflated HDF5
            file in a Keras archive.
        protobuf_depth: most messages inside each other.
        protobuf_fields: most fields of a protobuf that are looked at; a tensor has about five.
        pickle_bytes: longest pickle that is interpreted.
        pickle_opcodes: most opcodes of one pickle.
        pickle_memo: highest index of a pickle's memo.
        pickle_nesting: most containers inside each other on the way to a tensor.
        pickle_digits: most digits of a number written as text, and most bytes of a long integer.
        pickle_line: longest line of text in a pickle, in bytes.
        view_elements: elements that any view of a storage may have.
        view_ratio: most elements per element of the storage beyond that.
        attribute_bytes: longest attribute of an HDF5 file, or configuration in a Keras archive, that is looked at.
        config_items: most commas and brackets of a Keras configuration.
        hdf5_links: most links of an HDF5 file.
        hdf5_chunks: most chunks of one dataset.
        chunk_bytes: largest chunk of a dataset.
        declared_bytes: bytes that a dataset, or all of them together, may declare whatever is stored.
        declared_ratio: most bytes declared per byte stored beyond that.
        sparse_entries: most entries of a sparse matrix.
        reading_bytes: private memory that a worker may take to open a file or to go through its values.
    """

    header_bytes: int = 100_000_000
    tensors: int = 1_000_000
    name_bytes: int = 65_536
    rank: int = 64
    config_bytes: int = 4_194_304
    parts: int = 10_000
    matrices: int = 65_536
    rows: int = 200_000
    npy_header_bytes: int = 10_000
    inflation_bytes: int = 67_108_864
    inflation_ratio: int = 200
    inflated_bytes: int = 268_435_456
    protobuf_depth: int = 100
    protobuf_fields: int = 3_000_000
    pickle_bytes: int = 67_108_864
    pickle_opcodes: int = 5_000_000
    pickle_memo: int = 1_000_000
    pickle_nesting: int = 200
    pickle_digits: int = 400
    pickle_line: int = 65_536
    view_elements: int = 134_217_728
    view_ratio: int = 16
    attribute_bytes: int = 16_777_216
    config_items: int = 2_000_000
    hdf5_links: int = 4_000_000
    hdf5_chunks: int = 2_000_000
    chunk_bytes: int = 268_435_456
    declared_bytes: int = 4_294_967_296
    declared_ratio: int = 1000
    sparse_entries: int = 8_388_608
    reading_bytes: int = 805_306_368


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes that lie flat in a file, so that they can be mapped: `nbytes` bytes at `offset` of `path`."""

    path: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a file, as its header describes it.

    Attributes:
        name: scoped name, verbatim, unique in the checkpoint. It is data: never a path, a format string or markup.
        dtype: storage dtype name (`ww_static.dtypes.DTYPES`).
        shape: elements along each axis.
        file: name of the file or shard that holds it, relative to the folder of the model.
        axes: what each axis is (``out``, ``in``, ``kernel``, ...), when the file itself says so.
        layout: framework whose axis order the file follows (``pt``, ``tf``, ``flax``, ``keras``, ``mlx``), when it says so.
        extent: where the bytes lie, when they lie flat.
        encoding: ``raw``, or how the stored bytes differ from the values (``compressed``, ``quantized``, ``sparse``: entries that
            read as the dense matrix), or why there are no values to read (``unsupported``: a layout; ``absent``: none in the file).
        role: what the graph, or the class of the layer, uses it for: ``dense``, ``attention``, ``conv``, ``conv_transpose``,
            ``depthwise``, ``embedding``, ``fused_qkv``, ``lstm``, ``gru``, ``rnn``, ``recurrent`` for a part of such a
            weight, ``one_hot`` for a dense weight that one-hot values choose rows of, or ``bias``; None when nothing says.
        op_path: path of the operator that uses it, in a format with a graph; the user's name of the layer, in Keras 3.
        reason: why it is not analysed, when the file itself says so: ``quant_aux``, ``quantized``, ``unsupported_layout``,
            ``unsupported_rank``, ``unsupported_dtype``, ``no_data``, ``ema``.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    axes: tuple[str, ...] | None = None
    layout: str | None = None
    extent: Extent | None = None
    encoding: str = "raw"
    role: str | None = None
    op_path: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a file gave away: the category, the place, the fact.

    Attributes:
        category: one of the categories in docs/formats.md.
        where: part of the file, for instance ``tensor 'w'`` or ``header``.
        problem: the fact, lower case, no full stop.
        tensor: name of the tensor it is about, when it is about one.
    """

    category: str
    where: str
    problem: str
    tensor: str | None = None


class Checkpoint(Protocol):
    """An open file.

    `read(spec, window)` equals ``read(spec)[window]``, costs memory in proportion to the window, and returns the
    storage dtype (`ww_static.dtypes.numpy_dtype`); packed types give one uint8 code per element; a quantized weight
    reads as float32, dequantized by window. `close` gives back descriptors; arrays that were read stay valid.

    A checkpoint of several files may have one more attribute, `files`: the paths of those that no extent names, a sequence
    of text, so that it is noticed when one of them changes. Another one, `metadata`, a map from text to text, is what the
    header says beside its tensors: a file that is made from this one keeps it.
    """

    @property
    def tensors(self) -> Sequence[TensorSpec]: ...

    @property
    def findings(self) -> Sequence[Finding]: ...

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model among the files of a folder: the file to open for it (an index, the first of its shards), and its name.

    An empty name stands for that of the folder.

    Attributes:
        file: to open.
        model: its name.
        parts: other files of the folder that belong to it. `open` reads them, or says of each one that it did not.
    """

    file: str
    model: str
    parts: tuple[str, ...] = ()


class Reader(Protocol):
    """One format. Whatever it refuses, it refuses as ``FormatError(category, where, problem)``."""

    def sniff(self, path: Path, head: bytes) -> bool:
        """Whether this looks like the reader's format. `head` is the first 512 bytes; opens nothing, raises nothing."""
        ...

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        """Reads the header only; costs memory in proportion to the header."""
        ...


class FolderReader(Reader, Protocol):
    """A reader that also knows its files by name, so that a folder can be scanned for them. Optional."""

    def models(self, names: Sequence[str]) -> Sequence[ModelFile]:
        """The models among the file names of one folder, by name only; a set of shards is one model."""
        ...
