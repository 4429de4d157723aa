"""smooth and sharpen: a new safetensors file with the tensors of a model, some of them without some singular components.

This process writes the header and makes the file as large as it will be; workers map their part of it and fill it. The
file appears under its name when all of it is there.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, replace
from functools import partial
from typing import IO, Any

from ww_static import api, atomic, costs, dtypes, engine, findings, planning, seam
from ww_static.budget import Budget, Need, Room, budget_of
from ww_static.errors import FormatError, LimitError, UsageError, WorkerDiedError, as_format_error
from ww_static.layout.layers import LayerView
from ww_static.options import Options
from ww_static.plan import Plan, Settings, stored_bytes
from ww_static.protocol import Limits, TensorSpec
from ww_static.results import Result
from ww_static.rows import ChangeRow
from ww_static.transforms import rewriting
from ww_static.transforms.placement import Placement, placement
from ww_static.transforms.transform import SHARPEN, Transform, smoothing
from ww_static.workers import executors, tasks
from ww_static.workers.dispatch import Crew, Task, drain
from ww_static.workers.executors import WorkerExecutor
from ww_static.workers.tasks import Target

_SUFFIX = ".safetensors"
_COPY_BYTES = 2**25  # private memory that is set aside for copying
_SPARE_BYTES = 2**27  # beyond what a transform should need, before the system refuses it more


def smooth(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    method: str = "detX",
    percent: float | None = None,
    layers: str | Sequence[str] = (),
    kinds: str | Sequence[str] = (),
    jobs: int | str = 1,
    max_memory: int | str | None = None,
    readers: Sequence[str] | None = None,
    limits: Limits | None = None,
    timeout: float = 30.0,
    executor: Executor | None = None,
    progress: Callable[[engine.Progress], None] | None = None,
) -> Result:
    """Writes a model whose matrices keep their largest singular components only; every other tensor stays bit for bit.

    Args:
        path: one model, in any format that can be read.
        output: the new file, ``.safetensors``; never one of the files that are read.
        method: how many components stay: ``detX`` (detX_num), ``rmt`` (num_spikes), ``lambda_min`` (num_pl_spikes), or ``svd``:
            `percent` of them.
        percent: of the method ``svd``, 0.8 when None; when negative, that share of the largest ones goes instead.
        layers, kinds, jobs, max_memory, readers, limits, timeout, executor, progress: as for `analyze`.

    Returns:
        A result whose `rows` are `ChangeRow`: one per row that `analyze` would give for a tensor that was selected.

    Raises:
        FormatError: the model cannot be read, or not be kept in this format; then there is no new file.
        UsageError: an option means nothing, or the output is a file of the model.
        OSError: the output cannot be written.
    """
    options = Options(layers=api.texts(layers), kinds=api.texts(kinds))
    settings = api.settings_of(jobs, max_memory, readers, limits, timeout)
    return transformed(path, output, smoothing(method, percent), options, settings, executor, progress)


def sharpen(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: str | Sequence[str] = (),
    kinds: str | Sequence[str] = (),
    jobs: int | str = 1,
    max_memory: int | str | None = None,
    readers: Sequence[str] | None = None,
    limits: Limits | None = None,
    timeout: float = 30.0,
    executor: Executor | None = None,
    progress: Callable[[engine.Progress], None] | None = None,
) -> Result:
    """Writes a model without correlation traps: each matrix is permuted, loses what is above its Tracy-Widom edge, and is put back.

    Args:
        path, output: as for `smooth`.
        seed: of the permutations, which depend on it and on the names of the tensors alone.
        layers, kinds, jobs, max_memory, readers, limits, timeout, executor, progress: as for `analyze`.

    Returns, Raises: as for `smooth`.
    """
    options = Options(layers=api.texts(layers), kinds=api.texts(kinds), seed=seed)
    settings = api.settings_of(jobs, max_memory, readers, limits, timeout)
    return transformed(path, output, SHARPEN, options, settings, executor, progress)


def transformed(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    transform: Transform,
    options: Options,
    settings: Settings,
    executor: Executor | None = None,
    progress: Callable[[engine.Progress], None] | None = None,
) -> Result:
    """`smooth` and `sharpen` with their options made; the arguments are theirs."""
    path, output = os.fspath(path), os.fspath(output)
    if not output.lower().endswith(_SUFFIX):
        raise UsageError(f"output '{output}' does not end in {_SUFFIX}")
    with executors.hired(engine.most_workers(settings, options), executor) as crew:
        trial = planning.Trial()
        plan = _planned(path, options, settings, crew, trial)
        _check_output(output, plan)
        placed = placement(plan.specs, plan.metadata)
        budget = replace(budget_of(plan.views, options, settings.max_memory), backend=trial.answer)
        work = _Work(plan, placed, transform, options, settings, budget, progress)
        with atomic.replacing(output) as stream:
            _make(stream, placed)
            work.perform(crew, os.path.abspath(stream.name))
    return work.result()


def _planned(path: str, options: Options, settings: Settings, executor: Executor, trial: planning.Trial) -> Plan:
    """The one model that a path means, opened, with something in it to transform."""
    sources = planning.locate([path], settings, executor)
    if len(sources) != 1:
        words = "holds no model" if not sources else f"holds {len(sources)} models, one at a time can be transformed"
        raise UsageError(f"'{path}' {words}")
    slots = 1 if isinstance(executor, WorkerExecutor) else None
    (plan,) = planning.plan_models(sources, options, settings, executor, slots, beside=[trial.task()])
    if plan.error is not None:
        raise plan.error
    if not any(view.reason is None for view in _views(plan)):
        words = "no tensor was selected" if not plan.views else "no selected tensor holds a matrix"
        raise FormatError("nothing_to_analyse", "", words, path)
    return plan


def _views(plan: Plan) -> list[LayerView]:
    """The views of stored tensors, none of which holds an element twice: the parts of a tensor, else its whole."""
    names = {spec.name for spec in plan.specs}
    stored = [view for view in plan.views if view.left is None and view.spec.name in names]
    split = {view.spec.name for view in stored if view.part not in (None, "whole")}
    return [view for view in stored if view.part != "whole" or view.spec.name not in split]


def _check_output(output: str, plan: Plan) -> None:
    """Refuses to write over what is read, and where there is no folder."""
    folder = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(folder):
        raise UsageError(f"output '{output}': there is no folder '{folder}'")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"output '{output}': folder '{folder}' cannot be written to")
    if os.path.isdir(output):
        raise UsageError(f"output '{output}' is a folder")
    if not os.path.exists(output):
        return
    for identity in plan.identities:
        if os.path.samefile(output, identity.path):
            raise UsageError(f"output '{output}' is a file of the model: transforms write a new one")


def _make(stream: IO[bytes], placed: Placement) -> None:
    """The header, and room for everything after it: a disk that is too small says so now."""
    stream.write(placed.head)
    stream.flush()
    try:
        os.posix_fallocate(stream.fileno(), 0, placed.nbytes)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        os.truncate(stream.fileno(), placed.nbytes)  # neither every system nor every file system can promise room


class _Work:
    """The tasks of one transform, and what they gave."""

    def __init__(
        self,
        plan: Plan,
        placed: Placement,
        transform: Transform,
        options: Options,
        settings: Settings,
        budget: Budget,
        progress: Callable[[engine.Progress], None] | None,
    ) -> None:
        self._plan, self._placed, self._transform = plan, placed, transform
        self._options, self._settings, self._budget, self._progress = options, settings, budget, progress
        self._target = Target(plan.source.path, settings, plan.identities, uuid.uuid4().hex)
        self._views: dict[str, list[LayerView]] = {}
        for view in _views(plan):
            self._views.setdefault(view.spec.name, []).append(view)
        self._rows: dict[tuple[str, str | None], ChangeRow] = {}
        self._done = self._total = 0.0

    def perform(self, executor: Executor, path: str) -> None:
        """Fills the file at `path`, or raises what is in the way."""
        work: list[Task[Any]] = [*self._copies(self._copied(), path), *self._rewrites(path)]
        self._total = sum(task.cost for task in work)
        slots = self._slots() if isinstance(executor, WorkerExecutor) else None
        crew = Crew(executor, slots, self._budget.free(slots or 0), self._settings.timeout)
        try:
            drain(crew, work, self._advance)
            for identity in self._plan.identities:
                seam.check_same(identity, seam.identify(identity.path))
        except FormatError as error:
            raise error.at(self._plan.source.path) from error
        finally:
            tasks.close_kept(self._target.run)

    def _slots(self) -> int:
        jobs = self._settings.jobs
        if jobs is None:
            jobs = engine.most_workers(self._settings, self._options) if self._total > costs.WORTH_WORKERS else 1
        needed = [(view, self._need(view)) for views in self._views.values() for view in views]
        return min(jobs, self._budget.most_workers(needed))

    def _advance(self, task: Task[Any]) -> None:
        self._done += task.cost
        if self._progress is not None:
            self._progress(engine.Progress(min(self._done, self._total), self._total, task.label))

    def _need(self, view: LayerView) -> Need:
        nbytes = rewriting.bytes_needed(view, self._transform, self._budget.backend) if view.reason is None else 0
        return Need(0.0, Room(nbytes, nbytes), Room(nbytes, nbytes))

    def _possible(self, view: LayerView) -> bool:
        """Whether a view is transformed at all; when not, its row says why."""
        storage = dtypes.storage_dtype(view.spec.dtype)
        reason = view.reason or ("quantized" if view.quantized else None)
        if reason is None and (storage.packed or storage.family != "float"):
            reason = "unsupported_dtype"
        if reason is not None:
            row = rewriting.change(view, self._transform, status="skipped", reason=reason, message=view.message)
        elif not self._budget.fits(view, need := self._need(view)):
            words = f"needs {need.plain.least} bytes of private memory, beside {self._budget.overhead} for processes and rows"
            row = rewriting.failed(view, self._transform, "memory_limit", words)
        else:
            return True
        self._rows[view.spec.name, view.part] = row
        return False

    def _copied(self) -> list[TensorSpec]:
        """The tensors that are copied as a whole; the views of the others are left."""
        self._views = {name: [view for view in views if self._possible(view)] for name, views in self._views.items()}
        return [spec for spec in self._plan.specs if not self._views.get(spec.name)]

    def _copies(self, specs: Iterable[TensorSpec], path: str) -> Iterable[Task[None]]:
        most = min(self._settings.limits.reading_bytes, self._budget.total)
        for batch in costs.tensors_together(specs):
            copies = tuple((spec.name, self._place(spec, path)) for spec in batch)
            cost = 2 * costs.of_survey(sum(stored_bytes(spec) for spec in batch))
            arguments = (self._target, copies)
            yield Task(rewriting.copy_tensors, arguments, 0, cost, _COPY_BYTES, most, batch[-1].name, self._copied_well)

    def _copied_well(self, found: BaseException | None) -> Sequence[Task[Any]]:
        if isinstance(found, MemoryError):
            raise LimitError("memory_limit", "", "a tensor could not be copied: ran out of memory")
        if found is not None:
            raise as_format_error(found)
        return ()

    def _place(self, spec: TensorSpec, path: str) -> rewriting.Place:
        return rewriting.Place(path, self._placed.offsets[spec.name])

    def _rewrites(self, path: str) -> Iterable[Task[list[ChangeRow]]]:
        for name, views in self._views.items():
            if not views:
                continue
            spec, needs = views[0].spec, [self._need(view) for view in views]
            need = max(self._budget.bytes(one) for one in needs)
            flops = sum(rewriting.flops_needed(view, self._transform) for view in views)
            cost = 4 * costs.of_survey(stored_bytes(spec)) + sum(costs.of_row(view, 0.0) for view in views)
            cost += costs.of_row(views[0], flops)
            most = max(2 * need + _SPARE_BYTES, min(self._settings.limits.reading_bytes, self._budget.total))
            rewrite = rewriting.Rewrite(
                tuple(views), self._place(spec, path), self._transform, self._options, self._budget.backend, "auto"
            )
            done = partial(self._rewritten, views=views, path=path)
            yield Task(rewriting.rewrite_tensor, (self._target, rewrite), 0, cost, need, most, name, done)

    def _rewritten(
        self, found: Sequence[ChangeRow] | BaseException, views: Sequence[LayerView], path: str
    ) -> Iterable[Task[Any]]:
        """Keeps the rows of a tensor; where its worker died, or ran out of memory, the tensor is copied after all."""
        spec = views[0].spec
        if not isinstance(found, BaseException):
            self._rows.update({(spec.name, row.part): row for row in found})
            return ()
        if not isinstance(found, (MemoryError, WorkerDiedError)):
            raise as_format_error(found)
        reason = "memory_limit" if isinstance(found, MemoryError) else "reader_crash"
        words = "ran out of memory" if isinstance(found, MemoryError) else found.problem
        self._rows.update({(spec.name, view.part): rewriting.failed(view, self._transform, reason, words) for view in views})
        return self._copies([spec], path)

    def result(self) -> Result:
        """The rows, in the order of the plan."""
        plan = self._plan
        keys = dict.fromkeys((view.spec.name, view.part) for view in plan.views)
        rows = tuple(replace(self._rows[key], model_id=plan.source.model_id) for key in keys if key in self._rows)
        found = tuple(findings.plan_findings(plan))
        unread = any(row.inconclusive for row in found) or any(
            row.reason in findings.INCONCLUSIVE or (row.status == "failed" and row.reason != "nonfinite") for row in rows
        )
        counts = {status: sum(row.status == status for row in rows) for status in ("changed", "unchanged", "failed")}
        skipped: dict[str, int] = {}
        for row in rows:
            if row.status == "skipped":
                skipped[str(row.reason)] = skipped.get(str(row.reason), 0) + 1
        return Result(
            table="changes",
            rows=rows,
            finding_rows=found,
            file_rows=tuple(findings.file_rows(plan, {})),
            summary={**counts, "skipped": dict(sorted(skipped.items())), "not_selected": plan.not_selected},
            parameters={
                **asdict(self._transform),
                "seed": self._options.seed,
                "layers": self._options.layers,
                "kinds": self._options.kinds,
            },
            exit_code=3 if unread else 0,
        )
