"""PyTorch's zip archives: `ROOT/data.pkl`, `ROOT/data/KEY` for each storage, `ROOT/byteorder`; TorchScript has code beside them.

Source: torch/serialization.py and caffe2/serialize/inline_container.cc of torch 2.13.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Finding, Limits
from ww_static_readers import _torch_export, _zip
from ww_static_readers._pickle import Machine
from ww_static_readers._source import Source
from ww_static_readers._torch_names import TorchMeaning
from ww_static_readers._torch_records import Contents, is_big, record_of
from ww_static_readers._zip import Member

_PICKLE = "data.pkl"


def read_archive(descriptor: int, size: int, limits: Limits, begin: int = 0) -> Contents:
    """What an archive says: its directory and its pickle are read, no payload.

    Args:
        descriptor: of the file.
        size: of the archive, in bytes.
        limits: bound directory and pickle.
        begin: first byte of the archive in the file.

    Raises:
        FormatError: what the zip walk, the pickle machine or the configuration of torch.export refuse; ``missing_part``;
            ``corrupt_archive`` for several pickles, or one in an archive of torch.export.
    """
    members = {one.name: one for one in _zip.members(descriptor, size, limits, begin)}
    words = "its name leads out of the archive; it is not used"
    findings = [Finding("path_escape", f"member '{name:.200}'", words) for name in members if _zip.leads_out(name)]
    pickles = [name for name in members if name.rsplit("/", 1)[-1].lower() == _PICKLE]
    exported = _torch_export.root_of(members)
    if exported is not None and pickles:
        raise _two_models(descriptor, members[pickles[0]], limits)
    if exported is not None:
        return _torch_export.read_export(descriptor, members, exported, findings, limits)
    if not pickles:
        raise FormatError("missing_part", "zip", f"has no member '{_PICKLE}'")
    if len(pickles) > 1:
        problem = f"has {len(pickles)} members named '{_PICKLE}': {pickles[0]:.80}, {pickles[1]:.80}"
        raise FormatError("corrupt_archive", "zip", problem)
    return _pickled(descriptor, members, pickles[0], findings, limits)


def _two_models(descriptor: int, member: Member, limits: Limits) -> FormatError:
    """Why an archive of torch.export that has a pickle is refused; what the pickle would call comes first."""
    words = f"is a torch.export archive and has a {_PICKLE}, '{member.name:.80}': two programs could read two models"
    error = FormatError("corrupt_archive", "zip", words)
    if member.size > limits.pickle_bytes:
        return error
    try:
        machine = Machine(Source(_PICKLE, _zip.content(descriptor, member, limits)), TorchMeaning("archive"), limits)
        machine.run()
    except FormatError as broken:
        return broken if broken.category == "unsafe_pickle" else error
    return machine.blamed(error)


def _pickled(descriptor: int, members: Mapping[str, Member], name: str, findings: list[Finding], limits: Limits) -> Contents:
    root = name[: -len(_PICKLE)]
    scripted = f"{root}constants.pkl" in members or any(one.startswith(f"{root}code/") for one in members)
    if scripted:
        findings.append(Finding("embedded_code", "zip", "is a TorchScript archive with code, which is not read"))
    big = is_big(descriptor, members.get(f"{root}byteorder"), limits)
    member = members[name]
    if member.size > limits.pickle_bytes:
        raise LimitError("limit", _PICKLE, f"{member.size} bytes, limit {limits.pickle_bytes}")
    data = _zip.content(descriptor, member, limits)
    if member.crc and zlib.crc32(data) != member.crc:
        findings.append(Finding("crc_mismatch", _PICKLE, "its checksum differs, the pickle may be damaged"))
    source = Source(_PICKLE, data)
    machine = Machine(source, TorchMeaning("script" if scripted else "archive"), limits)
    value = machine.run()
    if source.left:
        findings.append(Finding("trailing_data", _PICKLE, f"{source.left} bytes follow the end of the pickle"))
    prefix = f"{root}data/"
    records = {one[len(prefix) :]: record_of(members[one]) for one in members if one.startswith(prefix)}
    return Contents(value, _PICKLE, machine, records, big, tuple(findings))
