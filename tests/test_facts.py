"""config.json beside a model: bounded, typed, optional, never trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ww_static.layout import facts
from ww_static.layout.facts import Facts
from ww_static.protocol import Limits


def _beside(folder: Path, document: Any) -> tuple[Facts, list[str]]:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    (folder / "config.json").write_bytes(raw)
    known, findings = facts.beside(folder / "model.safetensors", Limits())
    assert all(finding.category == "bad_config" for finding in findings)
    assert all(finding.where == "config.json" for finding in findings)
    return known, [finding.problem for finding in findings]


def test_no_file_is_no_facts_and_no_finding(tmp_path: Path) -> None:
    assert facts.beside(tmp_path / "model.safetensors", Limits()) == (Facts(), ())


def test_the_usual_keys_are_read(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 8,
        "multi_query": True, "intermediate_size": 256, "vocab_size": 1000, "architectures": ["X"],
    }  # fmt: skip
    known, problems = _beside(tmp_path, config)
    assert problems == []
    assert known == Facts(
        model_type="llama", hidden_size=64, num_attention_heads=8, num_key_value_heads=2, head_dim=8, multi_query=True,
        intermediate_size=256, vocab_size=1000,
    )  # fmt: skip


def test_other_names_of_the_same_fact_are_known(tmp_path: Path) -> None:
    known, problems = _beside(tmp_path, {"n_embd": 48, "n_head": 4, "n_layer": 2, "num_local_experts": 8})
    assert problems == []
    assert (known.hidden_size, known.num_attention_heads, known.num_experts) == (48, 4, 8)


def test_the_text_part_of_a_multimodal_model_wins(tmp_path: Path) -> None:
    document = {"model_type": "llava", "hidden_size": 1, "text_config": {"model_type": "llama", "hidden_size": 64}}
    known, _ = _beside(tmp_path, document)
    assert (known.model_type, known.hidden_size) == ("llama", 64)


@pytest.mark.parametrize("value", [-1, 0, 2**31, 10**30, 1.5, True, "64", [64], {"a": 1}, float("nan"), float("inf")])
def test_a_size_that_is_no_count_is_a_finding_and_no_fact(tmp_path: Path, value: object) -> None:
    known, problems = _beside(tmp_path, {"hidden_size": value, "num_attention_heads": 4})
    assert known == Facts(num_attention_heads=4)
    assert len(problems) == 1
    assert problems[0].startswith("'hidden_size' is ")
    assert len(problems[0]) < 100


def test_null_means_absent(tmp_path: Path) -> None:
    assert _beside(tmp_path, {"hidden_size": None, "n_embd": 32})[0].hidden_size == 32


@pytest.mark.parametrize("value", [7, ["llama"], "x" * 201, {}])
def test_a_model_type_that_is_no_short_text_is_a_finding(tmp_path: Path, value: object) -> None:
    known, problems = _beside(tmp_path, {"model_type": value})
    assert known == Facts()
    assert len(problems) == 1


@pytest.mark.parametrize("value", [1, "true", []])
def test_a_flag_that_is_no_boolean_is_a_finding(tmp_path: Path, value: object) -> None:
    assert _beside(tmp_path, {"multi_query": value}) == (Facts(), [f"'multi_query' is {value!r}"])


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"[" * 100_000, b"[]", b"7", b'"text"', b"null", b"nan",
        b'{"a":' * 100_000, b"1" * 100_000, b'{"hidden_size": ' + b"9" * 100_000 + b"}", '{"a": 1}'.encode("utf-16"),
    ],
    ids=range(14),
)  # fmt: skip
def test_a_file_that_is_no_json_object_is_a_finding(tmp_path: Path, raw: bytes) -> None:
    known, problems = _beside(tmp_path, raw)
    assert known == Facts()
    assert len(problems) == 1


def test_a_long_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"hidden_size": 64}' + b" " * 100)
    known, findings = facts.beside(tmp_path / "m", Limits(config_bytes=100))
    assert known == Facts()
    assert [finding.problem for finding in findings] == ["119 bytes, limit 100"]
    with (tmp_path / "config.json").open("r+b") as stream:
        stream.truncate(2**40)
    assert facts.beside(tmp_path / "m", Limits())[0] == Facts()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.json").write_text('{"hidden_size": 64}')
    (folder / "config.json").symlink_to("../secret.json")
    known, findings = facts.beside(folder / "m", Limits())
    assert known == Facts()
    assert [finding.category for finding in findings] == ["bad_config"]


def test_a_folder_or_a_fifo_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    assert [finding.category for finding in facts.beside(tmp_path / "m", Limits())[1]] == ["bad_config"]
    (tmp_path / "config.json").rmdir()
    os.mkfifo(tmp_path / "config.json")
    assert [finding.category for finding in facts.beside(tmp_path / "m", Limits())[1]] == ["bad_config"]
