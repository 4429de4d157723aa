"""Sparse matrices of scipy: read as the dense ones, by window, whatever their form; every index checked, every size limited."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

import ww_static as ww
from ww_static import cli
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Limits
from ww_static.rows import LayerRow
from ww_static.seam import open_checkpoint

Array = NDArray[Any]


def matrix(seed: int = 3, shape: tuple[int, int] = (150, 90), density: float = 0.08, dtype: str = "float64") -> Array:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * (rng.random(shape) < density) + 0.0  # a sparse matrix has no -0
    return np.asarray(values.astype(dtype))


def saved(path: Path, W: Array, form: str = "csr", compressed: bool = True) -> Path:
    scipy.sparse.save_npz(path, scipy.sparse.coo_matrix(W).asformat(form), compressed=compressed)
    return path


def remade(path: Path, change: Callable[[dict[str, Array]], None]) -> Path:
    """The archive with some of its arrays changed."""
    with np.load(path) as found:
        arrays = dict(found)
    change(arrays)
    np.savez(path, **arrays)
    return path


def whole(path: Path, limits: Limits | None = None) -> Array:
    with open_checkpoint(path, limits) as checkpoint:
        (spec,) = checkpoint.tensors
        return checkpoint.read(spec)


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_matrix_reads_as_the_dense_one(tmp_path: Path, form: str, compressed: bool, dtype: str) -> None:
    W = matrix(dtype=dtype)
    with open_checkpoint(saved(tmp_path / "tfidf.npz", W, form, compressed)) as checkpoint:
        (spec,) = checkpoint.tensors
        assert (spec.name, spec.shape, spec.encoding) == ("tfidf", (150, 90), "sparse")
        np.testing.assert_array_equal(checkpoint.read(spec), W)
        for window in (
            (slice(3, 40), slice(10, 60)),
            (slice(None), slice(5, 6)),
            (slice(149, 2, -7), slice(80, None, -3)),
            (slice(0, 150, 4),),
            (slice(20, 20), slice(None)),
        ):
            np.testing.assert_array_equal(checkpoint.read(spec, window), W[window])


def test_a_scipy_array_is_told_from_a_matrix_by_a_flag_that_means_nothing(tmp_path: Path) -> None:
    W = matrix()
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.csr_array(W))
    np.testing.assert_array_equal(whole(tmp_path / "a.npz"), W)


def test_entries_that_are_stored_twice_add_up(tmp_path: Path) -> None:
    twice = scipy.sparse.coo_matrix(([1.0, 2.0, 4.0], ([0, 0, 2], [1, 1, 3])), shape=(4, 5))
    scipy.sparse.save_npz(tmp_path / "m.npz", twice)
    np.testing.assert_array_equal(whole(tmp_path / "m.npz"), twice.toarray())


def test_the_row_is_that_of_the_dense_matrix(tmp_path: Path) -> None:
    W = matrix(shape=(90, 200))
    np.save(tmp_path / "dense.npy", W)
    saved(tmp_path / "sparse.npz", W)
    names = (
        "alpha",
        "xmin",
        "D",
        "norm",
        "stable_rank",
        "content_hash",
        "zero_fraction",
        "N",
        "M",
        "num_evals",
        "status",
        "kind",
    )
    found = []
    for name in ("dense.npy", "sparse.npz"):
        (row,) = ww.analyze(tmp_path / name).rows
        assert isinstance(row, LayerRow)
        found.append({one: getattr(row, one) for one in names})
    assert found[0]["alpha"] is not None
    assert found[0] == found[1]


def test_an_empty_matrix_is_zero(tmp_path: Path) -> None:
    assert not whole(saved(tmp_path / "m.npz", np.zeros((12, 9)))).any()


def lower(arrays: dict[str, Array]) -> None:
    arrays["indptr"][3] = arrays["indptr"][2] - 1


@pytest.mark.parametrize(
    ("change", "category", "problem"),
    [
        (lambda a: a["indices"].__setitem__(4, 90), "bad_header", "array 'indices': index 90 is outside of 90"),
        (lambda a: a["indices"].__setitem__(0, -1), "bad_header", "array 'indices': index -1 is outside of 90"),
        (lambda a: a["indptr"].__setitem__(0, 1), "bad_header", "goes from 1 to"),
        (lambda a: a["indptr"].__setitem__(-1, 5), "bad_header", "goes from 0 to 5"),
        (lower, "bad_header", "array 'indptr': falls"),
        (lambda a: a.update(indptr=a["indptr"][:-1]), "size_mismatch", "array 'indptr': has 150 elements, 151 are needed"),
        (lambda a: a.update(indices=a["indices"][:-1]), "size_mismatch", "array 'indices': has"),
        (lambda a: a.update(indices=a["indices"].astype(np.float32)), "bad_header", "dtype F32 holds no indices"),
        (lambda a: a.update(data=a["data"][:, None]), "bad_header", "array 'data': has 2 axes, 1 is needed"),
        (lambda a: a.update(shape=np.array([150, 90, 1])), "bad_header", "array 'shape': is not two counts"),
        (lambda a: a.update(shape=np.array([150, -90])), "bad_header", "is no shape of a matrix"),
        (lambda a: a.update(format=np.array(b"xyz")), "bad_header", "'xyz' is no form of a sparse matrix"),
        (lambda a: a.update(format=np.array(b"coo")), "bad_header", "'coo' is no form of a sparse matrix with these arrays"),
        (lambda a: a.update(format=np.array(b"csr matrix")), "bad_header", "is not one word of three letters"),
        (lambda a: a.update(data=np.array(["x"] * 5)), "bad_header", "an array of the sparse matrix holds no numbers"),
    ],
)
def test_damage_is_refused(tmp_path: Path, change: Callable[[dict[str, Array]], None], category: str, problem: str) -> None:
    path = remade(saved(tmp_path / "m.npz", matrix()), change)
    with pytest.raises(FormatError, match=problem.replace("(", r"\(")) as caught:
        whole(path)
    assert caught.value.category == category


def test_objects_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    path = remade(saved(tmp_path / "m.npz", matrix()), lambda a: a.update(data=np.array([object()], dtype=object)))
    with pytest.raises(FormatError):
        whole(path)


@pytest.mark.parametrize("form", ["bsr", "dia"])
def test_other_forms_say_what_to_do(tmp_path: Path, form: str) -> None:
    with pytest.raises(UnknownFormatError, match=f"a sparse matrix in {form} form; save it as csr, csc or coo"):
        whole(saved(tmp_path / "m.npz", np.eye(8), form))


def test_limit_sparse_entries(tmp_path: Path) -> None:
    W = matrix()
    count = int(np.count_nonzero(W))
    path = saved(tmp_path / "m.npz", W)
    np.testing.assert_array_equal(whole(path, Limits(sparse_entries=count)), W)
    with pytest.raises(LimitError, match=f"{count} entries, limit {count - 1}"):
        whole(path, Limits(sparse_entries=count - 1))


def test_a_few_entries_cannot_declare_a_huge_matrix(tmp_path: Path) -> None:
    huge = scipy.sparse.coo_matrix(([1.0], ([5], [7])), shape=(2**20, 2**20))
    scipy.sparse.save_npz(tmp_path / "m.npz", huge)
    with pytest.raises(LimitError, match="8796093022208 bytes as a dense matrix"):
        whole(tmp_path / "m.npz")


def test_the_command_line_names_the_file_and_the_fact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = remade(saved(tmp_path / "m.npz", matrix()), lambda a: a["indices"].__setitem__(4, 90))
    assert cli.run(["analyze", str(path)]) == 3
    said = capsys.readouterr()
    assert "index 90 is outside of 90" in said.out + said.err


def test_an_archive_with_more_than_a_sparse_matrix_is_arrays(tmp_path: Path) -> None:
    path = remade(saved(tmp_path / "m.npz", matrix()), lambda a: a.update(extra=np.eye(3)))
    with open_checkpoint(path) as checkpoint:
        assert {spec.name for spec in checkpoint.tensors} >= {"data", "indices", "indptr", "shape", "extra"}


def test_a_directory_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.npz", matrix(), compressed=False)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        place = archive.getinfo("data.npy").header_offset
    content[place + 22] ^= 1  # the size in the member's own header
    path.write_bytes(bytes(content))
    with pytest.raises(FormatError):
        whole(path)
