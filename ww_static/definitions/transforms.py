"""Definitions of what a transform of weights says that it took out."""

from __future__ import annotations

from ww_static.definitions.entry import Definition

TRANSFORMS = {
    "transform.k.v1": Definition(
        "`smooth`: detX_num, num_spikes, num_pl_spikes, or int(percent M rf), by `method`; negative: minus int(abs(percent) M rf)",
        "How many components the method wants to keep. 0 changes nothing.",
        "in rows of `sharpen`, and of what was skipped or failed",
    ),
    "transform.removed.v1": Definition(
        "singular components that went, over all taps; their share: sum of their sigma^2 over sum sigma^2",
        "How much of the layer is gone. A small share of the norm can be most of what the layer does, and the other way round.",
        "in rows that were skipped or failed, or whose method found no k; the share in all unchanged rows",
    ),
    "transform.delta_norm.v1": Definition(
        "norm_F(W - W'), the root of the sum of sigma^2 that went, before rounding to the storage dtype",
        "How far the weights moved. Rounding adds noise of its own, which `compare` of both files includes.",
        "in rows that were not changed; outside of float64",
    ),
}
