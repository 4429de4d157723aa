"""The index of sharded weights: `{"metadata": {"total_size": bytes}, "weight_map": {"/layers/dense/vars": file or files}}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Finding, Limits
from ww_static_readers._keras_file import Contents
from ww_static_readers._strict_json import parse_json

_MOST_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Index:
    """What an index says.

    Attributes:
        groups: path of a group, without slashes around it -> the files that hold it.
        total: bytes of all tensors, when it says so.
    """

    groups: Mapping[str, tuple[str, ...]]
    total: float | None

    @property
    def files(self) -> list[str]:
        """Every file, sorted."""
        return sorted({file for files in self.groups.values() for file in files})


def parse_index(raw: bytes, own: str, limits: Limits) -> Index:
    """Parses the text of the index called `own`.

    Raises:
        FormatError: ``bad_header``, ``duplicate_name``.
        LimitError: ``limit``.
    """
    items = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if items > 4 * limits.tensors:
        raise LimitError("limit", "index", f"{items} items, limit {4 * limits.tensors}")
    document = parse_json(raw, "index")
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError("bad_header", "index", "weight_map is not a map from groups to files")
    groups: dict[str, tuple[str, ...]] = {}
    for group, value in weight_map.items():
        files = value if isinstance(value, list) else [value]
        if not files or not all(isinstance(file, str) for file in files):
            raise FormatError("bad_header", "index", f"'{group:.200}' is not mapped to a file name, or a list of them")
        if group.strip("/") in groups:
            raise FormatError("duplicate_name", "index", f"'{group:.200}' appears twice")
        groups[group.strip("/")] = tuple(files)
    metadata = document.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    index = Index(groups, total if isinstance(total, int | float) and not isinstance(total, bool) else None)
    if len(index.files) > limits.parts:
        raise LimitError("limit", "index", f"{len(index.files)} files, limit {limits.parts}")
    if own in index.files:
        raise FormatError("bad_header", "index", "names itself as a shard")
    return index


def checked_index(index: Index, parts: Mapping[str, Contents], limits: Limits) -> list[Finding]:
    """Compares an index with its shards, by the names that it has for them.

    Raises:
        FormatError: ``index_mismatch``, ``duplicate_name``.
        LimitError: ``limit``.
    """
    for group, files in index.groups.items():
        for file in files:
            if group not in parts[file].groups:
                raise FormatError("index_mismatch", "index", f"'{group:.200}' is mapped to '{file:.200}', which lacks it")
    owners: dict[str, str] = {}
    findings: list[Finding] = []
    total = 0
    for file, contents in parts.items():
        for name, found in contents.datasets.items():
            total += found.nbytes
            if owners.setdefault(name, file) != file:
                problem = f"is in '{owners[name]:.200}' and in '{file:.200}'"
                raise FormatError("duplicate_name", f"tensor '{name:.200}'", problem)
            if file not in index.groups.get(name.rpartition("/")[0], ()) and len(findings) < _MOST_FINDINGS:
                words = f"holds '{name:.200}', which the index does not place there"
                findings.append(Finding("index_mismatch", file, words, name))
        if len(owners) > limits.tensors:
            raise LimitError("limit", "shards", f"more than {limits.tensors} tensors")
    if index.total is not None and index.total != total:
        findings.append(Finding("index_mismatch", "index", f"total_size is {index.total}, the tensors have {total} bytes"))
    return findings
