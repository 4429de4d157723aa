"""The effective correlation space: the largest eigenvalues whose product is 1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_metric = partial(metric, "default")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class SpaceColumns:
    """The effective correlation space."""

    __slots__ = ()

    detX_num: int | None = _metric("eigenvalues in the effective correlation space", "detx.setol.v1")
    num_ERG_spikes: int | None = _metric("detX_num, under the name of SETOL", "detx.setol.v1")
    detX_val: float | None = _metric(
        "smallest eigenvalue of the effective correlation space, in ESD units", "detx.setol.v1", "weight^2"
    )
    detX_val_unrescaled: float | None = _metric(
        "detX_val of eigenvalues rescaled to mean 1 (weightwatcher's name)", "detx.setol.v1"
    )
    detX_frac: float | None = _metric("detX_num over the number of all eigenvalues", "detx.setol.v1")
    ERG_gap: int | None = _metric("detX_num - num_pl_spikes", "erg_gap.v1")
    delta_lambda_min: float | None = _metric("(xmin - detX_val), rescaled to mean 1", "delta_lambda_min.v1")
