"""One model, opened once: what there is, and what will be done with each tensor. Reads headers only."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ww_static import based, dtypes, seam, storage, strays
from ww_static.budget import Need
from ww_static.errors import FormatError, LimitError
from ww_static.layout import facts, layers, lora
from ww_static.layout.layers import LayerView
from ww_static.models import Source
from ww_static.options import Options
from ww_static.protocol import Finding, Limits, TensorSpec
from ww_static.seam import Identity, OpenCheckpoint

_UNSAFE = ("unsafe_pickle", "embedded_code", "unknown_global")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is carried out. Nothing here changes a number in a row that is computed.

    Attributes:
        jobs: most worker processes, fewer when memory is short; None chooses by the work and the processors at hand.
        max_memory: private memory of all processes together, in bytes; None for a share of what the machine has.
        limits: what a file may ask for.
        readers: names of the readers that may be used; None for all.
        timeout: seconds that a worker may be busy with a file beyond what its size explains.
        time_budget: seconds after which nothing more is begun; what is left out says ``time_limit``.
    """

    jobs: int | None = 1
    max_memory: int | None = None
    limits: Limits = field(default_factory=Limits)
    readers: tuple[str, ...] | None = None
    timeout: float = 30.0
    time_budget: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One model, opened once: what there is and what will be done with it.

    Attributes:
        source, reader, identities, specs: the model, what opened it, its files and its tensors.
        views: what is a row, skipped or not.
        needs: what each of the views takes.
        not_selected: tensors that the options leave out.
        findings: what was found on the way.
        metadata: what the header says beside the tensors.
        error: why it cannot be read; then there is nothing else.
    """

    source: Source
    reader: str = ""
    identities: tuple[Identity, ...] = ()
    specs: tuple[TensorSpec, ...] = ()
    views: tuple[LayerView, ...] = ()
    needs: tuple[Need, ...] = ()
    not_selected: int = 0
    findings: tuple[Finding, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    error: FormatError | None = None


def plan_model(source: Source, options: Options, settings: Settings) -> Plan:
    """Opens a model, reads its header and ``config.json``, and decides what is done with each tensor."""
    from ww_static.measuring import analysis  # loads numpy, which a process that only shares out work does not need

    beside = _beside(source, settings)
    try:
        contained = _contained(source)
        with based.open_model(source.path, settings.limits, settings.readers, source.base) as checkpoint:
            opened = checkpoint.identities[0]
            if contained is not None and contained != (opened.device, opened.inode):
                raise FormatError("changed_while_reading", "", "another file has taken its name", source.path)
            known, notes = _facts(checkpoint, settings.limits)
            views = layers.layer_table(checkpoint.tensors, known, options.conv, settings.limits)
            chosen = tuple(_sized(view, options) for view in views if options.selects(view.spec.name, view.kind))
            return Plan(
                source=source,
                reader=checkpoint.reader,
                identities=checkpoint.identities,
                specs=checkpoint.tensors,
                views=chosen,
                needs=tuple(analysis.need(view, options) for view in chosen),
                not_selected=len({view.spec.name for view in views}) - len({view.spec.name for view in chosen}),
                findings=(*checkpoint.findings, *notes, *beside),
                metadata=checkpoint.metadata,
            )
    except FormatError as error:
        return Plan(source, findings=beside, error=error)
    except MemoryError:
        return Plan(source, findings=beside, error=LimitError("limit", "header", too_large(settings), source.path))


def _beside(source: Source, settings: Settings) -> tuple[Finding, ...]:
    """What lies beside a model and is not read; of a twin that is loaded by unpickling, what its header gives away."""
    found = [Finding("duplicate_variant", name, "lies beside the model and was not read") for name in source.beside]
    seen: set[str] = set()
    for name in source.beside:
        path = os.path.join(source.root or "", name)
        if not strays.is_twin(name) or os.path.realpath(path) in seen:
            continue
        try:
            _contained(replace(source, path=path, shown=name))
            with seam.open_checkpoint(path, settings.limits, settings.readers) as checkpoint:
                seen.update(os.path.realpath(identity.path) for identity in checkpoint.identities)
                found += [replace(one, where=name, tensor=None) for one in checkpoint.findings if one.category in _UNSAFE]
        except FormatError as error:  # what else is wrong with it does not matter to the model: that it was not read is told
            if error.category in _UNSAFE:
                found.append(Finding(error.category, name, error.problem))
        except MemoryError:
            found.append(Finding("limit", name, too_large(settings)))
    return tuple(dict.fromkeys(found))


def without_parts(plans: Sequence[Plan]) -> list[Plan]:
    """The plans without those of files that a scan found and that are whole parts of another model, which an index names.

    A file that another only takes bytes from stays a model: all its tensors must be listed there as they are here.
    """
    owners = {
        (part.device, part.inode): number
        for number, plan in enumerate(plans)
        for part in (plan.identities[1:] if plan.error is None else ())
    }
    held: dict[int, set[object]] = {}
    result: dict[int, Plan] = dict(enumerate(plans))
    for number, plan in enumerate(plans):
        if plan.source.root is None or plan.error is not None or not plan.specs:
            continue
        own = plan.identities[0]
        place = owners.get((own.device, own.inode), number)
        if place == number or place not in result or result[place].reader != plan.reader:
            continue
        if place not in held:
            held[place] = {_described(spec, plans[place]) for spec in plans[place].specs}
        if all(_described(spec, plan) in held[place] for spec in plan.specs):
            more = tuple(finding for finding in plan.findings if finding not in result[place].findings)
            result[place] = replace(result[place], findings=(*result[place].findings, *more))
            del result[number]
    return list(result.values())


def _described(spec: TensorSpec, plan: Plan) -> object:
    """A tensor and the file that it is in, whatever model it is listed under."""
    folder = os.path.dirname(plan.source.path)
    return os.path.realpath(os.path.join(folder, spec.file)), spec.name, spec.dtype, spec.shape, spec.encoding


def _facts(checkpoint: OpenCheckpoint, limits: Limits) -> tuple[facts.Facts, tuple[Finding, ...]]:
    """What lies beside a model and is about it: the configuration of an adapter is, when the model holds factors of one."""
    known, notes = facts.beside(checkpoint.path, limits)
    if not checkpoint.path.name.startswith("adapter_model") and not lora.has_factors(checkpoint.tensors):
        return known, notes
    known, more = facts.of_adapter(checkpoint.path, known, limits)
    return known, notes + more


def too_large(settings: Settings) -> str:
    """What is wrong with a header that a worker has no room for."""
    return f"does not fit into {settings.limits.reading_bytes} bytes of memory"


def _contained(source: Source) -> tuple[int, int] | None:
    """Device and inode of a file that a scan found, when no link leads out of the folder; None for one that was named.

    Raises:
        UnsafeFileError: ``path_escape``.
    """
    if source.root is None:
        return None
    try:
        descriptor = storage.open_listed(source.root, source.shown)
    except FormatError as error:
        raise error.at(source.path) from error
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return status.st_dev, status.st_ino


def _sized(view: LayerView, options: Options) -> LayerView:
    """The view, skipped when the user's own limits say so."""
    count = view.num_evals
    if count is None:
        return view
    if options.max_m is not None and (view.m or 0) > options.max_m:
        return replace(view, matrices=(), reason="profile")
    too_few = options.min_evals is not None and count < options.min_evals
    too_many = options.max_evals is not None and count > options.max_evals
    return replace(view, matrices=(), reason="size_limit") if too_few or too_many else view


def file_bytes(plan: Plan) -> int:
    """Bytes of all files of the model."""
    return sum(identity.size for identity in plan.identities)


def tensor_bytes(plan: Plan) -> int:
    """Stored bytes of the tensors that were selected."""
    chosen = {spec.name: spec for view in plan.views for spec in view.tensors}
    return sum(stored_bytes(spec) for spec in chosen.values())


def stored_bytes(spec: TensorSpec) -> int:
    """Bytes to go through for the values of a tensor: where they do not lie flat, as many as they have."""
    if spec.extent is not None:
        return spec.extent.nbytes
    return math.prod(spec.shape) * dtypes.storage_dtype(spec.dtype).bits // 8
