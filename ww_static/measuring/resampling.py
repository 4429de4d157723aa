"""The replicas of a row: samples drawn from its eigenvalues, each by a generator made from the seed, the name and its number."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ww_static import seeding
from ww_static.layout.layers import LayerView
from ww_static.measuring.measured import Measured
from ww_static.options import Options
from ww_static.spectral.cutoff import CUTOFFS, MOST_CANDIDATES
from ww_static.spectral.missing import Missing
from ww_static.spectral.replicas import BOOTSTRAPS, GOF_FEWEST, GOF_REPLICAS, Generators, bootstrap, goodness_of_fit

_REPLICA_FLOPS = 4e6  # what drawing and fitting a replica takes, in operations of a product of matrices
_VALUE_FLOPS = 5e3  # and more for every value
_VARIANTS = 8  # what the other fits of a group take, in replicas
_TRUNCATED_FLOPS = 4e7  # what a law with a cut-off takes for every candidate
_CUTOFF_FLOPS = 2e6  # what the cut-off with its own xmin takes for every value


def resampled(view: LayerView, row: Measured, options: Options) -> Measured:
    """The row with the replicas that were asked for; float32 spectra have none.

    Replica r depends on the seed of the run, the name, the part and r alone: not on workers, shards or the order of work.
    """
    if row.precision == "fast":
        return row
    values, fit = row.tail_values, row.fit
    other = CUTOFFS.get(options.fit)
    if "bootstrap" in options.metrics:
        drawn = generators(view, options.seed, "bootstrap")
        row = replace(row, bootstrap=fit if isinstance(fit, Missing) else bootstrap(values, drawn, refit=other))
    if "gof" in options.metrics:
        drawn = generators(view, options.seed, "gof")
        row = replace(row, gof=row.power_law if isinstance(row.power_law, Missing) else goodness_of_fit(values, drawn))
    return row


def generators(view: LayerView, seed: int, purpose: str) -> Generators:
    """The generator of every replica of a view: seeded by (seed, name, part, purpose), and the replica."""
    return partial(seeding.generator, [seed, view.spec.name, view.part, purpose])


def resampling_flops(view: LayerView, options: Options) -> float:
    """What the replicas and the other fits of a row take, in operations of a product of matrices."""
    n = view.num_evals or 0
    if options.precision == "fast" or n < options.fit_minimum:
        return 0.0
    count = _VARIANTS * (bool({"tail", "gof"}.intersection(options.metrics)) + ("alternatives" in options.metrics))
    count += BOOTSTRAPS if "bootstrap" in options.metrics else 0
    if "gof" in options.metrics and n >= GOF_FEWEST:
        count += GOF_REPLICAS
    own = _CUTOFF_FLOPS * n if "alternatives" in options.metrics else 0.0
    if options.fit != "PL":
        own += (1 + BOOTSTRAPS * ("bootstrap" in options.metrics)) * _TRUNCATED_FLOPS * min(n, MOST_CANDIDATES)
    return count * (_REPLICA_FLOPS + _VALUE_FLOPS * n) + own
