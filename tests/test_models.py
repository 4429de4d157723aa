"""Which files make a model: files, folders, shards, globs, the Hugging Face cache."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

import ww_static
from support import safetensors_bytes
from ww_static import models, strays
from ww_static.auditing import audit


def _tree(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")
    return root


def _shown(*arguments: str | Path) -> list[tuple[str, str]]:
    return [(source.shown, source.model_id) for source in models.locate([os.fspath(argument) for argument in arguments])]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("bert.safetensors", "bert"),
        ("model.safetensors.index.json", "model"),
        ("Model.SAFETENSORS.INDEX.JSON", "Model"),
        ("model-00001-of-00004.safetensors", "model"),
        ("model.fp16-00001-of-00002.safetensors", "model.fp16"),
        ("weights", "weights"),
        ("a.b.pt", "a.b"),
        (".safetensors", ".safetensors"),
    ],
)
def test_the_name_of_a_model_is_its_file_without_suffixes(tmp_path: Path, file: str, name: str) -> None:
    assert _shown(_tree(tmp_path, file) / file) == [(file, name)]


def test_a_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    _tree(tmp_path, "odd.name")
    assert _shown(tmp_path / "odd.name") == [("odd.name", "odd")]


def test_a_path_that_does_not_exist_stays_in_the_list(tmp_path: Path) -> None:
    assert _shown(tmp_path / "gone.safetensors") == [("gone.safetensors", "gone")]
    assert _shown(tmp_path / "*.none") == [("*.none", "*")]


def test_a_folder_gives_its_models_sorted_with_paths_below_it(tmp_path: Path) -> None:
    _tree(tmp_path, "b/y.safetensors", "a.safetensors", "b/x.safetensors", "c/notes.txt")
    assert [shown for shown, _ in _shown(tmp_path)] == ["a.safetensors", "b/x.safetensors", "b/y.safetensors"]


def test_an_index_stands_for_its_shards(tmp_path: Path) -> None:
    _tree(
        tmp_path, "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "adapter.safetensors",
    )  # fmt: skip
    assert _shown(tmp_path) == [("adapter.safetensors", "adapter"), ("model.safetensors.index.json", "model")]


def test_shards_without_an_index_are_one_model(tmp_path: Path) -> None:
    _tree(tmp_path, *(f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)), "x-00001-of-00001.safetensors")
    assert [model for _, model in _shown(tmp_path)] == ["model", "x"]


def test_shards_that_are_named_one_by_one_are_one_model(tmp_path: Path) -> None:
    names = [f"model-{number:05d}-of-{count}.safetensors" for count in ("00002", "00003") for number in (2, 1)]
    _tree(tmp_path, *names, *(f"other/{name}" for name in names))
    assert _shown(*(tmp_path / name for name in names)) == [(names[0], "model"), (names[2], "model#2")]
    assert len(_shown(*(tmp_path / folder / name for name in names for folder in (".", "other")))) == 4


def test_files_that_are_only_named_like_shards_stay_apart(tmp_path: Path) -> None:
    names = [f"model-{number:05d}-of-00002.onnx" for number in (1, 2)]
    _tree(tmp_path, *names)
    assert [shown for shown, _ in _shown(*(tmp_path / name for name in names))] == names


def test_files_of_other_formats_beside_a_model_are_named_not_opened(tmp_path: Path) -> None:
    _tree(tmp_path, "model.safetensors", "pytorch_model.bin", "model.gguf", "README.md", "config.json")
    (source,) = models.locate([os.fspath(tmp_path)])
    assert source.shown == "model.safetensors"
    assert source.beside == ("model.gguf", "pytorch_model.bin")


def test_serialized_models_beside_a_model_are_named_whatever_their_suffix_is(tmp_path: Path) -> None:
    suffixes = [".pkl", ".pickle", ".joblib", ".dill", ".pb", ".tar", ".nemo", ".mar", ".zip", ".PKL"]
    _tree(tmp_path, "model.safetensors", "checkpoint.pth.tar", *(f"x{suffix}" for suffix in suffixes))
    (source,) = models.locate([os.fspath(tmp_path)])
    assert set(source.beside) == {"checkpoint.pth.tar", *(f"x{suffix}" for suffix in suffixes)}


def test_files_whose_names_say_nothing_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    _tree(tmp_path, "model.safetensors", "README", "README.md", "LICENSE", "empty", "vocab.txt", "image.png")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    pickles = {f"state.{protocol}": pickle.dumps([1.0], protocol) for protocol in (2, 3, 4, 5)}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("archive/data.pkl", b"")
    for name, content in {**pickles, "weights": pickles["state.4"], "model.pt.bak": archive.getvalue()}.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "away").symlink_to("/etc/hostname")  # it leads out of the folder: nobody has looked
    (source,) = models.locate([os.fspath(tmp_path)])
    assert set(source.beside) == {*pickles, "weights", "model.pt.bak", "away"}


def test_objects_of_git_are_not_looked_into(tmp_path: Path) -> None:
    _tree(tmp_path, "model.safetensors", ".git/lfs/objects/ab")
    (tmp_path / ".git/lfs/objects/ab").write_bytes(pickle.dumps(1))
    assert models.locate([os.fspath(tmp_path)])[0].beside == ()


def test_more_files_than_are_looked_into_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strays, "MOST_LOOKED_INTO", 2)
    _tree(tmp_path, "model.safetensors", "a", "b", "c")
    error = next(source.error for source in models.found(os.fspath(tmp_path)) if source.error is not None)
    assert (error.category, error.problem) == (
        "limit", "3 files have names that say nothing, and 2 were looked into; leave some out with --exclude",
    )  # fmt: skip


@pytest.mark.parametrize(
    "files",
    [
        ("x.weights.json", "x_00000.weights.h5", "x_00001.weights.h5"),
        ("pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"),
        ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"),
        (".metadata", "__0_0.distcp"),
    ],
)
def test_parts_of_a_model_are_not_said_to_be_unread(tmp_path: Path, files: tuple[str, ...]) -> None:
    _tree(tmp_path, *files, "notes.gguf")
    (source,) = models.locate([os.fspath(tmp_path)])
    assert source.beside == ("notes.gguf",)


def test_a_folder_of_other_formats_only_gives_each_of_them(tmp_path: Path) -> None:
    _tree(tmp_path, "model.tflite", "sub/model.gguf", "README.md")
    assert [shown for shown, _ in _shown(tmp_path)] == ["model.tflite", "sub/model.gguf"]


def test_a_folder_without_models_is_itself_the_source(tmp_path: Path) -> None:
    _tree(tmp_path, "empty/README.md")
    assert _shown(tmp_path / "empty") == [("empty", "empty")]


def test_links_to_folders_are_not_followed_and_told_where_they_lead_out(tmp_path: Path) -> None:
    _tree(tmp_path, "inside/a.safetensors", "inside/sub/b.safetensors", "outside/bad.safetensors")
    for name, target in {"again": ".", "latest": "sub", "unet": "../outside", "up": "..", "gone": "../nowhere"}.items():
        (tmp_path / "inside" / name).symlink_to(target)
    sources = models.found(os.fspath(tmp_path / "inside"))
    told = {source.shown: source.error.category for source in sources if source.error is not None}
    assert told == {"unet": "unsafe_link", "up": "unsafe_link"}
    assert {source.shown for source in sources} == {"a.safetensors", "sub/b.safetensors", "unet", "up"}
    assert {source.shown for source in models.found(os.fspath(tmp_path / "inside"), None, ["u*"])} == {
        "a.safetensors",
        "sub/b.safetensors",
    }


def test_a_link_to_a_folder_elsewhere_is_never_clean(tmp_path: Path) -> None:
    content = safetensors_bytes({"w.weight": np.random.default_rng(0).standard_normal((24, 16)).astype(np.float32)})
    for folder in ("models", "outside"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.safetensors").write_bytes(content)
    (tmp_path / "models" / "unet").symlink_to("../outside")
    result = audit(tmp_path / "models")
    assert [(row.code, row.file) for row in result.finding_rows] == [("WW006", "unet")]
    assert result.exit_code == 3


def test_files_that_nobody_reads_are_variants_only_where_variants_lie(tmp_path: Path) -> None:
    _tree(
        tmp_path,
        "model.safetensors",
        "a/b/other-llama.gguf",
        "original/x.gguf",
        "deep/onnx/model.gguf",
        "z/m.safetensors",
        "z/m.gguf",
    )
    sources = {source.shown: source.beside for source in models.found(os.fspath(tmp_path))}
    assert sources == {
        "model.safetensors": ("original/x.gguf",), "a/b/other-llama.gguf": (), "deep/onnx/model.gguf": (),
        "z/m.safetensors": ("z/m.gguf",),
    }  # fmt: skip


def test_a_glob_is_expanded_in_sorted_order(tmp_path: Path) -> None:
    _tree(tmp_path, "b.safetensors", "a.safetensors", "c.bin")
    assert [shown for shown, _ in _shown(tmp_path / "*.safetensors")] == ["a.safetensors", "b.safetensors"]


def test_a_file_with_glob_marks_in_its_name_is_that_file(tmp_path: Path) -> None:
    _tree(tmp_path, "a[1].safetensors", "a1.safetensors")
    assert _shown(tmp_path / "a[1].safetensors") == [("a[1].safetensors", "a[1]")]


def test_the_same_file_is_taken_once(tmp_path: Path) -> None:
    _tree(tmp_path, "a.safetensors")
    (tmp_path / "link.safetensors").symlink_to("a.safetensors")
    found = _shown(tmp_path / "a.safetensors", tmp_path, tmp_path / "." / "a.safetensors", tmp_path / "link.safetensors")
    assert found == [("a.safetensors", "a")]


def test_models_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    _tree(tmp_path, "x/model.safetensors", "y/model.safetensors", "z/other.safetensors")
    assert [model for _, model in _shown(tmp_path)] == ["x/model", "y/model", "other"]


def test_names_stay_unique_when_folders_do_not_help(tmp_path: Path) -> None:
    _tree(tmp_path, "model.safetensors", "model.bin", "model.pt")
    names = [name for _, name in _shown(*(tmp_path / file for file in ("model.safetensors", "model.bin", "model.pt")))]
    assert names == ["model", "model#2", "model#3"]


def test_names_stay_unique_when_an_extended_name_is_taken(tmp_path: Path) -> None:
    _tree(tmp_path, "a/m.safetensors", "b/m.safetensors", "b/m.pt", "c/m#2.safetensors")
    files = ("a/m.safetensors", "b/m.safetensors", "b/m.pt", "c/m#2.safetensors")
    names = [name for _, name in _shown(*(tmp_path / file for file in files))]
    assert len(set(names)) == 4


def test_a_cached_repository_is_read_at_the_commit_that_main_names(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    _tree(repository, "snapshots/aaa/model.safetensors", "snapshots/bbb/model.safetensors", "refs/main")
    (repository / "refs" / "main").write_text("bbb\n")
    (source,) = models.locate([os.fspath(repository)])
    assert Path(source.path) == repository / "snapshots" / "bbb" / "model.safetensors"


@pytest.mark.parametrize("text", ["../../elsewhere", "gone", "", "..", "a/b", "\udcff"])
def test_a_commit_that_is_none_gives_every_snapshot(tmp_path: Path, text: str) -> None:
    repository = tmp_path / "models--org--name"
    _tree(repository, "snapshots/aaa/model.safetensors", "snapshots/bbb/model.safetensors", "refs/main")
    (tmp_path / "elsewhere").mkdir()
    (repository / "refs" / "main").write_bytes(os.fsencode(text))
    assert [shown for shown, _ in _shown(repository)] == ["aaa/model.safetensors", "bbb/model.safetensors"]


def test_a_folder_that_cannot_be_listed_is_a_source_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path, "a/x.safetensors", "b/y.safetensors")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if path.endswith("b"):
            raise PermissionError(13, "permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert [shown for shown, _ in _shown(tmp_path)] == ["a/x.safetensors", "b"]


def test_thousands_of_nested_folders_are_walked_without_recursion(tmp_path: Path) -> None:
    here = tmp_path
    for _ in range(300):
        here = here / "d"
    _tree(here, "deep.safetensors")
    ((_, name),) = _shown(tmp_path)
    assert name == "deep"


def test_link_out_of_a_scanned_folder_is_refused_and_a_named_one_is_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "models"
    outside.mkdir()
    folder.mkdir()
    (outside / "m.safetensors").write_bytes(safetensors_bytes({"w.weight": np.eye(9, dtype=np.float32)}))
    (folder / "inner").mkdir()
    (folder / "inner" / "own.safetensors").write_bytes((outside / "m.safetensors").read_bytes())
    (folder / "away.safetensors").symlink_to("../outside/m.safetensors")
    (folder / "near.safetensors").symlink_to("inner/own.safetensors")
    rows = {row.file: row for row in ww_static.analyze(folder)}
    assert (rows["away.safetensors"].status, rows["away.safetensors"].category) == ("error", "path_escape")
    assert {rows[name].status for name in rows if name != "away.safetensors"} == {"success"}
    assert ww_static.analyze(folder / "away.safetensors").exit_code == 0


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users to change to")
def test_a_folder_that_cannot_be_listed_is_told_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path / "models", "a.safetensors", "locked/b.safetensors")
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # a user without rights in the folders above it still has the current one
    Path("models/locked").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65_534)
        inner, outer = models.found("models"), models.found("models/locked")
    finally:
        os.seteuid(user)
        Path("models/locked").chmod(0o755)
    assert [source.shown for source in inner] == ["a.safetensors", "locked"]
    assert [source.shown for source in outer] == ["locked"]
    for source in (inner[1], outer[0]):
        assert source.error is not None
        assert source.error.problem.startswith("permission denied: the folder cannot be listed; ")


def test_a_pattern_that_matches_nothing_is_told_as_such(tmp_path: Path) -> None:
    (source,) = models.found(str(tmp_path / "*.safetensors"))
    assert source.error is not None
    assert source.error.problem.startswith("no file matches the pattern; ")
