"""Imports point one way: every module may import only what stands below it on the list."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT

# From the bottom to the top; modules on one line do not import each other.
FLOORS = (
    (
        "errors",
        "spectral.missing",
        "memory",
        "version",
        "commands.options",
        "workers.spawning",
        "columns.column",
        "definitions.entry",
        "footprint",
        "atomic",
    ),
    (
        "columns.identity",
        "columns.norms",
        "columns.fit",
        "columns.space",
        "columns.bulk",
        "columns.phases",
        "columns.randomized",
        "columns.variants",
        "columns.certainty",
        "columns.alternatives",
        "columns.vectors",
        "columns.curves",
        "columns.pairs",
        "columns.trend",
        "columns.origin",
        "columns.crosscheck",
        "definitions.spectrum",
        "definitions.fits",
        "definitions.noise",
        "definitions.phases",
        "definitions.vectors",
        "definitions.pairs",
        "definitions.series",
        "definitions.transforms",
        "definitions.differences",
    ),
    ("dtypes", "rows", "options", "listing", "transforms.transform", "seeding", "outputs.texts"),
    ("protocol",),
    ("storage", "layout.adapter", "specimens", "transforms.placement"),
    ("rules.rule", "strays"),
    ("rules.files", "rules.values", "rules.spectra", "rules.drift", "rules.aggregates", "rules.bookkeeping"),
    ("rules.relations",),
    ("rules.catalogue", "rules.telling"),
    ("policies.policy",),
    ("policies.gate", "policies.suppressions", "policies.loading", "policies.audited"),
    ("policies.baselines",),
    ("policies.judgement", "policies.stored", "policies.discovery", "policies.effective", "policies.template"),
    ("policies.standing",),
    ("policies.record",),
    ("registry", "layout.facts"),
    ("seam", "layout.kinds"),
    ("layout.geometry", "models"),
    ("layout.lora",),
    ("layout.layers",),
    ("spectral.library", "spectral.extremes"),
    ("spectral.lapack",),
    (
        "spectral.gram",
        "spectral.scan",
        "spectral.batch",
        "spectral.windows",
        "spectral.localization",
        "spectral.families",
        "spectral.smallest",
        "spectral.steps",
        "spectral.minor",
        "spectral.unresolved",
        "spectral.marchenko_pastur",
        "spectral.tracy_widom",
        "spectral.permutation",
        "spectral.lanczos",
        "spectral.leading",
        "spectral.ranking",
        "spectral.subspaces",
        "spectral.similarity",
        "spectral.spiked",
    ),
    (
        "spectral.eigen",
        "spectral.powerlaw",
        "spectral.norms",
        "spectral.detx",
        "spectral.density",
        "spectral.statistics",
        "spectral.truncated",
    ),
    (
        "spectral.ranks",
        "spectral.lowrank",
        "spectral.stacked",
        "spectral.mp_fit",
        "spectral.bulk",
        "spectral.upper",
        "spectral.eigenvectors",
        "spectral.difference",
    ),
    (
        "spectral.randomized",
        "spectral.replicas",
        "spectral.variants",
        "spectral.vectors",
        "spectral.hill",
        "spectral.alternatives",
        "spectral.cutoff",
        "spectral.phases",
        "spectral.components",
        "spectral.zeros",
    ),
    ("measuring.reading", "measuring.measured", "measuring.surveys", "pairs.pairing"),
    (
        "measuring.tail_metrics",
        "measuring.alternative_metrics",
        "measuring.vector_metrics",
        "measuring.randomizing",
        "measuring.resampling",
        "measuring.windowing",
        "measuring.localizing",
    ),
    ("measuring.phase_metrics",),
    ("theory", "measuring.crosschecking"),
    ("measuring.truncating",),
    ("measuring.codes",),
    ("measuring.verdicts",),
    ("measuring.metrics",),
    ("measuring.blanks", "budget", "workers.confinement", "based"),
    ("measuring.analysis", "pairs.differing"),
    ("plan", "workers.executors", "workers.release", "workers.starting"),
    ("workers.tasks", "findings", "workers.dispatch", "measuring.copies", "costs", "pairs.pair_rows", "pairs.accuracies"),
    ("pairs.pair_tasks", "workers.preload", "planning", "transforms.rewriting"),
    ("workers.sharing", "workers.gathering"),
    ("engine", "depth", "schema"),
    ("summary",),
    ("tables", "explaining", "pairs.comparison"),
    ("outputs.placing",),
    ("outputs.audit_page",),
    ("outputs.render", "outputs.progress", "doctor", "outputs.sarif", "outputs.junit", "outputs.workflow"),
    ("outputs.writers",),
    ("results", "outputs.delivery"),
    ("api",),
    ("calibration", "transforms.transforming", "pairs.comparing"),
    ("against",),
    ("auditing",),
    ("pairs.trending", "commands.runs"),
    (
        "commands.laws",
        "commands.transforms",
        "commands.compare",
        "commands.audit",
        "commands.analyze",
        "commands.readers",
        "commands.about",
        "commands.policy",
        "commands.rules",
    ),
    ("cli", "testing"),
    ("__main__",),
)
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax"}
PACKAGE = ROOT / "ww_static"
READERS = ROOT / "readers" / "ww_static_readers"


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function, as a dotted name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules() -> dict[str, Path]:
    found = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in found.items() if name.split(".")[-1] != "__init__"}


def test_every_module_has_a_floor() -> None:
    assert set(modules()) == set(FLOOR)


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_imports_point_down(name: str) -> None:
    for target in imported(modules()[name]):
        inner = target.removeprefix("ww_static.")
        if target.startswith("ww_static.") and inner in FLOOR:
            assert FLOOR[inner] < FLOOR[name], f"{name} imports {inner}"
        assert not target.startswith("ww_static_readers"), "readers come in through their entry points"


@pytest.mark.parametrize("name", sorted(name for name in FLOOR if name.startswith("spectral.")))
def test_the_core_imports_numpy_and_itself_only(name: str) -> None:
    for target in imported(modules()[name]):
        root = target.split(".")[0]
        allowed = root == "numpy" or root in sys.stdlib_module_names
        assert allowed or target.startswith(("ww_static.spectral", "ww_static.errors")), f"{name} imports {target}"


def test_readers_import_the_contract_their_private_modules_and_never_each_other() -> None:
    allowed = {f"ww_static.{name}" for name in ("protocol", "dtypes", "storage", "errors")}
    private = {path.stem for path in READERS.glob("_[!_]*.py")}
    shared = {f"{READERS.name}.{name}" for name in private}
    for path in READERS.glob("*.py"):
        for target in imported(path):
            if target.startswith("ww_static"):
                whole = target in ("ww_static", READERS.name)  # `from package import name` gives package.name as well
                inner = any(target == one or target.startswith(one + ".") for one in allowed | shared)
                assert whole or inner, f"{path.name} imports {target}"


def test_the_private_modules_of_readers_import_no_reader_and_stand_in_one_order() -> None:
    order = (
        "_unique", "_zip", "_inflated", "_sparse", "_onnx_wire", "_onnx_values", "_onnx_calls", "_onnx_roles", "_onnx_graph", "_onnx_codes",
        "_strict_json", "_shards", "_hdf5_file", "_hdf5_attributes", "_hdf5", "_hdf5_values", "_keras_config", "_keras_einsum", "_keras_heads", "_keras_names",
        "_keras_file", "_keras_index", "_source", "_pickle_nodes", "_pickle_operands", "_pickle", "_torch_values", "_torch_rebuild",
        "_torch_names", "_tree", "_torch_records", "_checkpoint", "_torch_export", "_torch_archive", "_torch_stream", "_tiling",
        "_torch_distributed_index", "_torch_distributed",
    )  # fmt: skip  # from the bottom to the top
    assert {path.stem for path in READERS.glob("_[!_]*.py")} == set(order)
    for number, name in enumerate(order):
        targets = {target.split(".")[1] for target in imported(READERS / f"{name}.py") if target.startswith(f"{READERS.name}.")}
        assert targets <= set(order[:number]), name


def test_no_framework_is_imported_anywhere() -> None:
    for path in (*PACKAGE.rglob("*.py"), *READERS.glob("*.py")):
        assert not FRAMEWORKS & {target.split(".")[0] for target in imported(path)}, path
    text = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[0]
    assert not any(f'"{name}' in text for name in FRAMEWORKS)
