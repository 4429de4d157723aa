"""What a Keras file gives when it is opened: tensors, findings, values, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

import ww_static as ww
from keras_files import values
from ww_static.errors import FormatError
from ww_static.protocol import Limits, TensorSpec

DENSE = {"dense/kernel:0": values(24, 16), "dense/bias:0": values(16)}
VARS = {"layers/dense/vars/0": values(24, 16), "layers/dense/vars/1": values(16)}


def specs(path: Path, limits: Limits | None = None) -> dict[str, TensorSpec]:
    with ww.open(path, limits=limits) as checkpoint:
        assert checkpoint.reader == "keras"
        return {spec.name: spec for spec in checkpoint.tensors}


def found(path: Path) -> list[tuple[str, str]]:
    with ww.open(path) as checkpoint:
        return [(one.category, one.where) for one in checkpoint.findings]


def problem(path: Path, limits: Limits | None = None) -> FormatError:
    with pytest.raises(FormatError) as caught:
        specs(path, limits)
    return caught.value


def read(path: Path, name: str) -> NDArray[Any]:
    with ww.open(path) as checkpoint:
        return checkpoint.read(checkpoint.spec(name))
