"""ReaderSuite: the conformance tests that any reader, ours or theirs, must pass.

A reader's own tests subclass it; pytest collects the subclass, this module never imports pytest:

    from ww_static.testing import ReaderSuite, Stored
    import my_reader

    class TestMyReader(ReaderSuite):
        reader = my_reader
        dtypes = ("F32", "F64")

        def write(self, folder, tensors):
            path = folder / "model.mine"
            path.write_bytes(encode({name: stored.array for name, stored in tensors.items()}))
            return path
"""

from __future__ import annotations

import gc
import math
import os
import pickle
import subprocess
import sys
import unittest
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import dtypes, footprint, specimens
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import SNIFF_BYTES, Checkpoint, Limits, Window
from ww_static.seam import OpenCheckpoint
from ww_static.specimens import Stored as Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax")


class ReaderSuite:
    """The reader contract as tests. See `ww_static.protocol` for the contract itself.

    Attributes:
        reader: the module or object with `sniff` and `open`.
        dtypes: storage dtypes that the format can hold.
        shapes: shapes that the format can hold.
        names: tensor names that the format can hold, at least two.
        claims: formats of `specimens.FOREIGN_HEADS` that the reader rightly recognizes, its own first of all.
        large_shape: a tensor of the first dtype of this shape is written to measure memory; some megabytes.
        mutations: how many damaged files are tried.
        seconds: that any one call may take.
    """

    reader: Any
    dtypes: tuple[str, ...] = ("F32",)
    shapes: tuple[tuple[int, ...], ...] = ((6, 8), (4,), (), (0, 3), (2, 3, 4), (1, 1), (3, 0), (1, 2, 1, 4))
    names: tuple[str, ...] = ("w", "layer.0.weight", "../../up;x", "модель/%s{0}\n\x1b[31m", "")
    claims: tuple[str, ...] = ()
    large_shape: tuple[int, ...] = (4096, 512)
    mutations: int = 400
    seconds: float = 20.0

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        """Writes a file of the format and returns its path. `samples` is the alternative to it."""
        raise unittest.SkipTest("the suite has no write() for this format")

    def samples(self, folder: Path) -> list[tuple[Path, Mapping[str, Stored]]]:
        """Small files with the tensors that they hold: by default one per storage dtype, one with every name."""
        made = []
        for number, dtype in enumerate(self.dtypes):
            inner = folder / f"sample{number}"
            inner.mkdir()
            held = {f"t{place}": specimens.stored(dtype, shape, place) for place, shape in enumerate(self.shapes)}
            whole = {name: stored for name, stored in held.items() if dtypes.nbytes(dtype, stored.array.size) is not None}
            made.append((self.write(inner, whole), whole))
        (folder / "names").mkdir()
        shape = max(self.shapes, key=lambda shape: (math.prod(shape), shape))
        named = {name: specimens.stored(self.dtypes[0], shape, place) for place, name in enumerate(self.names)}
        return [*made, (self.write(folder / "names", named), named)]

    # recognizing

    def test_sniff_recognizes_its_own_files_by_content(self, tmp_path: Path) -> None:
        for path, _ in self.samples(tmp_path):
            head = _head(path)
            assert self.reader.sniff(path, head) is True, f"{path.name} is not recognized"
            assert self.reader.sniff(Path("nowhere") / path.name, head) is True, (
                "sniff needs the file: it must only see the head"
            )
            assert self.reader.sniff(Path("nowhere/model.bin"), head) is True, "sniff goes by the name: content decides"

    def test_sniff_refuses_what_is_something_else(self) -> None:
        for name, head in specimens.FOREIGN_HEADS.items():
            if name not in self.claims:
                assert self.reader.sniff(Path("nowhere/model.bin"), head) is False, f"takes a {name} head for its own"

    def test_sniff_raises_nothing_for_any_head(self, tmp_path: Path) -> None:
        generator = specimens.seeded(1)
        heads = [generator.bytes(int(size)) for size in generator.integers(0, SNIFF_BYTES + 1, 300)]
        for path, _ in self.samples(tmp_path):
            head = _head(path)
            heads += [head[:size] for size in range(len(head) + 1)]
            heads += [specimens.mutated(head, generator)[:SNIFF_BYTES] for _ in range(100)]
        for head in [*heads, *specimens.FOREIGN_HEADS.values(), bytes(SNIFF_BYTES), b"\xff" * SNIFF_BYTES]:
            assert type(self.reader.sniff(Path("nowhere/model.bin"), head)) is bool

    def test_models_names_files_of_the_folder_and_nothing_else(self, tmp_path: Path) -> None:
        if not hasattr(self.reader, "models"):  # optional
            return
        odd = [
            "",
            "README.md",
            "\x1b[31m\n",
            "x" * 5000,
            "..",
            "a/b",
            "\udcff",
            "-00001-of-00002",
            *(path for path in self.names),
        ]
        for path, _ in self.samples(tmp_path):
            claimed = self.reader.models([*odd, path.name])
            assert path.name in [one.file for one in claimed], f"{path.name} is not claimed"
            for one in claimed:
                assert one.file in [*odd, path.name], f"'{one.file}' was made up"
                assert one.model, f"'{one.file}' has no name"
        assert list(self.reader.models([])) == []

    # opening

    def test_open_lists_each_tensor_once_as_it_was_written(self, tmp_path: Path) -> None:
        for path, held in self.samples(tmp_path):
            with self._opened(path) as checkpoint:
                specs = {spec.name: spec for spec in checkpoint.tensors}
                assert len(specs) == len(checkpoint.tensors), "a name comes twice"
                assert set(specs) == set(held)
                for name, stored in held.items():
                    assert (specs[name].dtype, specs[name].shape) == (stored.dtype, stored.array.shape), name
                    assert specs[name].encoding in ("raw", "compressed", "quantized", "sparse")
                    assert not os.path.isabs(specs[name].file), "file is relative to the folder of the model"
                    assert ".." not in Path(specs[name].file).parts, "file stays in the folder of the model"
                assert checkpoint.tensors == checkpoint.tensors, "the list of tensors changes"

    def test_open_reads_the_header_only(self, tmp_path: Path) -> None:
        path, stored = self._large(tmp_path)
        self._open(path).close()  # imports are not part of the cost
        before = footprint.bytes_read()
        with footprint.peak() as peak, closing(self._open(path)) as checkpoint:
            assert len(checkpoint.tensors) == 2
        assert peak[0] < stored.array.nbytes // 4, f"open takes {peak[0]} bytes of memory for a short header"
        assert footprint.bytes_read() - before < stored.array.nbytes // 4, "open reads the payload"

    def test_open_does_not_look_at_values(self, tmp_path: Path) -> None:
        for path, _ in self.samples(tmp_path):
            with closing(self._open(path)) as checkpoint:
                specs = list(checkpoint.tensors)
            for spec in specs:
                if spec.extent is not None and spec.extent.nbytes:
                    with Path(spec.extent.path).open("r+b") as stream:
                        stream.seek(spec.extent.offset)
                        stream.write(b"\xff" * spec.extent.nbytes)
            with closing(self._open(path)) as checkpoint:
                assert list(checkpoint.tensors) == specs

    def test_limits_on_the_number_of_tensors_and_axes_are_kept(self, tmp_path: Path) -> None:
        path, held = self.samples(tmp_path)[-1]
        axes = max(stored.array.ndim for stored in held.values())
        limits = [Limits(tensors=len(held) - 1)] + [Limits(rank=axes - 1)] * (axes > 0)
        for limit in limits:
            try:
                OpenCheckpoint(path, "suite", self._open(path, limit), limit).close()
            except LimitError:
                continue
            raise AssertionError(f"a file beyond {limit} was opened")

    def test_a_missing_file_and_a_fifo_are_refused(self, tmp_path: Path) -> None:
        bad = [tmp_path / "missing"]
        if hasattr(os, "mkfifo"):
            os.mkfifo(tmp_path / "fifo")
            bad.append(tmp_path / "fifo")
        for path in bad:
            with footprint.in_time(path.name, self.seconds):
                assert self._error_of(path) is not None, f"a {path.name} was opened"

    # reading

    def test_read_gives_the_stored_values_in_the_storage_dtype(self, tmp_path: Path) -> None:
        for path, held in self.samples(tmp_path):
            with self._opened(path) as checkpoint:
                for spec in [*checkpoint.tensors, *reversed(checkpoint.tensors)]:
                    specimens.same(checkpoint.direct.read(spec), held[spec.name].array, spec, ())
                    specimens.same(checkpoint.read(spec), held[spec.name].array, spec, ())

    def test_read_of_a_window_is_the_window_of_the_whole(self, tmp_path: Path) -> None:
        generator = specimens.seeded(2)
        for path, held in self.samples(tmp_path):
            with self._opened(path) as checkpoint:
                for spec in checkpoint.tensors:
                    for window in specimens.windows(spec.shape, generator):
                        expected = held[spec.name].array[window]
                        specimens.same(checkpoint.direct.read(spec, window), expected, spec, window)
                        specimens.same(checkpoint.read(spec, window), expected, spec, window)

    def test_a_small_window_of_a_large_tensor_costs_little_memory(self, tmp_path: Path) -> None:
        path, stored = self._large(tmp_path)
        size = self.large_shape[0]
        with self._opened(path) as checkpoint:
            spec = next(spec for spec in checkpoint.tensors if spec.shape == self.large_shape)
            checkpoint.read(spec, (slice(0, 1),))
            windows: list[Window] = [(slice(size - 2, size),), (slice(5, 6),), (slice(size // 2, size // 2 - 2, -1),)]
            windows += [(slice(None), slice(3, 4))] if len(self.large_shape) > 1 else []
            for window in windows:
                with footprint.peak() as peak:
                    result = checkpoint.direct.read(spec, window)
                specimens.same(result, stored.array[window], spec, window)
                allowed = 16 * result.size * 8 + (1 << 18)
                assert peak[0] < min(allowed, stored.array.nbytes // 4), f"{peak[0]} bytes of memory for {result.nbytes}"

    def test_arrays_stay_valid_when_the_checkpoint_is_closed(self, tmp_path: Path) -> None:
        for path, held in self.samples(tmp_path):
            checkpoint = self._open(path)
            arrays = [(spec, checkpoint.read(spec)) for spec in checkpoint.tensors]
            checkpoint.close()
            del checkpoint
            gc.collect()
            for spec, array in arrays:
                specimens.same(array, held[spec.name].array, spec, ())

    def test_two_open_checkpoints_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        samples = self.samples(tmp_path)
        (path, held), (other_path, other_held) = samples[0], samples[-1]
        with closing(self._open(path)) as first, closing(self._open(other_path)) as other:
            self._open(path).close()
            for spec in first.tensors:
                specimens.same(first.read(spec), held[spec.name].array, spec, ())
            for spec in other.tensors:
                specimens.same(other.read(spec), other_held[spec.name].array, spec, ())
            for spec in first.tensors:
                specimens.same(first.read(spec), held[spec.name].array, spec, ())

    def test_extents_are_where_the_values_lie(self, tmp_path: Path) -> None:
        import numpy as np

        for path, held in self.samples(tmp_path):
            with closing(self._open(path)) as checkpoint:
                for spec in checkpoint.tensors:
                    if spec.extent is None:
                        continue
                    raw = Path(spec.extent.path).read_bytes()
                    assert 0 <= spec.extent.offset <= spec.extent.offset + spec.extent.nbytes <= len(raw)
                    if spec.encoding != "raw":
                        continue
                    flat = np.frombuffer(raw, np.uint8, spec.extent.nbytes, spec.extent.offset)
                    codes = dtypes.unpack(flat, spec.dtype) if dtypes.DTYPES[spec.dtype].packed else flat
                    assert codes.tobytes() == held[spec.name].array.tobytes(), f"'{spec.name}' is not at its extent"

    # damage

    def test_damaged_files_raise_format_errors_and_nothing_else(self, tmp_path: Path) -> None:
        for number, (path, _) in enumerate((self.samples(tmp_path)[0], self.samples(_below(tmp_path, "again"))[-1])):
            original = path.read_bytes()
            generator = specimens.seeded(3 + number)
            for attempt in range(self.mutations):
                path.write_bytes(specimens.mutated(original, generator))
                self._survives(path, f"mutation {attempt} of sample {number}")

    def test_truncated_files_raise_format_errors_and_never_give_other_values(self, tmp_path: Path) -> None:
        path, held = self.samples(tmp_path)[0]
        original = path.read_bytes()
        lengths = {*range(min(len(original), 400)), *range(0, len(original), len(original) // 200 + 1), len(original) - 1}
        for length in sorted(lengths):
            path.write_bytes(original[:length])
            for name, array in self._survives(path, f"cut to {length} bytes of {len(original)}").items():
                assert name in held, f"cut to {length} bytes: tensor '{name}' is made up"
                assert array.tobytes() == held[name].array.tobytes(), f"cut to {length} bytes: '{name}' has other values"

    def test_errors_name_a_category_on_one_line_and_survive_pickling(self, tmp_path: Path) -> None:
        path, _ = self.samples(tmp_path)[-1]
        original = path.read_bytes()
        errors = [self._error_of(tmp_path / "missing")]
        for length in range(0, len(original), len(original) // 50 + 1):
            path.write_bytes(original[:length])
            errors.append(self._error_of(path))
        for error in filter(None, errors):
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), copy.args, str(copy)) == (type(error), error.args, str(error))
            assert error.category.isidentifier(), f"category '{error.category}'"
            assert error.category.islower(), f"category '{error.category}'"
            assert error.problem.rstrip(".") == error.problem != "", f"problem '{error.problem}' ends with a full stop"
            assert str(error).isprintable(), "the message has control characters or a second line"

    # housekeeping

    def test_descriptors_are_given_back(self, tmp_path: Path) -> None:
        path, _ = self.samples(tmp_path)[0]
        broken = path.with_name("broken-" + path.name)
        broken.write_bytes(path.read_bytes()[:-1][:40])
        before = footprint.descriptors()
        for _ in range(100):
            self._survives(path, "the intact sample")
            self._survives(broken, "cut to 40 bytes")
        gc.collect()
        assert footprint.descriptors() == before, "descriptors are left open"

    def test_no_framework_is_imported(self, tmp_path: Path) -> None:
        path, _ = self.samples(tmp_path)[0]
        is_module = type(self.reader) is type(os)
        module = self.reader.__name__ if is_module else type(self.reader).__module__
        program = (
            "import importlib, pathlib, sys\n"
            "from ww_static.protocol import Limits\n"
            "reader = importlib.import_module(sys.argv[1])\n"
            "if sys.argv[2] == 'True':\n"
            "    checkpoint = reader.open(pathlib.Path(sys.argv[3]), Limits())\n"
            "    [checkpoint.read(spec) for spec in checkpoint.tensors]\n"
            "    checkpoint.close()\n"
            f"print([name for name in {FRAMEWORKS} if name in sys.modules])\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        command = [sys.executable, "-c", program, module, str(is_module), str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stdout + done.stderr

    # what the tests are made of

    def _open(self, path: Path, limits: Limits | None = None) -> Checkpoint:
        checkpoint: Checkpoint = self.reader.open(path, limits or Limits())
        return checkpoint

    @contextmanager
    def _opened(self, path: Path) -> Iterator[_Both]:
        direct = self._open(path)
        with closing(_Both(path, "suite", direct, Limits())) as checkpoint:
            checkpoint.direct = direct
            yield checkpoint

    def _large(self, folder: Path) -> tuple[Path, Stored]:
        stored = specimens.stored(self.dtypes[0], self.large_shape, 0)
        small = specimens.stored(self.dtypes[0], max(self.shapes, key=math.prod), 1)
        return self.write(folder, {self.names[0]: stored, self.names[1]: small}), stored

    def _survives(self, path: Path, what: str) -> dict[str, NDArray[Any]]:
        """Opens and reads all of it, as far as it can be read; anything but a FormatError is a failure."""
        values: dict[str, NDArray[Any]] = {}
        with footprint.in_time(what, self.seconds):
            try:
                with footprint.peak() as peak:
                    checkpoint = self._open(path)
                with closing(checkpoint):
                    for spec in checkpoint.tensors:
                        small = math.prod(spec.shape) < 1 << 20
                        array = checkpoint.read(spec, () if small else (slice(0, 1),) * len(spec.shape))
                        values.update({spec.name: array} if small else {})
            except FormatError:
                pass
            except Exception as error:
                raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        assert peak[0] < 1 << 26, f"{what}: open takes {peak[0]} bytes of memory"
        return values

    def _error_of(self, path: Path) -> FormatError | None:
        try:
            with closing(self._open(path)) as checkpoint:
                for spec in checkpoint.tensors:
                    checkpoint.read(spec)
        except FormatError as error:
            return error
        return None


class _Both(OpenCheckpoint):
    """A checkpoint behind the seam, and the same one as the reader gave it."""

    direct: Checkpoint


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(SNIFF_BYTES)


def _below(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name
