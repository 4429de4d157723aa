"""A model and the one it was made from, as one checkpoint: what a fine-tune changed, or what an adapter makes of its base.

A difference is a tensor like any other, of float64, so that everything that is known about tensors holds for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import dtypes, seam
from ww_static.errors import FormatError
from ww_static.layout import facts, lora
from ww_static.layout.lora import Cut, Delta
from ww_static.pairs import pairing
from ww_static.protocol import Finding, Limits, TensorSpec, Window
from ww_static.seam import OpenCheckpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PREFIX = "base_model.model."  # what PEFT puts before the names of the base
_WHOLE = Cut("flatten", 1, 1)


def open_model(path: str, limits: Limits, readers: Sequence[str] | None, base: str | None) -> OpenCheckpoint:
    """The checkpoint at `path`; with a `base`, its difference from it, or for an adapter, both together.

    Raises:
        FormatError: one of the two cannot be read; for the base, `where` names it.
    """
    if base is None:
        return seam.open_checkpoint(path, limits, readers)
    with ExitStack() as opened:
        model = opened.enter_context(seam.open_checkpoint(path, limits, readers))
        try:
            before = opened.enter_context(seam.open_checkpoint(base, limits, readers))
        except FormatError as error:
            where = ": ".join(part for part in (f"base '{os.path.basename(base)}'", error.where) if part)
            raise type(error)(error.category, where, error.problem, path) from error
        made = _Adapted(model, before, limits) if lora.has_factors(model.tensors) else _Difference(model, before)
        both = _Both(Path(path), model.reader, made, limits)
        opened.pop_all()
    return both


class _Both(OpenCheckpoint):
    """Two models as one, which know how their elements are rounded."""

    def __init__(self, path: Path, reader: str, made: _Adapted | _Difference, limits: Limits) -> None:
        super().__init__(path, reader, made, limits)
        self._made = made

    def read_rounded(self, spec: TensorSpec, window: Window = ()) -> tuple[NDArray[Any], float | None]:
        """`read`, and the mean squared rounding of the elements of a tensor that both models make."""
        return self._made.read_rounded(spec, window)


class _Based:
    """What both kinds have in common; a `Checkpoint` of the reader contract."""

    def __init__(self, model: OpenCheckpoint, base: OpenCheckpoint) -> None:
        self._model, self._base = model, base
        self.findings: tuple[Finding, ...] = model.findings
        self.files = tuple(one.path for one in (*model.identities[1:], *base.identities))

    def close(self) -> None:
        """Closes both."""
        try:
            self._model.close()
        finally:
            self._base.close()


class _Difference(_Based):
    """W - W_base of every tensor that both have, by name or by name without a prefix."""

    def __init__(self, model: OpenCheckpoint, base: OpenCheckpoint) -> None:
        super().__init__(model, base)
        named = pairing.counterparts((spec.name for spec in base.tensors), (spec.name for spec in model.tensors))
        found = [base.spec(named[spec.name][0]) if spec.name in named else None for spec in model.tensors]
        self.tensors = tuple(_changed(spec, other) for spec, other in zip(model.tensors, found, strict=True))
        self._before = {  # of the tensors that are differences
            spec.name: other
            for spec, other, one in zip(model.tensors, found, self.tensors, strict=True)
            if other is not None and one.reason is None and _is_number(spec)
        }

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """The window of the difference, float64; of other tensors as they are stored."""
        own, before = self._model.spec(spec.name), self._before.get(spec.name)
        if before is None:
            return self._model.read(own, window)
        change: NDArray[Any] = _values(self._model, own, window) - _values(self._base, before, window)
        return change

    def read_rounded(self, spec: TensorSpec, window: Window = ()) -> tuple[NDArray[Any], float | None]:
        """`read`, and the mean squared rounding of both tensors; None of a tensor that is no difference."""
        own, before = self._model.spec(spec.name), self._before.get(spec.name)
        if before is None:
            return self._model.read(own, window), None
        new, old = _values(self._model, own, window), _values(self._base, before, window)
        change: NDArray[Any] = new - old
        return change, _squared_rounding(new, own) + _squared_rounding(old, before)


class _Adapted(_Based):
    """An adapter, and W + s B A of every tensor of the base that it has factors for, under the name of that tensor."""

    def __init__(self, model: OpenCheckpoint, base: OpenCheckpoint, limits: Limits) -> None:
        super().__init__(model, base)
        by_name = {spec.name: spec for spec in model.tensors}
        known, _ = facts.beside(model.path, limits)
        known, _ = facts.of_adapter(model.path, known, limits)
        targets = {spec.name: spec for spec in base.tensors}
        self._deltas: dict[str, Delta] = {}
        self._latest: tuple[str, tuple[NDArray[Any], NDArray[Any]]] | None = None
        merged: list[TensorSpec] = []
        for pair in lora.pairs(by_name, known).values():
            name = f"{pair.module.removeprefix(_PREFIX)}.weight"
            delta = lora.delta(pair, known.adapter, _WHOLE)
            found = self._target(name, delta, targets)
            if found is not None and name not in by_name and name not in self._deltas:
                self._deltas[name] = delta
                merged.append(found)
        self.tensors = (*model.tensors, *merged)

    def _target(self, name: str, delta: Delta, targets: Mapping[str, TensorSpec]) -> TensorSpec | None:
        """The tensor W + s B A; None, and a finding, when it cannot be made."""
        if delta.left is None:
            return None  # the row of the product says why
        spec, where, tensor = targets.get(name), f"tensor '{delta.spec.name}'", delta.spec.name
        if spec is None:
            self.findings += (Finding("no_pair", where, f"the base has no tensor '{name:.200}'", tensor),)
        elif spec.shape != delta.spec.shape:
            words = f"the base has shape {list(spec.shape)}, the product {list(delta.spec.shape)}"
            self.findings += (Finding("shape_mismatch", where, words, tensor),)
        elif len(spec.shape) != 2:
            words = "a convolution and its adapter are not put together"
            self.findings += (Finding("unsupported_layout", where, words, tensor),)
        elif not _is_number(spec):
            self.findings += (Finding("unsupported_dtype", where, f"the base holds {spec.dtype}", tensor),)
        else:
            return _as_double(spec)
        return None

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """The window of W + s B A, float64; of the adapter's own tensors as they are stored."""
        delta = self._deltas.get(spec.name)
        if delta is None:
            return self._model.read(self._model.spec(spec.name), window)
        rows, columns = (*window, *(slice(None),) * (2 - len(window)))
        first, second = self._factors(spec.name, delta)
        product = (1.0 if delta.factor is None else delta.factor) * (first[rows] @ second[columns].T)
        merged: NDArray[Any] = _values(self._base, self._base.spec(spec.name), window) + product
        return merged

    def read_rounded(self, spec: TensorSpec, window: Window = ()) -> tuple[NDArray[Any], float | None]:
        """`read`, and the mean squared rounding of the tensor of the base; None of the adapter's own tensors."""
        values = self.read(spec, window)
        if spec.name not in self._deltas:
            return values, None
        own = self._base.spec(spec.name)
        return values, _squared_rounding(_values(self._base, own, window), own)

    def _factors(self, name: str, delta: Delta) -> tuple[NDArray[Any], NDArray[Any]]:
        """The factors whose product is of the shape of the tensor of the base; those of the last tensor are kept."""
        from ww_static.measuring import reading

        if self._latest is None or self._latest[0] != name:
            assert delta.left is not None  # `_target` has looked
            self._latest = None  # never those of two tensors at once
            B, A = reading.product_factors(self._model, delta.tensors, delta.left, delta.parts[0].matrices[0])
            self._latest = (name, (A, B) if delta.turned else (B, A))
        return self._latest[1]


def _changed(spec: TensorSpec, base: TensorSpec | None) -> TensorSpec:
    """The difference from a tensor of the base; as it is, with the reason, when there is none."""
    if spec.reason is not None or not _is_number(spec):
        return spec
    if base is None or not _is_number(base):
        return replace(spec, reason="no_pair")
    return _as_double(spec) if base.shape == spec.shape else replace(spec, reason="shape_mismatch")


def _as_double(spec: TensorSpec) -> TensorSpec:
    return replace(spec, dtype="F64", encoding="raw", extent=None)


def _is_number(spec: TensorSpec) -> bool:
    """Whether a tensor holds numbers that can be subtracted."""
    readable = spec.encoding == "quantized" or (
        spec.encoding in ("raw", "compressed") and dtypes.storage_dtype(spec.dtype).family == "float"
    )
    return readable and spec.reason is None


def _values(checkpoint: OpenCheckpoint, spec: TensorSpec, window: Window) -> NDArray[Any]:
    """Stored values as float64."""
    from ww_static.measuring import reading  # loads numpy, which a process that only shares out work does not need

    return dtypes.widen(checkpoint.read(spec, window), reading.value_dtype(spec))


def _squared_rounding(values: NDArray[Any], spec: TensorSpec) -> float:
    """Mean squared rounding of stored values: a twelfth of the squared step of codes, or what the type does to their squares."""
    import numpy as np

    from ww_static.spectral.steps import squared_steps
    from ww_static.spectral.zeros import relative_rounding

    if not values.size:
        return 0.0
    if spec.encoding == "quantized":
        return float(squared_steps(values).max(initial=0.0)) / 12
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found by whoever looks at the values
        return relative_rounding(dtypes.storage_dtype(spec.dtype).epsilon) * float(np.square(values).mean())
