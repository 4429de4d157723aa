"""The rows of a run as they come in: each at its place and at those of its copies, handed over in plan order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ww_static import findings
from ww_static.errors import LimitError, as_format_error
from ww_static.layout.layers import LayerView
from ww_static.measuring import blanks, copies
from ww_static.measuring.surveys import Survey
from ww_static.options import Options
from ww_static.plan import Plan
from ww_static.rows import FileRow, FindingRow, LayerRow


class Gathered:
    """The rows of some models.

    Args:
        plans: of the models, in the order of the result.
        options: of the run.
        on_row: called with each row as soon as it and all rows before it are there.
    """

    def __init__(self, plans: Sequence[Plan], options: Options, on_row: Callable[[LayerRow], None] | None) -> None:
        self._plans = plans
        self._options = options
        self._on_row = on_row
        self._rows: list[list[LayerRow | None]] = [[None] * len(plan.views) for plan in plans]
        self._emitted = (0, 0)

    def put(self, number: int, place: int, row: LayerRow) -> None:
        """A row of a model at its place."""
        self._rows[number][place] = row

    def fill(self, number: int, place: int, places: Sequence[int], found: LayerRow | BaseException, tensor: Survey) -> None:
        """Puts a row, or what became of it, at its place and at those of its copies."""
        plan = self._plans[number]
        for other in places:
            twin = plan.views[other]
            if isinstance(found, BaseException):
                self._rows[number][other] = unread(plan.reader, twin, tensor, self._options, found)
            else:
                self._rows[number][other] = found if other == place else copies.tied(found, plan.views[place], twin)

    def emit(self) -> None:
        """Hands over the rows that are complete up to a point, in plan order."""
        if self._on_row is None:
            return
        number, place = self._emitted
        while number < len(self._plans):
            plan = self._plans[number]
            if plan.error is not None and place == 0:
                self._on_row(findings.error_row(plan))
            while place < len(plan.views):
                row = self._rows[number][place]
                if row is None:
                    self._emitted = (number, place)
                    return
                self._on_row(copies.placed(row, plan))
                place += 1
            number, place = number + 1, 0
        self._emitted = (number, place)

    def tables(self, hashes: Mapping[str, str | BaseException]) -> tuple[list[LayerRow], list[FindingRow], list[FileRow]]:
        """Rows, findings and files; what was not reached says so."""
        rows: list[LayerRow] = []
        found: list[FindingRow] = []
        files: list[FileRow] = []
        for number, plan in enumerate(self._plans):
            model = [findings.error_row(plan)] if plan.error is not None else []
            for place, view in enumerate(plan.views):
                row = self._rows[number][place]
                if row is None:
                    row = blanks.skipped(plan.reader, view, Survey(), self._options, "interrupted")
                model.append(copies.placed(row, plan))
            rows.extend(model)
            found.extend(findings.plan_findings(plan))
            found.extend(findings.row_findings(plan, model))
            files_of_model = findings.file_rows(plan, hashes)
            found.extend(findings.checksum_findings(plan, files_of_model))
            files.extend(files_of_model)
        return rows, found, files


def is_out_of_time(found: object) -> bool:
    """Whether a task was not begun for want of time."""
    return isinstance(found, LimitError) and found.category == "time_limit"


def unread(reader: str, view: LayerView, tensor: Survey, options: Options, error: BaseException) -> LayerRow:
    """The row of a view whose task failed or was not begun."""
    reason, message = failure(error)
    if view.reason is not None and (is_out_of_time(error) or view.reason in findings.INCONCLUSIVE):
        return blanks.skipped(reader, view, tensor, options, view.reason, message)  # it was not going to be read
    make = blanks.skipped if is_out_of_time(error) else blanks.failed
    return make(reader, view, tensor, options, reason, message)


def failure(error: BaseException) -> tuple[str, str]:
    """Reason and message of a row whose task failed."""
    if isinstance(error, MemoryError):
        return "memory_limit", "ran out of memory"
    known = as_format_error(error)
    return known.category, known.problem
