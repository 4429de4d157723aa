"""Which elements can be squared and summed as they are; loads no numpy."""

from __future__ import annotations

import math
from typing import Literal

# elements in this range of powers of two neither overflow nor vanish when squared and summed
_SAFE_EXPONENTS = {"float64": (-400, 480), "float32": (-40, 40)}


def safe_exponent(abs_max: float, squares: Literal["float64", "float32"] = "float64") -> int:
    """e such that W 2^-e can be squared in this precision; 0 for every matrix that is not extreme.

    Args:
        abs_max: largest |element|, finite.
        squares: what will hold the squares.
    """
    if abs_max == 0:
        return 0
    exponent, (least, most) = math.frexp(abs_max)[1], _SAFE_EXPONENTS[squares]
    return 0 if least <= exponent <= most else exponent
