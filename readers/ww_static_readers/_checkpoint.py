"""Values of PyTorch tensors by window: mapped where they lie, inflated past where they are deflated, dequantized."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import storage
from ww_static.errors import FormatError
from ww_static.protocol import Finding, Limits, TensorSpec, Window
from ww_static_readers import _inflated, _zip
from ww_static_readers._shards import Descriptors, Model
from ww_static_readers._torch_records import Record, TorchPart
from ww_static_readers._torch_values import Array, PerTensor, Tensor
from ww_static_readers._zip import Member

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PyTorchCheckpoint:
    """An open model of one or more files."""

    def __init__(self, root: Path, model: Model[TorchPart], limits: Limits) -> None:
        self.tensors: Sequence[TensorSpec] = model.tensors
        self.findings: Sequence[Finding] = model.findings
        self.files = [str(root / file) for file in model.parts]
        self._parts = model.parts
        self._limits = limits
        self._descriptors: Descriptors | None = Descriptors(root, model.references)
        self._values: tuple[str, Values] | None = None

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """``whole[window]``, read-only where it is a view of the file; a quantized weight as float32, dequantized.

        Raises:
            FormatError: ``unsupported_layout``, ``no_data``, ``crc_mismatch``, ``corrupt``, ``bomb``, ``truncated``, ``io_error``.
        """
        value = self._parts[spec.file].held.get(spec.name) if spec.file in self._parts else None
        if value is None or self._descriptors is None:
            raise FormatError("io_error", "", "is not a tensor of an open file")
        descriptor = self._descriptors.of(spec.file)
        if self._values is None or self._values[0] != spec.file:
            self._values = (spec.file, Values(self._parts[spec.file], self._limits))
        return self._values[1].read(descriptor, value, window)

    def close(self) -> None:
        """Closes the descriptor; maps that are still in use stay."""
        self._values = None
        if self._descriptors is not None:
            self._descriptors.close()
            self._descriptors = None


@dataclass(slots=True)
class _Checked:
    """How far the checksum of a record was followed: it is computed from windows that come in their order."""

    position: int = 0
    crc: int = 0


def _ascends(tensor: Tensor) -> bool:
    """Whether the elements can be taken in the order of the storage: no two of them are one, no two axes interlock."""
    reach = 0
    for stride, count in sorted(zip(tensor.strides, tensor.shape, strict=True)):
        if count > 1 and stride <= reach:
            return False
        reach += (count - 1) * stride if count > 1 else 0
    return True


class Values:
    """What was begun with the values of one file: a stream that goes on, a record that was inflated, checksums."""

    def __init__(self, part: TorchPart, limits: Limits) -> None:
        self._part = part
        self._limits = limits
        self._descriptor = -1
        self._inflated: tuple[str, bytes] | None = None
        self._stream: _inflated.Stream | None = None
        self._checked: dict[str, _Checked] = {}

    def read(self, descriptor: int, value: Tensor | Array, window: Window) -> NDArray[Any]:
        """``whole[window]`` of one tensor of the file that a descriptor means."""
        self._descriptor = descriptor
        if isinstance(value, Array):
            return self._of_array(value, window)
        if value.encoding == "unsupported":
            if value.element.dtype is None:
                raise FormatError("unsupported_dtype", "", "its elements have no dtype that is read here")
            raise FormatError("unsupported_layout", "", "its layout, such as sparse, packed or negated, is not read")
        if value.encoding == "absent":
            raise FormatError("no_data", "", "the file holds its shape and no values")
        if value.quantizer is not None:
            return self._dequantized(value, window)
        return self._stored(value, window)

    def _of_array(self, value: Array, window: Window) -> NDArray[Any]:
        """Values that stand in the pickle itself."""
        assert value.element is not None  # listed only with a dtype
        assert value.element.dtype is not None
        strides = storage.row_major(value.shape[::-1])[::-1] if value.fortran else None
        found = storage.window_of(value.data, 0, value.element.dtype, value.shape, window, strides)
        return found.byteswap() if value.swapped else found

    def _stored(self, tensor: Tensor, window: Window) -> NDArray[Any]:
        import numpy as np

        stored, dtype = tensor.storage, tensor.element.dtype
        assert stored is not None  # what has no storage was refused
        assert dtype is not None
        record = self._part.records[stored.key]
        begin = stored.begin + tensor.offset * tensor.element.size
        if record.member is not None and _ascends(tensor):
            found = self._streamed(record.member, begin, dtype, tensor, window)
        else:
            source, origin = self._source(stored.key, record)
            found = storage.window_of(source, origin + begin, dtype, tensor.shape, window, tensor.strides)
        if record.crc and record.member is None:
            self._follow(stored.key, record, tensor, window, found)
        if not self._part.big or found.dtype.itemsize == 1:
            return found
        if found.dtype.kind == "V" or found.dtype.name == "bfloat16":  # numpy cannot swap what it does not know
            return found.view(np.uint16).byteswap().view(found.dtype)
        return found.byteswap()

    def _streamed(self, member: Member, begin: int, dtype: str, tensor: Tensor, window: Window) -> NDArray[Any]:
        """A window of a deflated record, inflated past; the stream is kept, so that the next window goes on from there."""
        first = _inflated.first_byte(begin, dtype, tensor.shape, window, tensor.strides)
        stream, self._stream = self._stream, None  # after an error it is of no use
        if stream is None or stream.member is not member or stream.start > first:
            stream = _inflated.Stream(self._descriptor, member, self._limits, member.size)
        found = _inflated.window_of(stream, begin, dtype, tensor.shape, window, tensor.strides)
        self._stream = stream
        return found

    def _source(self, key: str, record: Record) -> tuple[int | bytes, int]:
        """What to read from, and where the record begins in it."""
        if record.member is None:
            return self._descriptor, record.offset
        if self._inflated is None or self._inflated[0] != key:
            self._inflated = None  # the last one goes before the next one comes
            self._inflated = (key, b"".join(_zip.inflate(self._descriptor, record.member, self._limits)))
        return self._inflated[1], 0

    def _follow(self, key: str, record: Record, tensor: Tensor, window: Window, found: NDArray[Any]) -> None:
        """Carries the checksum of a record on when windows come one after the other; reads nothing for it alone.

        Raises:
            FormatError: ``crc_mismatch``, when the last byte has come and the sum differs.
        """
        if not found.size or not found.flags.c_contiguous:
            return
        stored = tensor.storage
        assert stored is not None  # checked by the caller
        first = sum(
            range(*cut.indices(count))[0] * stride
            for cut, count, stride in zip(window, tensor.shape, tensor.strides, strict=False)
        )
        begin = stored.begin + (tensor.offset + first) * tensor.element.size
        state = self._checked.setdefault(key, _Checked())
        if begin == 0 and state.position < record.nbytes:
            state.position = state.crc = 0
        if begin != state.position:
            return
        state.crc = zlib.crc32(found.reshape(-1).view("u1").data, state.crc)
        state.position += found.nbytes
        if state.position == record.nbytes and state.crc != record.crc:
            state.position = state.crc = 0
            raise FormatError("crc_mismatch", "", f"the checksum of storage '{key:.200}' differs, weights may be damaged")

    def _dequantized(self, tensor: Tensor, window: Window) -> NDArray[Any]:
        import numpy as np

        quantizer = tensor.quantizer
        assert quantizer is not None  # checked by the caller
        codes = self._stored(tensor, window)
        with np.errstate(all="ignore"):  # a scale from a file may be anything
            if isinstance(quantizer, PerTensor):
                values: NDArray[Any] = (codes.astype(np.int64) - quantizer.zero_point).astype(np.float64)
                values *= float(np.float32(quantizer.scale))  # torch multiplies in float32, and so rounds once
            else:
                shape = tuple(-1 if place == quantizer.axis else 1 for place in range(len(tensor.shape)))
                cut = window[quantizer.axis : quantizer.axis + 1]
                zeros = self._stored(quantizer.zero_points, cut).reshape(shape)
                scales = self._stored(quantizer.scales, cut).astype(np.float32).astype(np.float64).reshape(shape)
                if zeros.dtype.kind == "f":  # torch subtracts these in float32
                    steps = (codes.astype(np.float32) - zeros.astype(np.float32)).astype(np.float64)
                else:
                    steps = codes.astype(np.float64) - zeros.astype(np.float64)
                values = steps * scales
            return values.astype(np.float32)
