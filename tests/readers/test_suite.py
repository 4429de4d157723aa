"""The reader suite itself: readers that break one promise each, and the test that catches it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import unittest
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from support import safetensors_bytes
from ww_static.errors import FormatError
from ww_static.protocol import Checkpoint, Finding, Limits, TensorSpec, Window
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import safetensors


class Honest:
    """A reader that keeps its promises, made to be broken."""

    def sniff(self, path: Path, head: bytes) -> bool:
        return safetensors.sniff(path, head)

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        return Wrapped(self, safetensors.open(path, limits), path)

    def list(self, tensors: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
        return tensors

    def read(self, checkpoint: Checkpoint, path: Path, spec: TensorSpec, window: Window) -> NDArray[Any]:
        return checkpoint.read(spec, window)

    def close(self, path: Path) -> None:
        """What else happens when a checkpoint is closed."""


class Wrapped:
    """A checkpoint that leaves its answers to a reader."""

    findings: Sequence[Finding] = ()

    def __init__(self, reader: Honest, inner: Checkpoint, path: Path) -> None:
        self._reader = reader
        self._inner = inner
        self._path = path
        self.tensors = reader.list(inner.tensors)

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        return self._reader.read(self._inner, self._path, spec, window)

    def close(self) -> None:
        self._inner.close()
        self._reader.close(self._path)


class SniffsPastTheEnd(Honest):
    """catches: test_sniff_raises_nothing_for_any_head"""

    def sniff(self, path: Path, head: bytes) -> bool:
        return head[8] == ord("{")


class SniffsAnything(Honest):
    """catches: test_sniff_refuses_what_is_something_else"""

    def sniff(self, path: Path, head: bytes) -> bool:
        return True


class SniffsTheSuffix(Honest):
    """catches: test_sniff_recognizes_its_own_files_by_content"""

    def sniff(self, path: Path, head: bytes) -> bool:
        return path.suffix == ".safetensors"


class SniffsTheFile(Honest):
    """catches: test_sniff_recognizes_its_own_files_by_content"""

    def sniff(self, path: Path, head: bytes) -> bool:
        return path.exists() and super().sniff(path, head)


class ReadsEverythingAtOnce(Honest):
    """catches: test_open_reads_the_header_only"""

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        assert path.exists() is False or path.read_bytes() is not None
        return super().open(path, limits)


class ListsTwice(Honest):
    """catches: test_open_lists_each_tensor_once_as_it_was_written"""

    def list(self, tensors: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
        return [*tensors, *tensors]


class Renames(Honest):
    """catches: test_open_lists_each_tensor_once_as_it_was_written"""

    def list(self, tensors: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
        return [replace(spec, name=spec.name.strip("./")) for spec in tensors]


class MovesExtents(Honest):
    """catches: test_extents_are_where_the_values_lie"""

    def list(self, tensors: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
        return [replace(one, extent=replace(one.extent, offset=one.extent.offset - 1)) for one in tensors if one.extent]

    def read(self, checkpoint: Checkpoint, path: Path, spec: TensorSpec, window: Window) -> NDArray[Any]:
        assert spec.extent is not None
        return checkpoint.read(replace(spec, extent=replace(spec.extent, offset=spec.extent.offset + 1)), window)


class Widens(Honest):
    """catches: test_read_gives_the_stored_values_in_the_storage_dtype"""

    def read(self, checkpoint: Checkpoint, path: Path, spec: TensorSpec, window: Window) -> NDArray[Any]:
        return checkpoint.read(spec, window).astype(np.float64)


class ForgetsSteps(Honest):
    """catches: test_read_of_a_window_is_the_window_of_the_whole"""

    def read(self, checkpoint: Checkpoint, path: Path, spec: TensorSpec, window: Window) -> NDArray[Any]:
        return checkpoint.read(spec, tuple(slice(cut.start, cut.stop, max(cut.step or 1, -1)) for cut in window))


class CopiesTheWhole(Honest):
    """catches: test_a_small_window_of_a_large_tensor_costs_little_memory"""

    def read(self, checkpoint: Checkpoint, path: Path, spec: TensorSpec, window: Window) -> NDArray[Any]:
        return checkpoint.read(spec).copy()[window]


class TakesArraysBack(Honest):
    """catches: test_arrays_stay_valid_when_the_checkpoint_is_closed"""

    given: ClassVar[list[NDArray[Any]]] = []

    def read(self, checkpoint: Checkpoint, path: Path, spec: TensorSpec, window: Window) -> NDArray[Any]:
        self.given.append(checkpoint.read(spec, window).copy())
        return self.given[-1]

    def close(self, path: Path) -> None:
        for array in self.given:
            array[...] = 0
        self.given.clear()


class SharesState(Honest):
    """catches: test_two_open_checkpoints_do_not_disturb_each_other"""

    last: ClassVar[list[Path]] = []

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        self.last[:] = [path]
        return super().open(path, limits)

    def read(self, checkpoint: Checkpoint, path: Path, spec: TensorSpec, window: Window) -> NDArray[Any]:
        if path != self.last[0]:
            raise FormatError("io_error", "", "another file was opened since")
        return checkpoint.read(spec, window)


class RaisesItsOwn(Honest):
    """catches: test_damaged_files_raise_format_errors_and_nothing_else"""

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        try:
            return super().open(path, limits)
        except FormatError as error:
            raise KeyError("dtype") from error


class FillsUpWithZeros(Honest):
    """catches: test_truncated_files_raise_format_errors_and_never_give_other_values"""

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        try:
            return super().open(path, limits)
        except FormatError as error:
            if error.category == "truncated" and error.where.startswith("tensor"):
                with path.open("ab") as stream:
                    stream.write(bytes(1))
                return self.open(path, limits)
            raise


class Hangs(Honest):
    """catches: test_damaged_files_raise_format_errors_and_nothing_else"""

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        try:
            return super().open(path, limits)
        except FormatError:
            time.sleep(60)
            raise


class AllocatesWhatTheHeaderSays(Honest):
    """catches: test_damaged_files_raise_format_errors_and_nothing_else"""

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        if path.exists() and path.is_file():
            bytearray(min(int.from_bytes(path.read_bytes()[:4], "little"), 2**28))
        return super().open(path, limits)


class PickleProofError(FormatError):
    """An error that does not come back from a pickle."""

    def __init__(self, problem: str) -> None:
        super().__init__("corrupt", "", problem)


class RaisesWhatCannotBePickled(Honest):
    """catches: test_errors_name_a_category_on_one_line_and_survive_pickling"""

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        try:
            return super().open(path, limits)
        except FormatError as error:
            raise PickleProofError(error.problem) from error


class EndsWithAFullStop(Honest):
    """catches: test_errors_name_a_category_on_one_line_and_survive_pickling"""

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        try:
            return super().open(path, limits)
        except FormatError as error:
            raise FormatError(error.category, error.where, error.problem + ".") from error


class LeaksADescriptor(Honest):
    """catches: test_descriptors_are_given_back"""

    leaked: ClassVar[list[int]] = []

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        if path.is_file():
            self.leaked.append(os.open(path, os.O_RDONLY))
        return super().open(path, limits)


class WaitsForAFifo(Honest):
    """catches: test_a_missing_file_and_a_fifo_are_refused"""

    def open(self, path: Path, limits: Limits) -> Checkpoint:
        with path.open("rb"):
            return super().open(path, limits)


class Suite(ReaderSuite):
    """The suite for one of the readers above; not collected, its name does not begin with Test."""

    claims = ("safetensors",)
    shapes = ((6, 8), (), (0, 3))
    mutations = 60
    seconds = 0.5

    def __init__(self, reader: Honest) -> None:
        self.reader = reader

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        path = folder / "model.safetensors"
        path.write_bytes(safetensors_bytes({name: stored.array for name, stored in tensors.items()}))
        return path


def _failure(suite: ReaderSuite, test: str, folder: Path) -> BaseException | None:
    folder.mkdir()
    method = getattr(suite, test)
    try:
        method(folder) if "tmp_path" in method.__annotations__ else method()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return error
    return None


TESTS = [name for name in vars(ReaderSuite) if name.startswith("test_")]


@pytest.mark.parametrize("test", TESTS)
def test_an_honest_reader_that_is_an_object_passes(tmp_path: Path, test: str) -> None:
    assert _failure(Suite(Honest()), test, tmp_path / "f") is None


@pytest.mark.parametrize("broken", Honest.__subclasses__(), ids=lambda kind: kind.__name__)
def test_a_reader_that_breaks_a_promise_is_caught(tmp_path: Path, broken: type[Honest]) -> None:
    wanted = (broken.__doc__ or "").removeprefix("catches: ")
    assert wanted in TESTS
    failure = _failure(Suite(broken()), wanted, tmp_path / "f")
    for descriptor in LeaksADescriptor.leaked:
        os.close(descriptor)
    LeaksADescriptor.leaked.clear()
    assert failure is not None
    assert not isinstance(failure, unittest.SkipTest)


def test_a_suite_without_write_is_skipped_not_passed(tmp_path: Path) -> None:
    class Nothing(ReaderSuite):
        reader = safetensors

    assert isinstance(_failure(Nothing(), "test_open_reads_the_header_only", tmp_path / "f"), unittest.SkipTest)


def test_the_suite_is_importable_without_pytest() -> None:
    program = "import sys, ww_static.testing; print('pytest' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]
