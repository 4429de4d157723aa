"""Which reader opens a file: entry points found by name, content before suffix, stand-ins named for what they are."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from support import safetensors_bytes
from ww_static import registry
from ww_static.errors import FormatError, ReaderError, UnknownFormatError, UnsafeFileError, UsageError
from ww_static.registry import ReaderEntry

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes entry points out of (name, target) pairs, in place of the installed ones."""

    def put(*pairs: tuple[str, str]) -> None:
        points = [importlib.metadata.EntryPoint(name, target, registry.GROUP) for name, target in pairs]

        def entry_points(group: str) -> Sequence[importlib.metadata.EntryPoint]:
            assert group == registry.GROUP
            return points

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        registry._entries.cache_clear()

    yield put
    registry._entries.cache_clear()


def _module(monkeypatch: pytest.MonkeyPatch, name: str, magic: bytes, asked: list[str]) -> None:
    module = ModuleType(name)

    def sniff(path: Path, head: bytes) -> bool:
        asked.append(name)
        return head.startswith(magic)

    module.sniff = sniff  # type: ignore[attr-defined]
    module.open = lambda path, limits: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)


def test_the_safetensors_reader_is_installed_as_anyone_elses() -> None:
    entries = {entry.name: entry for entry in registry.installed()}
    assert (entries["safetensors"].package, entries["safetensors"].target) == ("ww-static", "ww_static_readers.safetensors")
    assert [entry.name for entry in registry.installed()] == sorted(entries)


def test_listing_readers_imports_none(install: Install) -> None:
    install(("b", "no_such_module_b"), ("a", "no_such_module_a"))
    assert [entry.name for entry in registry.installed()] == ["a", "b"]


def test_readers_that_are_not_allowed_are_left_alone(install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    _module(monkeypatch, "toy_one", b"TOY", asked)
    install(("broken", "no_such_module"), ("toy", "toy_one"))
    (tmp_path / "f").write_bytes(b"TOY!")
    entry, _ = registry.find(tmp_path / "f", ["toy"])
    assert (entry.name, asked) == ("toy", ["toy_one"])
    assert registry.find(tmp_path / "f")[0].name == "toy", "a broken reader keeps nobody from reading"
    (tmp_path / "g").write_bytes(b"unheard of")
    with pytest.raises(
        ReaderError, match="reader_crash: reader 'broken': does not load: ModuleNotFoundError: No module named 'no_such_module'"
    ):
        registry.find(tmp_path / "g")


def test_a_reader_that_is_not_installed_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"reader 'nope' is not installed; installed are: .*safetensors"):
        registry.installed(["nope"])


def test_a_module_without_the_two_functions_is_no_reader(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "toy_empty", ModuleType("toy_empty"))
    for target, words in (("toy_empty", "lacks sniff"), ("toy_empty:nothing", "does not load: .*nothing")):
        with pytest.raises(ReaderError, match=f"reader_crash: reader 'toy': {words}"):
            ReaderEntry("toy", "", "", target).load()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise ValueError('boom')", "ValueError: boom"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_reader_that_fails_to_import_in_any_way_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    (tmp_path / "toy_failing.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ReaderError, match=f"reader_crash: reader 'toy': does not load: {words}"):
        ReaderEntry("toy", "", "", "toy_failing").load()


def test_content_decides_and_the_name_does_not(tmp_path: Path) -> None:
    data = safetensors_bytes({"w": np.zeros((2, 2))})
    for name in ("model.pt", "model.h5", "model", "model.onnx", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(data)
        assert registry.find(tmp_path / name)[0].name == "safetensors"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"PK\x03\x04" + bytes(40), "a zip archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b"\x93NUMPY\x01\x00", "a numpy array"),
        (b"\x80\x02}q\x00.", "a pickle"),
        (b"\x80\x04}\x94.", "a pickle"),
        (b"\x04\x22\x4d\x18" + bytes(9), "an lz4 frame.*re-save the arrays as safetensors or npz"),
        (b"\x1f\x8b\x08\x00", "a gzip stream"),
        (b"hello, world", "not a format that is known here"),
    ],
)
def test_a_format_without_a_reader_is_named(tmp_path: Path, head: bytes, words: str) -> None:
    (tmp_path / "model.bin").write_bytes(head)
    with pytest.raises(UnknownFormatError, match=f"unsupported: this is {words}.*; readers asked: safetensors"):
        registry.find(tmp_path / "model.bin", ["safetensors"])


@pytest.mark.parametrize(
    "head", [b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"GGUF", b"\x93NUMPY", b"\x80\x02}", b"\x04\x22\x4d\x18", b"\x1f\x8b\x08"]
)
def test_another_format_that_is_called_safetensors_is_named_for_what_it_is(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(head + bytes(40))
    with pytest.raises(UnknownFormatError, match=r"unsupported: this is an? "):
        registry.find(tmp_path / "model.safetensors", ["safetensors"])


def test_a_git_lfs_pointer_says_what_it_stands_for(tmp_path: Path) -> None:
    digest = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 90868376\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(FormatError, match=f"lfs_pointer: this is a Git LFS pointer to 90868376 bytes .sha256 {digest}.; fetch"):
        registry.find(tmp_path / "model.safetensors")


def test_a_git_lfs_pointer_that_is_damaged_is_still_one(tmp_path: Path) -> None:
    for rest in (b"", b"\noid\nsize\n", b"\n\xff\xfe\n", b"\nsize " + b"9" * 400):
        (tmp_path / "f").write_bytes(b"version https://git-lfs.github.com/spec/v1" + rest)
        with pytest.raises(FormatError, match="lfs_pointer: this is a Git LFS pointer to") as caught:
            registry.find(tmp_path / "f")
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<html>", "\n\n <!doctype HTML>", "<html lang=en>", "<HTML>"])
def test_an_html_page_is_named_whatever_it_is_called(tmp_path: Path, text: str) -> None:
    for name in ("model.safetensors", "model.bin"):
        (tmp_path / name).write_text(text)
        with pytest.raises(UnknownFormatError, match="unsupported: this is an HTML page saved in place of a model"):
            registry.find(tmp_path / name)


def test_an_empty_file_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(FormatError, match="truncated: the file is empty"):
        registry.find(tmp_path / "model.safetensors")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFileError, match="not_regular_file: is a directory"):
        registry.find(tmp_path)


def test_a_reader_sees_512_bytes_and_no_more(install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[int] = []
    module = ModuleType("toy_head")

    def sniff(path: Path, head: bytes) -> bool:
        seen.append(len(head))
        return False

    module.sniff = sniff  # type: ignore[attr-defined]
    module.open = sniff  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_head", module)
    install(("toy", "toy_head"))
    for size in (1, 512, 5000):
        (tmp_path / "f").write_bytes(b"x" * size)
        with pytest.raises(UnknownFormatError, match="readers asked: toy"):
            registry.find(tmp_path / "f")
    assert seen == [1, 512, 512]


def test_with_no_reader_at_all_the_message_says_so(install: Install, tmp_path: Path) -> None:
    install()
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(UnknownFormatError, match="readers asked: none"):
        registry.find(tmp_path / "f")
