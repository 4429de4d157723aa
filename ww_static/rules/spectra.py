"""WW201 to WW219: what the spectra show; heuristics, so they warn."""

from __future__ import annotations

from collections.abc import Iterable

from ww_static.rules.rule import Evidence, Found, Rule, Warn, found_in


class AlphaAbove(Warn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW201.

    Attributes:
        max: the largest alpha that is not reported.
    """

    max: float = 6.0


def _alpha_above(evidence: Evidence, settings: AlphaAbove) -> Iterable[Found]:
    for row in evidence.rows:
        if row.alpha is not None and row.alpha > settings.max and row.phase != "random-like":
            yield found_in(
                row, f"alpha {row.alpha:.2f} is above {settings.max:g}", metric="alpha", value=row.alpha, limit=settings.max
            )


SPECTRAL_RULES = (
    Rule("WW201", "alpha-above", "The tail of a layer is weaker than those of trained ones", "alpha > max, where the phase is not random-like",
         "A fit of few values, or of no power law, may give any alpha.", "Look at the layer's fit before anything else.", AlphaAbove, _alpha_above),
)  # fmt: skip
