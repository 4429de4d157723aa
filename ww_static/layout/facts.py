"""What ``config.json`` and ``adapter_config.json`` beside a model say: bounded, typed, optional, never trusted."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ww_static import storage
from ww_static.errors import FormatError
from ww_static.layout import adapter
from ww_static.layout.adapter import Adapter
from ww_static.protocol import Finding, Limits

_MOST = 2**31


@dataclass(frozen=True, slots=True)
class Facts:
    """The few numbers of a Hugging Face configuration that decide how a fused or stacked tensor is split.

    Attributes:
        adapter: what ``adapter_config.json`` says; None without one. The others are from ``config.json``.
    """

    model_type: str | None = None
    hidden_size: int | None = None
    intermediate_size: int | None = None
    moe_intermediate_size: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    num_experts: int | None = None
    vocab_size: int | None = None
    multi_query: bool | None = None
    new_decoder_architecture: bool | None = None
    adapter: Adapter | None = None


# field -> the keys it goes by, first one found wins
_KEYS: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "num_key_value_heads": ("num_key_value_heads", "num_kv_heads", "multi_query_group_num"),
    "multi_query": ("multi_query", "multi_query_attention"),
    "num_experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
}


def beside(path: Path, limits: Limits) -> tuple[Facts, tuple[Finding, ...]]:
    """The facts of ``config.json`` in the folder of `path`, and what is wrong with them; no file, no facts."""
    raw, findings = _raw(path, "config.json", limits)
    facts, wrong = (Facts(), ()) if raw is None else parse(raw)
    return facts, findings + wrong


def of_adapter(path: Path, facts: Facts, limits: Limits) -> tuple[Facts, tuple[Finding, ...]]:
    """`facts` and those of ``adapter_config.json`` in the folder of `path`, which is an adapter, and what is wrong with them."""
    raw, findings = _raw(path, adapter.NAME, limits)
    if raw is None:
        return facts, findings
    document, wrong = _document(raw, adapter.NAME)
    if document is None:
        return facts, findings + wrong
    known, wrong = adapter.parse(document)
    return replace(facts, adapter=known), findings + wrong


def _raw(path: Path, name: str, limits: Limits) -> tuple[bytes | None, tuple[Finding, ...]]:
    """The bytes of a small file beside a model; None when there is none, or when it is not read."""
    try:
        descriptor = storage.open_inside(path.parent, name, name)
    except FormatError as error:
        if error.category == "missing_part":
            return None, ()
        return None, (Finding("bad_config", name, error.problem),)
    try:
        size = os.fstat(descriptor).st_size
        if size > limits.config_bytes:
            return None, (Finding("bad_config", name, f"{size} bytes, limit {limits.config_bytes}"),)
        return storage.read_at(descriptor, 0, size, name), ()
    except FormatError as error:
        return None, (Finding("bad_config", name, error.problem),)
    finally:
        os.close(descriptor)


def _document(raw: bytes, name: str) -> tuple[dict[str, object] | None, tuple[Finding, ...]]:
    """The object that a JSON text holds; None and a finding when it holds none."""
    try:
        document = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        return None, (Finding("bad_config", name, f"is not JSON: {error}"),)
    if not isinstance(document, dict):
        return None, (Finding("bad_config", name, f"is a {type(document).__name__}, not an object"),)
    return document, ()


def parse(raw: bytes) -> tuple[Facts, tuple[Finding, ...]]:
    """The facts in the text of a ``config.json``.

    A text part (``text_config``) overrides what the top level says. A value of the wrong type is left out and found.
    """
    document, wrong = _document(raw, "config.json")
    if document is None:
        return Facts(), wrong
    findings: list[Finding] = []
    facts = Facts()
    for part in (document, document.get("text_config"), document.get("ffn_config")):
        if isinstance(part, dict):
            facts = _merged(facts, part, findings)
    return facts, tuple(findings)


def _merged(facts: Facts, part: dict[str, object], findings: list[Finding]) -> Facts:
    for field in fields(Facts):
        if field.name == "adapter":
            continue
        for key in _KEYS.get(field.name, (field.name,)):
            value = part.get(key)
            if value is None:
                continue
            if _fits(str(field.type), value):
                changed: dict[str, Any] = {field.name: value}
                facts = replace(facts, **changed)
            else:
                findings.append(Finding("bad_config", "config.json", f"'{key}' is {value!r:.60}"))
            break
    return facts


def _fits(annotation: str, value: object) -> bool:
    if annotation.startswith("bool"):
        return isinstance(value, bool)
    if annotation.startswith("int"):
        return type(value) is int and 0 < value < _MOST
    return isinstance(value, str) and len(value) <= 200
