"""One HDF5 file as a list of tensors: which layout of Keras it has, what its attributes say, the spec of each dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ww_static.errors import FormatError
from ww_static.protocol import Extent, Finding, Limits, TensorSpec
from ww_static_readers import _hdf5
from ww_static_readers._hdf5 import Dataset, Tree
from ww_static_readers._hdf5_attributes import Attributes
from ww_static_readers._hdf5_file import Library, Stretch, superblock
from ww_static_readers._keras_config import Config, looked_at
from ww_static_readers._keras_names import Names, Use

_MODEL = "model_weights"
_ROOT_ATTRIBUTES = ("model_config", "training_config", "keras_version", "backend", "layer_names")
_NUMBERED = re.compile(r"(?:^|/)vars/\d+$")
_MOST_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Contents:
    """What one file holds.

    Attributes:
        specs: its tensors.
        datasets: name of a tensor -> where its values are.
        groups: paths of the groups of the file.
        findings: what it gave away.
    """

    specs: tuple[TensorSpec, ...]
    datasets: Mapping[str, Dataset]
    groups: frozenset[str]
    findings: tuple[Finding, ...]


def read_file(stretch: Stretch, path: str, file: str, limits: Limits, config: bytes | None = None) -> Contents:
    """Lists the tensors of an HDF5 file.

    Args:
        stretch: where it lies.
        path: of the file that it lies in, for extents.
        file: name of that file, relative to the folder of the model.
        limits: what it may ask for.
        config: the configuration beside it, when there is one.

    Raises:
        FormatError: the file is malformed.
    """
    block = superblock(stretch)
    library = Library(stretch)
    try:
        tree = _hdf5.walk(library, stretch, block, limits)
    finally:
        library.close()
    texts = _Texts(Attributes(stretch, block, limits), tree)
    root = texts.of("", _ROOT_ATTRIBUTES)
    layers: dict[str, str | None] = {}
    sources = [(one[0], where) for where in ("model_config", "training_config") if (one := root.get(where))]
    for raw, where in [*([(config, "config.json")] if config is not None else []), *sources]:
        found: Config = looked_at(raw, where, limits)
        texts.findings.extend(found.findings)
        layers.update(found.layers)
    paths = [one.name for one in tree.datasets]
    whole = _MODEL in tree.groups
    layer_names = texts.of(_MODEL, ("layer_names",)) if whole else root
    numbered = any(_NUMBERED.search(name) for name in paths)
    legacy = "layer_names" in layer_names or (whole and "model_config" in root)
    if legacy:
        texts.check_names(_MODEL if whole else "", layer_names.get("layer_names", []), paths)
    called = texts.names_of_layers() if numbered else {}
    names = Names({one.name: one.shape for one in tree.datasets}, layers, called)
    keras = legacy or numbered or config is not None
    shown = _shown(paths, whole and legacy)
    specs = []
    for one in tree.datasets:
        use = names.use(one.name) if keras and not _is_state(one.name) else Use()
        calling = names.called(one.name) if numbered else None
        specs.append(_spec(one, shown[one.name], use, stretch, path, file, "keras" if keras else None, calling))
    datasets = {shown[one.name]: one for one in tree.datasets}
    findings = (*(replace(one, tensor=shown.get(one.tensor or "", one.tensor)) for one in tree.findings), *texts.findings)
    return Contents(tuple(specs), datasets, frozenset(tree.groups), findings)


def _is_state(name: str) -> bool:
    """State of an optimizer, which stands beside the weights."""
    return name.split("/", 1)[0] in ("optimizer", "optimizer_weights")


def _shown(paths: Sequence[str], whole: bool) -> dict[str, str]:
    """The name of each tensor: its path, below the weights of a legacy model unless that is the path of another one."""
    if not whole:
        return {path: path for path in paths}
    below = {path: path.removeprefix(f"{_MODEL}/") for path in paths}
    return below if len(set(below.values())) == len(below) else {path: path for path in paths}


def _spec(
    one: Dataset, name: str, use: Use, stretch: Stretch, path: str, file: str, layout: str | None, called: str | None
) -> TensorSpec:
    flat = one.offset is not None and not one.swapped and stretch.data is None
    encoding = "compressed" if one.filters else "raw"
    if one.refusal is not None or not one.stored:
        encoding = "unsupported" if one.refusal is not None else "absent"
    return TensorSpec(
        name=name,
        dtype=one.dtype,
        shape=one.shape,
        file=file,
        axes=use.axes,
        layout=layout,
        extent=Extent(path, stretch.begin + (one.offset or 0), one.nbytes) if flat else None,
        encoding=encoding,
        role=use.role,
        op_path=called,
    )


class _Texts:
    """The attributes of groups; one that cannot be read is a finding and nothing more."""

    def __init__(self, attributes: Attributes, tree: Tree) -> None:
        self.findings: list[Finding] = []
        self._attributes = attributes
        self._tree = tree

    def of(self, group: str, wanted: Sequence[str]) -> dict[str, list[bytes]]:
        """The `wanted` text attributes of a group, those that are split joined."""
        where = f"group '{group:.200}'"
        try:
            found = self._attributes.texts(self._tree.groups[group], wanted, where)
        except FormatError as error:
            self._note(Finding(error.category, error.where or where, error.problem))
            return {}
        for name in wanted:
            number = 0
            while name not in found or number:
                part = found.get(f"{name}{number}")
                if part is None:
                    break
                found[name] = [*found.get(name, []), *part]
                number += 1
        return found

    def check_names(self, above: str, layers: Sequence[bytes], paths: Sequence[str]) -> None:
        """Every layer and weight that the attributes list must be there."""
        known = set(paths)
        for raw in layers:
            layer = raw.decode("utf-8", "backslashreplace")
            group = f"{above}/{layer}".lstrip("/")
            if group not in self._tree.groups:
                self._note(Finding("index_mismatch", "layer_names", f"lists '{layer:.200}', which is not there"))
                continue
            for weight in self.of(group, ("weight_names",)).get("weight_names", []):
                name = f"{group}/{weight.decode('utf-8', 'backslashreplace')}"
                if name not in known:
                    self._note(Finding("index_mismatch", "weight_names", f"lists '{name:.200}', which is not there"))

    def names_of_layers(self) -> dict[str, str]:
        """Path of a group of Keras 3 -> the user's name of its layer, where the file says it."""
        called = {}
        for group in self._tree.groups:
            above, _, last = group.rpartition("/")
            name = self.of(group, ("name",)).get("name") if last == "vars" and above else None
            if name:
                called[above] = name[0].decode("utf-8", "backslashreplace")
        return called

    def _note(self, finding: Finding) -> None:
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(finding)
