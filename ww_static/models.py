"""Which files make a model: a file as it is named, a folder by what lies in it, a Hugging Face cache by its snapshot."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors", re.IGNORECASE)
# What a folder scan looks at; a file that is named explicitly is always tried, whatever it is called.
_READ = (".safetensors", _INDEX)
_OTHER = (
    ".bin", ".ckpt", ".gguf", ".h5", ".hdf5", ".keras", ".msgpack", ".npy", ".npz", ".onnx", ".pdparams", ".pt", ".pth", ".tflite",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """One model to open.

    Attributes:
        path: the file to open: the model itself, its index, or the first of its shards.
        shown: the file as it appears in results: relative to what the user named, never an absolute path.
        model_id: name of the model, unique in a run.
        beside: model files in the same folder that nobody reads; they are reported.
    """

    path: str
    shown: str
    model_id: str
    beside: tuple[str, ...] = ()


def locate(arguments: Sequence[str]) -> list[Source]:
    """The models that paths, folders and glob patterns mean, in sorted order of each argument, each once.

    A path that does not exist stays in the list: opening it gives the error row.
    """
    found: dict[str, Source] = {}
    for argument in arguments:
        for path in _expanded(argument):
            for source in _in_folder(path) if os.path.isdir(path) else [_single(path)]:
                found.setdefault(os.path.realpath(source.path), source)
    return _distinct(list(found.values()))


def _expanded(argument: str) -> list[str]:
    if not os.path.lexists(argument) and glob.has_magic(argument):
        return sorted(glob.glob(argument)) or [argument]
    return [argument]


def _single(path: str) -> Source:
    name = os.path.basename(path)
    return Source(path, name, model_name(name))


def model_name(file: str) -> str:
    """`file` without the suffixes of shards and formats."""
    if file.lower().endswith(_INDEX):
        return file[: -len(_INDEX)]
    if match := _SHARD.fullmatch(file):
        return match["stem"]
    return Path(file).stem or file


def _in_folder(folder: str) -> list[Source]:
    """The models below a folder: iterative, sorted, following no link to a folder."""
    root = _snapshot(folder)
    sources: list[Source] = []
    others: list[str] = []
    waiting = [root]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            sources.append(Source(here, os.path.relpath(here, root), os.path.basename(here)))
            continue
        waiting.extend(entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False))
        files = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
        beside = tuple(name for name in files if name.lower().endswith(_OTHER))
        models = _grouped(files)
        sources.extend(_placed(root, here, name, beside) for name in models)
        others.extend(os.path.join(here, name) for name in beside)
    if sources:
        return sources
    if others:
        return [Source(path, os.path.relpath(path, root), model_name(os.path.basename(path))) for path in others]
    return [Source(folder, os.path.basename(os.path.normpath(folder)) or folder, os.path.basename(os.path.abspath(folder)))]


def _placed(root: str, here: str, name: str, beside: tuple[str, ...]) -> Source:
    path = os.path.join(here, name)
    return Source(path, os.path.relpath(path, root), model_name(name), beside)


def _grouped(files: Sequence[str]) -> list[str]:
    """One file per model: the index before its shards, the first shard of a set, every other safetensors file."""
    candidates = [name for name in files if name.lower().endswith(_READ)]
    stems = {model_name(name) for name in candidates if name.lower().endswith(_INDEX)}
    chosen: list[str] = []
    for name in candidates:
        match = _SHARD.fullmatch(name)
        if match and match["stem"] in stems:
            continue
        if match:
            stems.add(match["stem"])
        chosen.append(name)
    return chosen


def _snapshot(folder: str) -> str:
    """The snapshot that ``refs/main`` names, when `folder` is a repository of the Hugging Face cache."""
    snapshots = os.path.join(folder, "snapshots")
    if not os.path.basename(os.path.abspath(folder)).startswith("models--") or not os.path.isdir(snapshots):
        return folder
    try:
        revision = Path(folder, "refs", "main").read_text(encoding="utf-8")[:200].strip()
    except (OSError, UnicodeDecodeError):
        revision = ""
    if re.fullmatch(r"[0-9a-zA-Z]+", revision) and os.path.isdir(os.path.join(snapshots, revision)):
        return os.path.join(snapshots, revision)
    return snapshots


def _distinct(sources: list[Source]) -> list[Source]:
    """Names that two models share are extended by the folders that tell them apart."""
    names = [source.model_id for source in sources]
    if len(set(names)) == len(names):
        return sources
    folders = [os.path.dirname(os.path.abspath(source.path)) for source in sources]
    root = os.path.commonpath(folders)
    longer = [
        replace(source, model_id=os.path.normpath(os.path.join(os.path.relpath(folder, root), source.model_id)))
        if names.count(source.model_id) > 1
        else source
        for source, folder in zip(sources, folders, strict=True)
    ]
    taken: dict[str, int] = {}
    result = []
    for source in longer:
        count = taken[source.model_id] = taken.get(source.model_id, 0) + 1
        result.append(source if count == 1 else replace(source, model_id=f"{source.model_id}#{count}"))
    return result
