"""Damaged Keras files: in a child process, for libhdf5 may die of them; whatever comes out is one of our errors."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_files import archive, configuration, keras3, layer, legacy, put, values
from support import ROOT

DENSE = {"layers/dense/vars/0": values(24, 16), "layers/dense/vars/1": values(16)}
DEFLATED: dict[str, Any] = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True}
RUNS = 340  # for each kind of file: some 2,000 together
PROGRAM = """
import math, sys
from pathlib import Path
import numpy as np
from ww_static.errors import FormatError
from ww_static.protocol import Limits
from ww_static.seam import OpenCheckpoint
from ww_static_readers import keras

path, begin, end = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
original = path.read_bytes()
for run in range(begin, end):
    generator = np.random.default_rng([run, len(original)])
    data = bytearray(original)
    for _ in range(int(generator.integers(1, 41 if run % 3 else 4))):
        place = int(generator.integers(len(data)))
        data[place] = int(generator.choice([0, 1, 127, 128, 254, 255, int(generator.integers(256))]))
    if run % 5 == 0:
        del data[int(generator.integers(len(data))):]
    damaged = path.with_name("damaged-" + path.name)
    damaged.write_bytes(data)
    print(run, end=" ", flush=True)
    try:
        with OpenCheckpoint(damaged, "keras", keras.open(damaged, Limits()), Limits()) as checkpoint:
            for spec in checkpoint.tensors:
                small = math.prod(spec.shape) < 1 << 20
                checkpoint.read(spec, () if small else (slice(0, 1),) * len(spec.shape))
        print("read", flush=True)
    except FormatError as error:
        print(error.category if error.category != "reader_crash" else repr(error), flush=True)
"""
OUTCOMES = {
    "read", "bad_header", "truncated", "corrupt", "corrupt_archive", "crc_mismatch", "limit", "bomb", "overflow", "unsupported",
    "missing_part", "duplicate_name", "no_data", "path_escape", "unsafe_link",
}  # fmt: skip


def _whole(path: Path) -> None:
    config = configuration(layer("Dense", "dense"), layer("Lambda", "l"))
    legacy(path, {"dense": {"dense/kernel:0": values(24, 16)}}, config, {"adam/m:0": values(3, 3)})


def _latest(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        put(file, {"a": values(9, 9)}, chunks=(4, 4), maxshape=(None, None))
        put(file, DENSE)
        file["layers/dense/vars"].attrs["name"] = "user"


KINDS: dict[str, Callable[[Path], object]] = {
    "legacy.h5": _whole,
    "numbered.weights.h5": lambda path: keras3(path, DENSE, {"layers/dense/vars": "user"}),
    "deflated.weights.h5": lambda path: keras3(path, DENSE, None, **DEFLATED),
    "lzf.h5": lambda path: keras3(path, {"w": values(24, 16)}, chunks=(8, 8), compression="lzf"),
    "scaled.h5": lambda path: keras3(path, {"w": np.arange(99, dtype="<i4").reshape(9, 11)}, chunks=(4, 4), scaleoffset=0),
    "latest.h5": _latest,
    "archive.keras": lambda path: archive(path, DENSE, method=zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("name", list(KINDS))
def test_a_damaged_file_ends_as_values_or_as_one_of_our_errors(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path / name)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.fspath(ROOT / "tests"), *filter(None, sys.path)])}
    outcomes: list[str] = []
    deaths, begin = 0, 0
    while begin < RUNS:
        command = [sys.executable, "-c", PROGRAM, os.fspath(tmp_path / name), str(begin), str(RUNS)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
        outcomes += [line[1] for line in lines if len(line) > 1 and line[1]]
        assert done.returncode <= 0, done.stderr
        deaths += done.returncode < 0
        begin = RUNS if done.returncode == 0 else begin + len(lines)
    assert set(outcomes) <= OUTCOMES
    assert {"read", "truncated"} <= set(outcomes) or name.endswith(".keras")
    assert deaths <= 2, "libhdf5 dies of more than a damaged file in a hundred"
