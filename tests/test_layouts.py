"""Folders as hubs, trainers and exporters lay them out: which models they hold, and what each is called."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import ww_static
from support import safetensors_bytes
from ww_static import models
from ww_static.auditing import audit

COMMITS = ("a" * 40, "b" * 40)


def tree(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")
    return root


def found(folder: Path, *exclude: str) -> dict[str, str]:
    """File -> model."""
    sources = models.merged([models.found(os.fspath(folder), None, exclude)])
    return {source.shown: source.model_id for source in sources}


def beside(folder: Path) -> dict[str, tuple[str, ...]]:
    return {source.model_id: source.beside for source in models.locate([os.fspath(folder)])}


def cached(repository: Path, commit: str, name: str, content: bytes, blob: str | None = None) -> Path:
    """A file as the Hugging Face cache stores it: a blob under its sha256, and a link to it in the snapshot of a commit."""
    path = repository / "blobs" / (blob or hashlib.sha256(content).hexdigest())
    link = repository / "snapshots" / commit / name
    for folder in (path.parent, link.parent, repository / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    link.symlink_to(os.path.relpath(path, link.parent))
    (repository / "refs" / "main").write_text(commit)
    return link


@pytest.fixture
def weights() -> bytes:
    rng = np.random.default_rng(0)
    return safetensors_bytes({"h.weight": rng.standard_normal((24, 16)).astype(np.float32)})


def test_variants_of_one_model_are_read_where_a_format_is_trusted_and_told_where_not(tmp_path: Path) -> None:
    tree(
        tmp_path, "model.fp16.safetensors", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack", "tf_model.h5", "config.json",
        "onnx/model.onnx", "onnx/model_quantized.onnx", "openvino/openvino_model.bin", "openvino/openvino_model.xml",
    )  # fmt: skip
    assert found(tmp_path) == {
        "model.fp16.safetensors": "model.fp16", "model.safetensors": "model", "onnx/model.onnx": "onnx/model",
        "onnx/model_quantized.onnx": "model_quantized",
    }  # fmt: skip
    assert beside(tmp_path) == {
        "model.fp16": (), "onnx/model": (), "model_quantized": (),
        "model": ("flax_model.msgpack", "pytorch_model.bin", "tf_model.h5", "openvino/openvino_model.bin"),
    }  # fmt: skip


def test_weights_of_openvino_alone_are_a_model_that_cannot_be_read(tmp_path: Path) -> None:
    tree(tmp_path, "openvino_model.bin", "openvino_model.xml")
    assert found(tmp_path) == {"openvino_model.bin": "openvino_model"}


def test_the_parts_of_a_pipeline_are_models_of_their_own(tmp_path: Path) -> None:
    parts = ("unet", "vae", "text_encoder")
    files = {f"{part}/{'model' if part == 'text_encoder' else 'diffusion_pytorch_model'}.safetensors" for part in parts}
    tree(tmp_path, *files, "model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "unet/config.json")
    assert found(tmp_path) == {
        "unet/diffusion_pytorch_model.safetensors": "unet/diffusion_pytorch_model",
        "vae/diffusion_pytorch_model.safetensors": "vae/diffusion_pytorch_model",
        "text_encoder/model.safetensors": "model",
    }


def test_checkpoints_of_a_trainer_are_told_apart_and_its_state_is_no_model(tmp_path: Path) -> None:
    state = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
    tree(tmp_path, *(f"checkpoint-{step}/{file}" for step in (1, 2) for file in ("model.safetensors", *state)))
    assert found(tmp_path) == {
        "checkpoint-1/model.safetensors": "checkpoint-1/model",
        "checkpoint-2/model.safetensors": "checkpoint-2/model",
    }
    assert set(beside(tmp_path)["checkpoint-1/model"]) == {f"checkpoint-1/{file}" for file in state}


def test_adapters_lie_beside_their_base(tmp_path: Path) -> None:
    tree(tmp_path, "model.safetensors", "lora/adapter_model.safetensors", "lora/adapter_config.json")
    assert found(tmp_path) == {"model.safetensors": "model", "lora/adapter_model.safetensors": "adapter_model"}


@pytest.mark.parametrize("index", [True, False])
def test_shards_are_one_model_with_and_without_an_index(tmp_path: Path, index: bool) -> None:
    names = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    tree(tmp_path, *names, *(["model.safetensors.index.json"] if index else []), "model.fp16.safetensors")
    assert set(found(tmp_path).values()) == {"model", "model.fp16"}


def test_a_whole_cache_is_read_at_the_commits_that_main_names(tmp_path: Path) -> None:
    for repository in ("models--org--one", "models--org--two"):
        for commit in COMMITS:
            tree(tmp_path / "hub" / repository, f"snapshots/{commit}/model.safetensors", "blobs/00")
        tree(tmp_path / "hub" / repository, "refs/main")
        (tmp_path / "hub" / repository / "refs" / "main").write_text(COMMITS[1])
    assert found(tmp_path / "hub") == {
        f"{name}/snapshots/{COMMITS[1]}/model.safetensors": f"{name}/model" for name in ("models--org--one", "models--org--two")
    }


def test_commits_are_in_the_names_only_where_there_are_several(tmp_path: Path) -> None:
    for commit in COMMITS:
        tree(tmp_path / "models--org--one", f"snapshots/{commit}/model.safetensors")
    assert set(found(tmp_path / "models--org--one").values()) == {f"{commit}/model" for commit in COMMITS}


@pytest.mark.parametrize("name", ["", "hub"])
def test_what_lies_beside_the_snapshots_of_a_repository_is_told(tmp_path: Path, name: str) -> None:
    repository = tmp_path / name / "models--org--one"
    tree(
        repository, "evil.pt", "sub/evil.safetensors", "snapshots/loose.safetensors", f"snapshots/{COMMITS[0]}/old.safetensors",
        f"snapshots/{COMMITS[1]}/model.safetensors", ".no_exist/x/adapter_model.safetensors",
    )  # fmt: skip
    for stored in ("blobs/00", "refs/main"):
        (repository / stored).parent.mkdir()
        (repository / stored).write_bytes(b"\x80\x04")
    (repository / "refs" / "main").write_text(COMMITS[1])
    above = f"{repository.name}/" if name else ""
    inside = f"{above}snapshots/{COMMITS[1]}/" if name else ""
    sources = models.found(f"{tmp_path / name if name else repository}/")
    assert {source.shown for source in sources} == {
        f"{inside}model.safetensors", f"{above}evil.pt", f"{above}sub/evil.safetensors", f"{above}snapshots/loose.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", "hub"])
def test_a_current_snapshot_without_models_is_told_when_another_has_some(tmp_path: Path, name: str) -> None:
    for number, files in enumerate((("model.safetensors",), ("README.md",))):
        tree(tmp_path / name / "models--org--one" / "snapshots" / COMMITS[number], *files)
    tree(tmp_path / name / "models--org--one", "refs/main")
    (tmp_path / name / "models--org--one" / "refs" / "main").write_text(COMMITS[1])
    (source,) = models.found(os.fspath(tmp_path / (name or "models--org--one")))
    assert source.shown == "models--org--one"
    assert source.error is not None
    assert (source.error.category, source.error.problem[:39]) == ("unread_part", "refs/main names a snapshot without mode")
    assert len(models.found(os.fspath(tmp_path / name / "models--org--one" / "snapshots"))) == 1


def test_names_do_not_depend_on_where_a_folder_lies(tmp_path: Path) -> None:
    files = ("x/model.safetensors", "y/model.safetensors", "y/deep/model.safetensors", "other.safetensors")
    here, there = tree(tmp_path / "a" / "models", *files), tree(tmp_path / "elsewhere" / "b" / "renamed", *files)
    assert found(here) == found(there)
    relative = os.path.relpath(here)
    assert found(Path(relative)) == found(here)


def test_a_blob_that_is_not_what_it_is_called_is_an_error(tmp_path: Path, weights: bytes) -> None:
    good, bad, named = (tmp_path / f"models--org--{name}" for name in ("good", "bad", "named"))
    cached(good, COMMITS[0], "model.safetensors", weights)
    cached(bad, COMMITS[0], "model.safetensors", weights[:-4] + b"\0\0\0\0", hashlib.sha256(weights).hexdigest())
    link = cached(named, COMMITS[0], "model.safetensors", weights, "0" * 64)
    short = cached(
        tmp_path / "models--org--short", COMMITS[0], "model.safetensors", weights, "0" * 40
    )  # a git hash says something else
    codes = {path: [(row.code, row.severity) for row in audit(path).finding_rows] for path in (good, bad, link, short)}
    assert codes == {good: [], bad: [("WW012", "error")], link: [("WW012", "error")], short: []}
    assert {row.category for row in ww_static.analyze(bad).finding_rows} == {"checksum_mismatch"}


class _Calling:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pkl", "weights"])
def test_a_twin_that_would_call_something_is_told_though_its_values_are_not_read(
    tmp_path: Path, weights: bytes, name: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "optimizer.bin").write_bytes(pickle.dumps(_Calling()))
    assert [row.code for row in audit(tmp_path).finding_rows] == ["WW011"]
    (tmp_path / name).write_bytes(pickle.dumps(_Calling()))
    result = audit(tmp_path)
    told = [(row.code, row.where, row.severity) for row in result.finding_rows if row.code != "WW011"]
    assert told == [("WW004", name, "error")]
    assert result.exit_code == 3
    assert {row.file for row in result} == {"model.safetensors"}


def test_paths_below_a_folder_can_be_excluded(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "model.safetensors",
        "model.fp16.safetensors",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "old/deep/m.safetensors",
    )
    assert set(found(tmp_path, "*.fp16.*", "onnx", "old/")) == {"model.safetensors"}
    assert set(found(tmp_path, "*.safetensors", "onnx/*")) == {"pytorch_model.bin"}  # no longer a variant of what is left out
    assert set(found(tmp_path, "model")) == set(found(tmp_path))
    assert found(tmp_path / "model.safetensors", "*") == {"model.safetensors": "model"}  # named itself
