"""The summary of a model: what counts, counts once; means, ranges, histogram, flow and pruning budget of rows that are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from phase_families import FAMILIES, drawn
from ww_static.depth import SPARSITY, correlation_flow, pruning_budget
from ww_static.outputs import render
from ww_static.rows import LayerRow
from ww_static.summary import summarize


def layer(alpha: float | None, **more: object) -> LayerRow:
    values: dict[str, object] = {"model_id": "m", "name": "w", "status": "success", "alpha": alpha, "N": 10, "M": 5, "rf": 1}
    return LayerRow(**(values | more))  # type: ignore[arg-type]


def test_rows_count_once_and_failures_never() -> None:
    rows = [
        layer(3.0, log_norm=1.0),
        layer(5.0, part="whole", log_norm=9.0),
        layer(7.0, part="q", log_norm=2.0),
        layer(3.0, tied_to="w", log_norm=1.0),
        layer(None, reason="too_few_evals"),
        layer(None, status="failed", reason="nonfinite"),
        layer(None, status="skipped", reason="buffer"),
        layer(None, status="skipped", reason="one_dimensional"),
        layer(None, status="skipped", reason="buffer"),
        layer(None, status="error", category="truncated"),
    ]
    found = summarize(rows)
    assert (found["analysed"], found["with_alpha"], found["counted"]) == (5, 4, 3)
    assert (found["n_failed"], found["n_skipped"], found["errors"]) == (1, 3, 1)
    assert found["skipped"] == {"buffer": 2, "one_dimensional": 1}
    assert found["no_fit"] == {"too_few_evals": 1}
    assert found["metrics"]["alpha"] == {"n": 2, "mean": 5.0, "median": 5.0, "sd": pytest.approx(math.sqrt(8))}
    assert found["metrics"]["mp_softrank"] == {"n": 0, "mean": None, "median": None, "sd": None}
    assert found["log_product_norm"] == 3.0
    assert "models" not in found


def test_alphas_fall_into_their_ranges_and_bins() -> None:
    found = summarize([layer(alpha) for alpha in (1.2, 1.99, 2.0, 4.0, 4.01, 6.0, 6.01, 9.99, 10.0, 31.0)])
    assert found["alpha_counts"] == {"below_2": 2, "2_to_4": 2, "above_4_to_6": 2, "above_6": 4}
    histogram = found["alpha_histogram"]
    assert (histogram["edges"][0], histogram["edges"][-1], len(histogram["edges"])) == (1.0, 10.0, 19)
    counts = dict(zip(histogram["edges"], histogram["counts"], strict=False))
    assert {edge: count for edge, count in counts.items() if count} == {1.0: 1, 1.5: 1, 2.0: 1, 4.0: 2, 6.0: 2, 9.5: 1}
    assert histogram["above"] == 2


def test_the_flow_of_alpha_is_its_slope_and_its_steps() -> None:
    assert correlation_flow([2.0, 2.5, 3.0, 3.5]) == {"n": 4, "slope": pytest.approx(0.5), "roughness": pytest.approx(0.5)}
    up_and_down = correlation_flow([2.0, 4.0, 2.0])
    assert up_and_down == {"n": 3, "slope": pytest.approx(0.0), "roughness": pytest.approx(2.0)}
    assert correlation_flow([2.0]) == {"n": 1, "slope": None, "roughness": None}
    rng = np.random.default_rng(0)
    alphas = [float(value) for value in rng.uniform(2, 6, 30)]
    assert correlation_flow(alphas)["slope"] == pytest.approx(np.polyfit(range(30), alphas, 1)[0])


def test_the_pruning_budget_spends_what_it_has() -> None:
    rows = [layer(3.0, name=str(place), alpha_hill=2.0 + place, N=100 * (place + 1)) for place in range(4)]
    found = pruning_budget(rows)
    assert found is not None
    layers = found["layers"]
    spent = sum(one["share"] * one["elements"] for one in layers)
    assert spent == pytest.approx(SPARSITY * sum(one["elements"] for one in layers))
    assert [one["share"] / found["eta"] for one in layers] == pytest.approx([0.7, 0.9, 1.1, 1.3])
    assert [one["elements"] for one in layers] == [500, 1000, 1500, 2000]
    equal = pruning_budget([layer(3.0, alpha_hill=2.5) for _ in range(3)])
    assert equal is not None
    assert [one["share"] for one in equal["layers"]] == pytest.approx([SPARSITY] * 3)
    assert pruning_budget([layer(3.0, alpha_hill=2.5)]) is None
    assert pruning_budget([layer(3.0), layer(4.0)]) is None


def test_no_layer_is_pruned_by_more_than_all_of_it() -> None:
    """One huge layer with the smallest exponent: the small ones would lose 1.3 of their elements."""
    rows = [layer(3.0, alpha_hill=2.0, N=10**6), *(layer(3.0, alpha_hill=3.0 + place / 10) for place in range(3))]
    found = pruning_budget(rows)
    assert found is not None
    shares = [one["share"] for one in found["layers"]]
    assert max(shares) == 1.0
    spent = sum(one["share"] * one["elements"] for one in found["layers"])
    assert spent == pytest.approx(SPARSITY * sum(one["elements"] for one in found["layers"]))


def test_models_of_one_run_have_their_own_summaries() -> None:
    found = summarize([layer(3.0, alpha_hill=2.0), layer(5.0, alpha_hill=3.0), layer(2.5, model_id="n")])
    assert (found["metrics"]["alpha"]["n"], found["correlation_flow"], found["pruning_budget"]) == (3, None, None)
    assert {name: one["metrics"]["alpha"]["n"] for name, one in found["models"].items()} == {"m": 2, "n": 1}
    assert found["models"]["m"]["correlation_flow"]["slope"] == pytest.approx(2.0)
    assert found["models"]["m"]["pruning_budget"]["eta"] == pytest.approx(0.7)


def test_the_summary_of_a_file_is_that_of_its_rows(save: Writer) -> None:
    tensors = {f"{place}.{family.name}": drawn(family, 256, 128, 2) for place, family in enumerate(FAMILIES)}
    result = ww.analyze(
        save({**tensors, "tied": tensors["0.Gaussian"], "b": np.ones(4, np.float32)}), metrics=("default", "tail", "gof")
    )
    rows = [row for row in result.rows if row.status == "success" and row.tied_to is None]
    assert len(rows) == len(FAMILIES)
    summary = result.summary
    assert summary["phases"] == {
        "bleeding-out": 1, "bulk+spikes": 1, "bulk-decay": 1, "heavy-tailed": 2, "random-like": 2, "rank-collapse": 1,
    }  # fmt: skip
    assert summary["verdicts"]["no_signal"] == 2
    alphas = [row.alpha for row in rows]
    assert summary["metrics"]["alpha"]["mean"] == pytest.approx(np.mean(alphas))
    assert summary["metrics"]["alpha_hill"]["sd"] == pytest.approx(np.std([row.alpha_hill for row in rows], ddof=1))
    assert [one["name"] for one in summary["pruning_budget"]["layers"]] == [row.name for row in rows]
    assert summary["correlation_flow"]["roughness"] == pytest.approx(np.mean(np.abs(np.diff(alphas))))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    lines = render.plain_text(result).splitlines()
    assert lines[-2].startswith("phases: bleeding-out 1, bulk+spikes 1, bulk-decay 1, heavy-tailed 2")
    assert lines[-1].startswith("verdicts: ")
    assert lines[-3].startswith("alpha below 2: ")
    assert max(map(len, lines)) <= render.PLAIN_WIDTH
