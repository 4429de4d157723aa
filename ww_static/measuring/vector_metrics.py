"""The columns of the eigenvectors: means and variances over the bulk and over the tail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ww_static.measuring.measured import Metric, Value, of_part
from ww_static.spectral.localization import Localization
from ww_static.spectral.missing import Missing
from ww_static.spectral.vectors import Vectors

_NUMBERS = ("vec_entropy", "loc_ratio", "part_ratio", "ipr", "shannon")
_MOMENTS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(values.mean()),
    "var": lambda values: float(values.var()),
}


def _of_vectors(compute: Callable[[Vectors], Value | Missing]) -> Metric:
    return of_part("vectors", lambda row: row.vectors, lambda _, found: compute(found))


def _of_side(side: str, compute: Callable[[Localization], float]) -> Metric:
    def column(found: Vectors) -> float | Missing:
        numbers: Localization | Missing = found.tail if side == "tail" else found.bulk
        return numbers if isinstance(numbers, Missing) else compute(numbers)

    return _of_vectors(column)


def _moment(side: str, moment: str, name: str) -> Metric:
    return _of_side(side, lambda numbers: _MOMENTS[moment](getattr(numbers, name)))


def _median(numbers: Localization) -> float:
    values = np.sort(numbers.distance)  # np.median loads numpy.ma
    return float(values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


VECTOR_METRICS: dict[str, Metric] = {
    **{
        f"{side}_{moment}_{name}": _moment(side, moment, name)
        for side in ("bulk", "tail")
        for name in _NUMBERS
        for moment in _MOMENTS
    },
    "pt_D": _of_side("bulk", _median),
    "pt_reject": _of_side("bulk", lambda numbers: float(numbers.rejected.mean())),
    "k_loc_elbow": _of_vectors(lambda found: found.elbow),
}
