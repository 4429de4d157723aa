"""What a worker is asked to do about two models: a pair of views measured, and what that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ww_static.budget import Need
from ww_static.layout.layers import LayerView
from ww_static.pairs.pairing import PairJob
from ww_static.workers import confinement, tasks


def compare_views(old: tasks.Target, new: tasks.Target, job: PairJob, backend: str, blas_threads: int) -> Any:
    """The measured columns of the `PairRow` of a pair of views of two models (a task; runs in any process)."""
    from ww_static.pairs import differing

    both = tasks.open_planned(old, beside=new), tasks.open_planned(new, beside=old)
    with confinement.blas_threads(blas_threads):
        row = differing.compared(both, job, backend)
    for checkpoint in both:
        checkpoint.check_unchanged()
    return row


def pair_needs(views: Sequence[tuple[LayerView, Need]]) -> list[Need]:
    """What the comparison of each of some views with its counterpart takes (a task, for a process without numpy)."""
    from ww_static.pairs import differing

    return [differing.pair_need(view, need) for view, need in views]
