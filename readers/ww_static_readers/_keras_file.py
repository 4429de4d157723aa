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
from ww_static_readers._keras_config import Layer, looked_at
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


def read_file(
    stretch: Stretch, path: str, file: str, limits: Limits, called: dict[str, str], config: bytes | None = None
) -> Contents:
    """Lists the tensors of an HDF5 file.

    Args:
        stretch: where it lies.
        path: of the file that it lies in, for extents.
        file: name of that file, relative to the folder of the model.
        limits: what it may ask for.
        called: path of a group of Keras 3 -> the user's name of its layer; what the file says is added, for it is said in
            one shard only.
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
    layers = texts.classes(root, config, limits)
    paths = [found.name for found in tree.datasets]
    above = _MODEL if _MODEL in tree.groups else ""
    listed = (texts.of(above, ("layer_names",)) if above else root).get("layer_names")
    texts.check_names(above, listed or [], paths)
    numbered = any(_NUMBERED.search(name) for name in paths)
    if numbered:
        called.update(texts.names_of_layers())
    names = Names({found.name: found.shape for found in tree.datasets}, layers, called)
    keras = bool(above) or listed is not None or numbered or config is not None
    shown = _shown(paths, above)
    specs = []
    for found in tree.datasets:
        use = names.use(found.name) if keras and not _is_state(found.name) else Use()
        user = names.called(found.name) if numbered else None
        specs.append(_spec(found, shown[found.name], use, stretch, path, file, "keras" if keras else None, user))
    datasets = {shown[found.name]: found for found in tree.datasets}
    findings = (*(replace(one, tensor=shown.get(one.tensor or "", one.tensor)) for one in tree.findings), *texts.findings)
    return Contents(tuple(specs), datasets, frozenset(tree.groups), findings)


def _is_state(name: str) -> bool:
    """State of an optimizer, which stands beside the weights."""
    return name.split("/", 1)[0] in ("optimizer", "optimizer_weights")


def _shown(paths: Sequence[str], above: str) -> dict[str, str]:
    """The name of each tensor: its path, below the weights of a legacy model unless that is the path of another one."""
    below = {path: path.removeprefix(f"{above}/") if above else path for path in paths}
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
        reason=use.reason,
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

    def classes(self, root: Mapping[str, list[bytes]], beside: bytes | None, limits: Limits) -> dict[str, Layer | None]:
        """Name of a layer -> what it is, from every configuration that there is; what they would run is found."""
        layers: dict[str, Layer | None] = {}
        sources = [("config.json", beside)] if beside is not None else []
        sources += [(name, root[name][0]) for name in ("model_config", "training_config") if root.get(name)]
        for where, raw in sources:
            found = looked_at(raw, where, limits)
            self.findings.extend(found.findings)
            layers.update(found.layers)
        return layers

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
