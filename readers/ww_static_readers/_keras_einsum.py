"""Which axes of the kernel of an `EinsumDense` are inputs, and which outputs: its equation says so, as `abc,cde->abde`."""

from __future__ import annotations

import re

_EQUATION = re.compile(r"([A-Za-z]*)(?:\.\.\.)?([A-Za-z]*),([A-Za-z]+)->([A-Za-z]*)(?:\.\.\.)?([A-Za-z]*)")


def axes_of(equation: str, rank: int) -> tuple[str, ...] | None:
    """``in`` for an axis of the kernel that is summed over, ``out`` for one that only the result has.

    None where the kernel is no single matrix (an axis that inputs and results share makes one for each of its places),
    or the equation is not that of a kernel of `rank` axes.
    """
    match = _EQUATION.fullmatch(equation)
    if match is None:
        return None
    inputs, kernel, outputs = set(match[1] + match[2]), match[3], set(match[4] + match[5])
    if len(kernel) != rank or len(set(kernel)) != rank or not all((axis in inputs) != (axis in outputs) for axis in kernel):
        return None
    axes = tuple("in" if axis in inputs else "out" for axis in kernel)
    return axes if set(axes) == {"in", "out"} else None
