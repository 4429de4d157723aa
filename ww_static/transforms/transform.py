"""What a transform of weights is asked to do, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from ww_static.errors import UsageError

# how many singular components smooth keeps: method -> the column that says it; svd takes a share instead
COUNTS = {"detX": "detX_num", "rmt": "num_spikes", "lambda_min": "num_pl_spikes"}
METHODS = ("detX", "svd", "rmt", "lambda_min")
SHARE = 0.8  # of the components, by the method svd


@dataclass(frozen=True, slots=True)
class Transform:
    """A transform.

    Attributes:
        name: ``smooth`` keeps the largest singular components, ``sharpen`` takes out those that a permuted copy still has.
        method: of smooth: ``detX``, ``svd``, ``rmt`` or ``lambda_min``.
        percent: of the method svd: the share of components to keep, or of the largest ones to take out when it is negative.
    """

    name: str
    method: str | None = None
    percent: float | None = None


def smoothing(method: str, percent: float | None) -> Transform:
    """The transform smooth.

    Raises:
        UsageError: the method is not known, or the share is none, or not for this method.
    """
    if method not in METHODS:
        raise UsageError(f"--method is {' or '.join(METHODS)}, not '{method}'")
    if percent is not None and method != "svd":
        raise UsageError(f"--percent is for --method svd, not for {method}")
    if percent is not None and not -1 <= percent <= 1:
        raise UsageError(f"--percent is a share between -1 and 1, not {percent!r}")
    return Transform("smooth", method, (SHARE if percent is None else percent) if method == "svd" else None)


SHARPEN = Transform("sharpen")
