"""PyTorch models: zip archives (torch 1.6 and later, TorchScript, torch.export), legacy streams, bare pickles, shards of these,
and distributed checkpoints. Nothing is run: pickles are interpreted by a machine that imports nothing and calls nothing.

The first bytes say what a file is. What each kind looks like stands in the private module that reads it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ww_static import dtypes, storage
from ww_static.errors import FormatError, UnknownFormatError
from ww_static.protocol import Checkpoint, Limits, ModelFile, TensorSpec
from ww_static_readers import _shards, _torch_distributed, _torch_stream, _zip
from ww_static_readers._checkpoint import PyTorchCheckpoint
from ww_static_readers._torch_archive import read_archive
from ww_static_readers._torch_records import TorchPart, checked

_TAR = 257, b"ustar"
_TEXT_PICKLE = re.compile(rb"c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\((?:dp|lp)[0-9]+\n|[\]}](?:q[\x00-\xff]|p0\n)")
# What the first member of an archive of PyTorch is called, below its root.
_FIRST = re.compile(
    r"(?:[^/]+/)?(?:data\.pkl|version|byteorder|archive_format|archive_version|\.format_version|\.storage_alignment|constants\.pkl"
    r"|\.?data/.+|models/.+\.json|code/.+)"
)
_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pt2")
_INDEXES = tuple(suffix + _shards.INDEX for suffix in _SUFFIXES)
_NO_MODEL = re.compile(r"(?:training_args|optimizer|scheduler|scaler|rng_state)[\w.-]*")


def sniff(path: Path, head: bytes) -> bool:
    """An archive whose first member is one of PyTorch's, a pickle, a tar archive, an index whose parts are such files."""
    if head.startswith(_zip.MAGIC) and len(head) >= 30:
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return _FIRST.fullmatch(name.decode("utf-8", "replace")) is not None
    if head[:1] == b"\x80":
        return len(head) > 2 and head[1] in (2, 3, 4, 5) and head[2] != 0  # the length of a header may begin like a pickle
    if _is_text(head):
        part = _shards.part_suffix(head)
        return part in _SUFFIXES or (part is None and path.name.lower().endswith(_INDEXES))
    return _TEXT_PICKLE.match(head) is not None or head[_TAR[0] :].startswith(_TAR[1])


def models(names: Sequence[str]) -> list[ModelFile]:
    """Files with the usual suffixes, indexes and numbered sets of them, and the index of a distributed checkpoint.

    Files that end in .bin are duplicates when safetensors of the same model lie beside them, and OpenVINO's when an .xml of the
    same name does. Optimizers and arguments are no models.
    """
    present = set(names)
    names = [name for name in names if not (name.endswith(".bin") and name[: -len("bin")] + "xml" in present)]
    twins = {_stem(name) for name in names if name.lower().endswith((".safetensors", ".safetensors.index.json"))}
    names = [name for name in names if not (name.lower().endswith((".bin", ".bin" + _shards.INDEX)) and _stem(name) in twins)]
    distributed = _torch_distributed.models(names)
    aside = {"meta"} if distributed else set()  # what a trainer writes beside a distributed checkpoint
    named = _shards.models(names, _SUFFIXES, lambda stem: bool(stem) and stem not in aside and not _NO_MODEL.fullmatch(stem))
    return [*distributed, *named]


def _stem(name: str) -> str:
    """What a model is called whatever its format: without suffix, variant and number; ``pytorch_model`` is ``model``."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", name.split(".", 1)[0].lower())
    return "model" if stem == "pytorch_model" else stem


def open(path: Path, limits: Limits) -> Checkpoint:  # the reader contract names this function
    """Reads directories, pickles and indexes; no payload.

    Raises:
        FormatError: the file is malformed, or unsafe before it is malformed; see docs/formats.md for the categories.
    """
    descriptor = storage.open_file(path)
    try:
        head = storage.read_at(descriptor, 0, min(os.fstat(descriptor).st_size, 512), "")
        if _torch_distributed.is_index(head):
            return _torch_distributed.open_folder(path, descriptor, limits)
        if _is_text(head):
            model = _shards.read_index(path, descriptor, _read_part, _total_sizes, limits)
        elif match := _shards.numbered(path.name, _SUFFIXES):
            model = _shards.read_set(path, match, _read_part, limits)
        else:
            part = _read_part(descriptor, os.fspath(path), path.name, limits)
            model = _shards.Model({path.name: part}, {path.name: None}, part.findings)
    finally:
        os.close(descriptor)
    return PyTorchCheckpoint(path.parent, model, limits)


def _is_text(head: bytes) -> bool:
    return head.lstrip()[:1] == b"{"


def _read_part(descriptor: int, path: str, file: str, limits: Limits) -> TorchPart:
    """The tensors of one file, whatever container it is."""
    size = os.fstat(descriptor).st_size
    head = storage.read_at(descriptor, 0, min(size, 512), "")
    if head.startswith(_zip.MAGIC):
        try:
            contents = read_archive(descriptor, size, limits)
        except FormatError as error:
            if not file.endswith(_torch_distributed.SUFFIX) or error.category == "unsafe_pickle":
                raise
            words = "this is a part of a distributed checkpoint; name its folder, or the file .metadata in it"
            raise UnknownFormatError("unsupported", "", words) from error
    elif head[_TAR[0] :].startswith(_TAR[1]):
        raise UnknownFormatError("unsupported", "", "this is a tar archive, as torch 0.1 wrote them; save it again")
    elif head.startswith(_torch_stream.MAGIC):
        contents = _torch_stream.read_stream(descriptor, limits)
    else:
        contents = _torch_stream.read_bare(descriptor, limits)
    return checked(contents, path, file, limits)


def _total_sizes(tensors: Sequence[TensorSpec]) -> set[int]:
    """Bytes of all tensors, and of those that lie in different places; booleans have been counted in several ways."""
    if any(spec.dtype == "BOOL" or spec.encoding == "quantized" for spec in tensors):
        return set()
    sizes = [math.prod(spec.shape) * dtypes.DTYPES[spec.dtype].bits // 8 for spec in tensors]
    places = {spec.extent or spec.name: size for spec, size in zip(tensors, sizes, strict=True)}
    return {sum(sizes), sum(places.values())}
