"""The seam against readers that lie: every promise of the contract is checked before anyone relies on it."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support import safetensors_bytes
from ww_static import registry, seam
from ww_static.errors import FormatError, LimitError, ReaderError
from ww_static.protocol import Extent, Finding, Limits, ModelFile, TensorSpec, Window
from ww_static.seam import OpenCheckpoint, open_checkpoint

GOOD = np.arange(12, dtype=np.float32).reshape(3, 4)
SPEC = TensorSpec("w", "F32", (3, 4), "model")


@dataclass
class Lying:
    """A checkpoint that gives whatever a test wants."""

    tensors: Sequence[Any] = (SPEC,)
    findings: Sequence[Finding] = ()
    give: Callable[[TensorSpec, Window], Any] = lambda spec, window: GOOD[window]
    closed: int = 0

    def read(self, spec: TensorSpec, window: Window = ()) -> Any:
        return self.give(spec, window)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model").write_bytes(bytes(100))
    return tmp_path / "model"


def _open(path: Path, checkpoint: Any, limits: Limits | None = None) -> OpenCheckpoint:
    return OpenCheckpoint(path, "toy", checkpoint, limits or Limits())


def _raising(error: BaseException) -> Callable[..., Any]:
    def call(*arguments: object) -> Any:
        raise error

    return call


# what a reader says about tensors


def test_an_honest_reader_passes(path: Path) -> None:
    with _open(path, Lying(findings=[Finding("unnamed", "header", "a thing")])) as checkpoint:
        assert checkpoint.tensors == (SPEC,)
        assert [finding.category for finding in checkpoint.findings] == ["unnamed"]
        assert checkpoint.spec("w") is SPEC
        np.testing.assert_array_equal(checkpoint.read(SPEC, (slice(1, 3),)), GOOD[1:3])
        assert repr(checkpoint) == f"<toy checkpoint {os.fspath(path)!r}, 1 tensors>"
        with pytest.raises(KeyError):
            checkpoint.spec("gone")


def test_files_that_no_extent_names_are_watched_too(path: Path) -> None:
    part = path.with_name("part")
    part.write_bytes(bytes(7))
    checkpoint = Lying()
    checkpoint.files = [os.fspath(part)]  # type: ignore[attr-defined]
    opened = _open(path, checkpoint)
    assert [identity.size for identity in opened.identities] == [100, 7]
    part.write_bytes(bytes(8))
    with pytest.raises(FormatError, match="changed_while_reading: part: size was 7, is 8"):
        opened.check_unchanged()
    for files in ([7], 7, [part]):
        checkpoint.files = files  # type: ignore[attr-defined]
        with pytest.raises(ReaderError, match="reader_crash"):
            _open(path, checkpoint)


def test_a_name_twice_is_refused(path: Path) -> None:
    with pytest.raises(FormatError, match="duplicate_name: tensor 'w': the reader gives this name twice"):
        _open(path, Lying(tensors=[SPEC, replace(SPEC, shape=(1,))]))


@pytest.mark.parametrize("size", [-1, -(2**70), 1.0, True, None, "3", np.int64(3)])
def test_a_dimension_that_is_no_count_is_refused(path: Path, size: Any) -> None:
    with pytest.raises(FormatError, match=r"bad_header: tensor 'w': dimension .* is not a count"):
        _open(path, Lying(tensors=[replace(SPEC, shape=(2, size))]))


@pytest.mark.parametrize("shape", [(2**63,), (2**32, 2**32), (0, 2**62, 8), (2**61, 0), (2**40, 2**40)])
def test_a_shape_of_more_bytes_than_can_be_is_an_overflow_even_beside_a_zero(path: Path, shape: tuple[int, ...]) -> None:
    if shape == (2**61, 0):
        _open(path, Lying(tensors=[replace(SPEC, shape=(2**60, 0))]))
    with pytest.raises(FormatError, match=r"overflow: tensor 'w': shape .* of F32 exceeds"):
        _open(path, Lying(tensors=[replace(SPEC, shape=shape)]))


def test_a_shape_that_is_no_tuple_is_the_readers_fault(path: Path) -> None:
    for shape in ([3, 4], None, 12, "34"):
        with pytest.raises(ReaderError, match="for the shape of a tensor"):
            _open(path, Lying(tensors=[replace(SPEC, shape=shape)]))  # type: ignore[arg-type]


def test_an_unknown_dtype_is_refused(path: Path) -> None:
    for dtype in ("float32", "F5", ""):
        with pytest.raises(FormatError, match="unknown_dtype: dtype "):
            _open(path, Lying(tensors=[replace(SPEC, dtype=dtype)]))


@pytest.mark.parametrize(
    "spec", [None, 7, "w", ("w", "F32"), {"name": "w"}, SimpleNamespace(name="w", dtype="F32", shape=(1,))]
)
def test_something_else_than_a_spec_is_the_readers_fault(path: Path, spec: object) -> None:
    with pytest.raises(ReaderError, match=r"reader_crash: header: the reader gives a .* for a TensorSpec"):
        _open(path, Lying(tensors=[spec]))


def test_a_name_that_is_no_text_is_the_readers_fault(path: Path) -> None:
    for name in (None, b"w", 7):
        with pytest.raises(ReaderError, match=r"reader_crash: header: the reader gives a .* for the name of a tensor"):
            _open(path, Lying(tensors=[replace(SPEC, name=name)]))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["role", "op_path", "reason"])
def test_evidence_that_is_no_text_is_the_readers_fault(path: Path, field: str) -> None:
    with pytest.raises(ReaderError, match=f"reader_crash: header: the reader gives a int for the {field} of a tensor"):
        _open(path, Lying(tensors=[replace(SPEC, **{field: 7})]))  # type: ignore[arg-type]


@pytest.mark.parametrize("extent", [7, (0, 48), Extent("model", 0.0, 48), Extent("model", 0, True), Extent(7, 0, 48)])  # type: ignore[arg-type]
def test_an_extent_that_is_no_extent_is_the_readers_fault(path: Path, extent: Any) -> None:
    with pytest.raises(ReaderError, match=r"reader_crash: header: the reader gives a .* for the extent"):
        _open(path, Lying(tensors=[replace(SPEC, extent=extent)]))


def test_limits_on_tensors_and_axes_are_kept_whatever_the_reader_does(path: Path) -> None:
    with pytest.raises(LimitError, match="limit: header: 2 tensors, limit 1"):
        _open(path, Lying(tensors=[SPEC, replace(SPEC, name="v")]), Limits(tensors=1))
    with pytest.raises(LimitError, match="limit: tensor 'w': 65 dimensions, limit 64"):
        _open(path, Lying(tensors=[replace(SPEC, shape=(1,) * 65)]))


def test_a_long_name_is_a_finding(path: Path) -> None:
    checkpoint = _open(path, Lying(tensors=[replace(SPEC, name="é" * 6)]), Limits(name_bytes=11))
    assert [(finding.category, finding.tensor) for finding in checkpoint.findings] == [("limit", "é" * 6)]
    assert _open(path, Lying(tensors=[replace(SPEC, name="é" * 6)]), Limits(name_bytes=12)).findings == ()


@pytest.mark.parametrize(
    ("offset", "nbytes", "words"),
    [
        (0, 47, "size_mismatch: tensor 'w': 47 bytes for 48 needed"),
        (0, 49, "size_mismatch"),
        (53, 48, "truncated: tensor 'w': ends at byte 101, file has 100"),
        (2**70, 48, "truncated"),
        (-1, 48, "truncated|bad_offsets"),
    ],
)
def test_an_extent_that_does_not_fit_is_refused(path: Path, offset: int, nbytes: int, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        _open(path, Lying(tensors=[replace(SPEC, extent=Extent(os.fspath(path), offset, nbytes))]))


def test_an_extent_that_fits_to_the_last_byte_is_accepted(path: Path) -> None:
    checkpoint = _open(path, Lying(tensors=[replace(SPEC, extent=Extent(os.fspath(path), 52, 48))]))
    assert [identity.size for identity in checkpoint.identities] == [100]


def test_the_extent_of_encoded_bytes_has_any_size_but_lies_in_the_file(path: Path) -> None:
    _open(path, Lying(tensors=[replace(SPEC, encoding="compressed", extent=Extent(os.fspath(path), 0, 7))]))
    for offset, nbytes in ((99, 7), (0, -1), (-5, 7)):
        with pytest.raises(FormatError, match=r"truncated|bad_offsets|size_mismatch"):
            _open(path, Lying(tensors=[replace(SPEC, encoding="compressed", extent=Extent(os.fspath(path), offset, nbytes))]))


def test_an_extent_in_a_file_that_is_not_there_is_an_io_error(path: Path) -> None:
    with pytest.raises(FormatError, match=r"io_error: .*no such file"):
        _open(path, Lying(tensors=[replace(SPEC, extent=Extent(os.fspath(path.with_name("gone")), 0, 48))]))


# what a reader gives


@pytest.mark.parametrize(
    "result",
    [
        GOOD.T, GOOD[:2], GOOD.ravel(), GOOD.astype(np.float64), GOOD.astype(np.int32), GOOD.astype(np.float16), GOOD.tolist(),
        None, 7.0, GOOD[None], np.array(object()), memoryview(b"x"), GOOD.view(np.uint32), GOOD.astype("c8"),
    ],
    ids=range(14),
)  # fmt: skip
def test_another_shape_or_dtype_than_promised_is_refused(path: Path, result: object) -> None:
    checkpoint = _open(path, Lying(give=lambda spec, window: result))
    with pytest.raises(ReaderError, match=r"reader_crash: tensor 'w': reader gave .* where float32 \(3, 4\) was promised"):
        checkpoint.read(SPEC)


def test_a_window_of_the_wrong_size_is_refused(path: Path) -> None:
    checkpoint = _open(path, Lying(give=lambda spec, window: GOOD))
    with pytest.raises(ReaderError, match=r"reader gave float32 \(3, 4\) where float32 \(1, 2\) was promised"):
        checkpoint.read(SPEC, (slice(0, 1), slice(None, None, 2)))


def test_big_endian_values_are_as_good(path: Path) -> None:
    checkpoint = _open(path, Lying(give=lambda spec, window: GOOD.astype(">f4")))
    np.testing.assert_array_equal(checkpoint.read(SPEC), GOOD)


def test_quantized_weights_are_float32_whatever_their_codes_are(path: Path) -> None:
    spec = replace(SPEC, dtype="I8", encoding="quantized")
    np.testing.assert_array_equal(_open(path, Lying(tensors=[spec])).read(spec), GOOD)
    with pytest.raises(ReaderError, match="where float32"):
        _open(path, Lying(tensors=[spec], give=lambda spec, window: GOOD.astype(np.int8))).read(spec)


def test_a_window_that_means_nothing_is_refused_before_the_reader_sees_it(path: Path) -> None:
    checkpoint = _open(path, Lying(give=_raising(AssertionError("the reader was asked"))))
    for window in (slice(1), [slice(1)], (1,), (None,), (slice(1), Ellipsis), (np.arange(2),)):
        with pytest.raises(TypeError, match="a window is a tuple of slices, not"):
            checkpoint.read(SPEC, window)  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="a window of 3 slices for a tensor of 2 axes"):
        checkpoint.read(SPEC, (slice(1),) * 3)


# what a reader raises


class OddError(Exception):
    """An exception that cannot be pickled, and whose text fails."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__()

    def __str__(self) -> str:
        raise RuntimeError("no text")


ODD = [
    KeyError("w"), ValueError("a\nb"), OSError(5, "input/output error"), RecursionError(), StopIteration(),
    AssertionError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ZeroDivisionError("x" * 10_000), EOFError(),
]  # fmt: skip


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_any_exception_of_a_reader_becomes_ours(path: Path, error: Exception) -> None:
    checkpoint = _open(path, Lying(give=_raising(error)))
    with pytest.raises(ReaderError, match=f"reader_crash: tensor 'w': reader 'toy' raised .*{type(error).__name__}") as caught:
        checkpoint.read(SPEC)
    assert caught.value.__cause__ is error
    assert len(str(caught.value)) < 600
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert str(caught.value).isprintable()


def test_an_exception_without_a_text_becomes_ours(path: Path) -> None:
    checkpoint = _open(path, Lying(give=_raising(OddError(1, 2))))
    with pytest.raises(ReaderError, match=r"reader_crash: tensor 'w': reader 'toy' raised .*OddError"):
        checkpoint.read(SPEC)


def test_the_readers_own_refusal_keeps_its_words_and_gains_the_place(path: Path) -> None:
    checkpoint = _open(path, Lying(give=_raising(LimitError("bomb", "", "inflates beyond 200 times"))))
    with pytest.raises(LimitError, match="bomb: tensor 'w': inflates beyond 200 times"):
        checkpoint.read(SPEC)
    checkpoint = _open(path, Lying(give=_raising(FormatError("corrupt", "chunk 3", "checksum"))))
    with pytest.raises(FormatError, match="corrupt: chunk 3: checksum"):
        checkpoint.read(SPEC)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit(3)])
def test_running_out_of_memory_and_interruptions_are_not_the_readers_fault(path: Path, error: BaseException) -> None:
    checkpoint = _open(path, Lying(give=_raising(error)))
    with pytest.raises(type(error)):
        checkpoint.read(SPEC)


def test_exceptions_while_listing_or_closing_become_ours(path: Path) -> None:
    class NoTensors(Lying):
        @property
        def tensors(self) -> Any:
            raise KeyError("header")

        @tensors.setter
        def tensors(self, value: object) -> None:
            pass

    with pytest.raises(ReaderError, match="reader_crash: reader 'toy' raised KeyError: 'header'"):
        _open(path, NoTensors())

    class NoClose(Lying):
        def close(self) -> None:
            raise ValueError("twice")

    with pytest.raises(ReaderError, match="reader_crash: reader 'toy' raised ValueError: twice"):
        _open(path, NoClose()).close()


def test_tensors_that_are_no_list_are_the_readers_fault(path: Path) -> None:
    for tensors in (None, 7):
        with pytest.raises(ReaderError, match="reader_crash"):
            _open(path, Lying(tensors=tensors))  # type: ignore[arg-type]


# open_checkpoint


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A reader that is asked for every file, and opens as a test wants."""
    reader = SimpleNamespace(sniff=lambda path, head: True, open=lambda path, limits: Lying())
    monkeypatch.setitem(sys.modules, "toy_reader", reader)
    entry = registry.ReaderEntry("toy", "", "", "toy_reader")
    monkeypatch.setattr(registry, "installed", lambda allowed=None: (entry,))
    return reader


def test_errors_name_the_file_as_the_user_named_it(path: Path, toy: SimpleNamespace) -> None:
    toy.open = _raising(FormatError("truncated", "header", "ends early"))
    with pytest.raises(FormatError, match=f"{path}: truncated: header: ends early") as caught:
        open_checkpoint(path)
    assert caught.value.path == os.fspath(path)
    toy.open = _raising(ZeroDivisionError("oops"))
    with pytest.raises(ReaderError, match=f"{path}: reader_crash: reader 'toy' raised ZeroDivisionError: oops"):
        open_checkpoint(os.fspath(path))


def test_a_sniff_that_raises_is_the_readers_fault(path: Path, toy: SimpleNamespace) -> None:
    toy.sniff = _raising(IndexError("head"))
    with pytest.raises(ReaderError, match="reader_crash: reader 'toy' raised IndexError: head"):
        open_checkpoint(path)


@pytest.mark.parametrize("parts", ["b", ["b"], ("b", 7), None])
def test_parts_that_are_no_names_cost_the_claim(toy: SimpleNamespace, parts: Any) -> None:
    toy.models = lambda names: [ModelFile("a", "a", parts)]
    assert seam.models_among(["a", "b"], registry.installed()) == []


def test_parts_are_files_of_the_folder_beside_the_model(toy: SimpleNamespace) -> None:
    toy.models = lambda names: [ModelFile("a", "m", ("b", "gone", "a")), SimpleNamespace(file="c", model="c")]
    assert seam.models_among(["a", "b", "c"], registry.installed()) == [ModelFile("a", "m", ("b",)), ModelFile("c", "c")]


def test_limits_reach_the_reader(path: Path, toy: SimpleNamespace) -> None:
    seen: list[Limits] = []

    def opened(path: Path, limits: Limits) -> Lying:
        seen.append(limits)
        return Lying()

    toy.open = opened
    open_checkpoint(path)
    open_checkpoint(path, Limits(header_bytes=9))
    assert seen == [Limits(), Limits(header_bytes=9)]


def test_a_checkpoint_that_fails_its_checks_is_closed(path: Path, toy: SimpleNamespace) -> None:
    bad = Lying(tensors=[SPEC, SPEC])
    toy.open = lambda path, limits: bad
    with pytest.raises(FormatError, match="duplicate_name"):
        open_checkpoint(path)
    assert bad.closed == 1


def test_leaving_the_block_closes(path: Path) -> None:
    good = Lying()
    with _open(path, good):
        assert good.closed == 0
    assert good.closed == 1


# files that change


def _real(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"w": GOOD, "v": GOOD * 2}))
    return path


def test_a_file_that_stays_is_unchanged(tmp_path: Path) -> None:
    with open_checkpoint(_real(tmp_path)) as checkpoint:
        checkpoint.check_unchanged()


def test_a_file_that_grew_shrank_or_was_written_is_changed(tmp_path: Path) -> None:
    path = _real(tmp_path)
    size = path.stat().st_size
    for change in (size - 1, size + 1):
        path = _real(tmp_path)
        with open_checkpoint(path) as checkpoint:
            os.truncate(path, change)
            words = f"changed_while_reading: model.safetensors: size was {size}, is {change}"
            with pytest.raises(FormatError, match=words):
                checkpoint.check_unchanged()
    path = _real(tmp_path)
    with open_checkpoint(path) as checkpoint:
        os.utime(path, ns=(1, 1))
        with pytest.raises(FormatError, match=r"changed_while_reading: model\.safetensors: modification time was"):
            checkpoint.check_unchanged()


def test_a_file_that_was_replaced_is_changed(tmp_path: Path) -> None:
    path = _real(tmp_path)
    before = path.stat()
    with open_checkpoint(path) as checkpoint:
        other = tmp_path / "other"
        other.write_bytes(path.read_bytes())
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(path)
        with pytest.raises(FormatError, match=r"changed_while_reading: model\.safetensors: inode was"):
            checkpoint.check_unchanged()


def test_a_file_that_is_gone_is_an_io_error(tmp_path: Path) -> None:
    path = _real(tmp_path)
    with open_checkpoint(path) as checkpoint:
        path.unlink()
        with pytest.raises(FormatError, match="io_error: "):
            checkpoint.check_unchanged()


def test_a_file_cut_short_after_opening_is_truncated_not_a_crash(tmp_path: Path) -> None:
    path = _real(tmp_path)
    with open_checkpoint(path) as checkpoint:
        os.truncate(path, path.stat().st_size - 1)
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec("w")), GOOD)
        with pytest.raises(FormatError, match="truncated: tensor 'v': values end at byte"):
            checkpoint.read(checkpoint.spec("v"))


def test_an_identity_tells_what_differs_first() -> None:
    identity = seam.Identity("a/b", 1, 2, 3, 4)
    seam.check_same(identity, replace(identity))
    others = [replace(identity, device=9), replace(identity, inode=9), replace(identity, size=9), replace(identity, mtime_ns=9)]
    for other, words in zip(others, ("device", "inode", "size", "modification time"), strict=True):
        with pytest.raises(FormatError, match=rf"changed_while_reading: b: {words} was \d, is 9"):
            seam.check_same(identity, other)
