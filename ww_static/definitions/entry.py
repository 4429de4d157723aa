"""The form of an entry: one per definition id, shared by the columns that bear it; and the works that entries cite."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Definition:
    """What the columns of one definition id are.

    Attributes:
        formula: how they are computed, Markdown on one line.
        tells: what they can and cannot tell.
        null: reason codes in backticks, beside those that every column has; ``no fit`` stands for the reasons of alpha.
        source: works, by their keys in `SOURCES`, or as they are.
    """

    formula: str
    tells: str
    null: str = ""
    source: str = ""


ANY_METRIC = ("not_requested", "precision", "out_of_range", "truncated_spectrum")  # reasons that every metric may have
NO_FIT = (
    "too_few_evals",
    "all_below_cut",
    "zero_matrix",
    "constant_esd",
    "fit_degenerate",
    "below_spectral_floor",
    "tail_too_short",
)

SOURCES = {
    "CSN": "Clauset, Shalizi, Newman 2009",
    "MM": "Martin, Mahoney, arXiv 1810.01075 and 1901.08278",
    "SETOL": "arXiv 2507.17912",
    "WW": "weightwatcher 0.7.7",
    "GD": "Gavish, Donoho 2014",
    "RV": "Roy, Vetterli 2007",
    "MP": "Marchenko, Pastur 1967",
    "J": "Johnstone 2001",
    "Ma": "Ma 2012",
    "C": "Chiani 2014",
    "BBP": "Baik, Ben Arous, Peche 2005",
    "BN": "Benaych-Georges, Nadakuditi 2012",
    "A": "Atas, Bogomolny, Giraud, Roux 2013",
    "E": "Efron 1979",
    "V": "Vuong 1989",
    "P": "Pebay 2008",
    "TB": "TempBalance, arXiv 2312.00359",
    "FARMS": "arXiv 2506.06280",
}
