"""Verdicts: earned by power laws of known exponent, never by noise, and with a reason wherever there is none; codes that block them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from phase_families import noise
from support import bfloat16_bits, fetched
from ww_static import TailFit, spectrum
from ww_static.layout.facts import Facts
from ww_static.layout.layers import layer_table
from ww_static.measuring.codes import CODES, table
from ww_static.measuring.measured import measure
from ww_static.measuring.phase_metrics import rounding_hides, rounding_of, zeros_of
from ww_static.measuring.surveys import Survey
from ww_static.measuring.verdicts import VERDICTS
from ww_static.options import Options
from ww_static.outputs import render
from ww_static.protocol import TensorSpec
from ww_static.rows import LayerRow
from ww_static.spectral.statistics import moments

NOISE = ((128, 64), (100, 100), (256, 128), (200, 200), (400, 100), (768, 192), (300, 300), (600, 150), (512, 256), (1200, 120))
EVIDENCE = re.compile(
    r"(alpha [\d.]+( \[[\d.]+, [\d.]+\])?, )?(p [\d.]+ at alpha [\d.]+, )?(no phase \(\w+\)|[a-z+-]+)(, \d+ of \d+ in the tail)?: (\w+)( \(.+\))?"
)


def judged(path: Path, **options: object) -> dict[str, LayerRow]:
    rows = ww.analyze(path, **{"gof": True, "bootstrap": True, **options}).rows  # type: ignore[arg-type]
    return {f"{row.name} {row.part or ''}".strip(): row for row in rows if isinstance(row, LayerRow)}


def power_law(alpha: float, m: int = 300) -> NDArray[np.float64]:
    """A matrix whose eigenvalues are the quantiles of a power law."""
    return np.diag((1 - (np.arange(m) + 0.5) / m) ** (-0.5 / (alpha - 1)))


def test_power_laws_earn_their_verdicts(save: Writer) -> None:
    path = save({f"alpha {alpha}": power_law(alpha) for alpha in (1.7, 2.0, 3.0, 5.0, 6.5, 8.0)})
    found = judged(path)
    assert {name: row.verdict for name, row in found.items()} == {
        "alpha 1.7": "over_trained", "alpha 2.0": "inconclusive", "alpha 3.0": "in_range", "alpha 5.0": "in_range",
        "alpha 6.5": "inconclusive", "alpha 8.0": "under_trained",
    }  # fmt: skip
    row = found["alpha 1.7"]
    assert row.verdict_evidence == (
        f"alpha 1.70 [{row.alpha_ci_lo:.2f}, {row.alpha_ci_hi:.2f}], p {row.gof_p:.2f} at alpha 1.70, "
        "heavy-tailed, 300 of 300 in the tail: over_trained"
    )
    assert (found["alpha 2.0"].verdict_evidence or "").endswith(": inconclusive (alpha on both sides of 2 or 6)")
    alone = judged(path, bootstrap=False)
    assert {row.verdict for row in alone.values()} == {"inconclusive"}
    assert (alone["alpha 3.0"].verdict_evidence or "").endswith(": inconclusive (no interval of alpha)")
    plain = judged(path, gof=False)["alpha 3.0"]
    assert plain.verdict is None
    assert (plain.null_reasons or {})["verdict"] == "not_requested"


@pytest.mark.parametrize(
    ("options", "why"),
    [({"xmax": -1}, "alpha without the largest eigenvalues"), ({"fit": "TPL"}, "alpha of a law with a cut-off")],
)
def test_a_fit_that_could_be_chosen_for_its_alpha_earns_nothing(save: Writer, options: dict[str, object], why: str) -> None:
    row = judged(save({"w": power_law(3.0)}), **options)["w"]
    assert row.verdict == "inconclusive"
    assert (row.verdict_evidence or "").endswith(f": inconclusive ({why})")


def test_gaussian_noise_has_no_signal(save: Writer, measured: Note) -> None:
    """T13: ten of ten."""
    rng = np.random.default_rng(13)
    rows = judged(save({f"{run}": noise(rng, 1200, 600).astype(np.float32) for run in range(10)}), bootstrap=False)
    for row in rows.values():
        assert (row.phase, row.verdict) == ("random-like", "no_signal")
        assert row.gof_p is not None
        assert row.gof_p < 0.1
        assert {"mp_bulk", "gof_reject"} <= set(row.warning_codes or ())
    measured(
        "T13", f"{len(rows)} of 10: random-like, no_signal; largest p {max(row.gof_p or 0.0 for row in rows.values()):.2f}"
    )


def judged_noise(save: Writer, each: int, seed: int) -> Counter[str | None]:
    rng = np.random.default_rng(seed)
    tensors = {f"{n} x {m}, {run}": 0.02 * rng.standard_normal((n, m)) for n, m in NOISE for run in range(each)}
    found = judged(save({name: W.astype(np.float32) for name, W in tensors.items()}), jobs=2)
    assert len(found) == each * len(NOISE)
    return Counter(row.verdict for row in found.values())


def test_noise_is_never_called_trained(save: Writer, measured: Note) -> None:
    found = judged_noise(save, 5, seed=0)
    assert set(found) <= {"no_signal", "inconclusive"}
    assert found["no_signal"] >= 43, "45 layers have M >= 100, and a thousandth of noise is outside its edge"
    measured("S1", ", ".join(f"{count} {word}" for word, count in sorted(found.items(), key=str)))


@pytest.mark.large
def test_three_hundred_layers_of_noise_are_never_called_trained(save: Writer, measured: Note) -> None:
    found = judged_noise(save, 30, seed=1)
    assert set(found) <= {"no_signal", "inconclusive"}
    assert found["no_signal"] >= 264, "of 270 with M >= 100"
    measured("S1", ", ".join(f"{count} {word}" for word, count in sorted(found.items(), key=str)))


@pytest.mark.parametrize("name", ["minilm", "resemblyzer", "fer"])
def test_every_layer_of_real_weights_is_judged_or_says_why_not(name: str, measured: Note) -> None:
    rows = judged(fetched(name), jobs=2).values()
    layers = [row for row in rows if row.status == "success"]
    assert len(layers) > 10
    for row in layers:
        assert row.phase is not None
        if row.alpha is None:
            assert row.reason is not None
            assert {(row.null_reasons or {})[column] for column in ("verdict", "verdict_evidence")} == {row.reason}
            continue
        assert row.alpha_ci_lo is not None
        assert row.alpha_ci_hi is not None
        assert row.alpha_ci_lo <= row.alpha_ci_hi
        assert row.verdict in VERDICTS
        said = EVIDENCE.fullmatch(row.verdict_evidence or "")
        assert said is not None, row.verdict_evidence
        assert said[6] == row.verdict
        assert (said[7] is not None) == (row.verdict == "inconclusive")
        assert row.gof_p is not None or "gof_missing" in (row.warning_codes or ())
    assert all(row.verdict is None and row.phase is None for row in rows if row.status != "success")
    judgements = Counter(str(row.verdict or row.reason) for row in layers)
    measured("S2", f"{name}: " + ", ".join(f"{count} {word}" for word, count in sorted(judgements.items())))


def test_rows_without_numbers_have_no_verdict(save: Writer) -> None:
    rng = np.random.default_rng(0)
    broken = rng.standard_normal((300, 200)).astype(np.float32)
    broken[3, 4] = np.nan
    found = judged(save({"nan.weight": broken, "one.bias": np.ones(300, np.float32), "tiny.weight": 1e-6 * power_law(3.0)}))
    assert [(row.status, row.verdict) for row in found.values()] == [("failed", None), ("skipped", None), ("success", None)]
    assert (found["tiny.weight"].null_reasons or {})["verdict"] == "all_below_cut"
    fast = judged(save({"w.weight": rng.standard_normal((600, 520)).astype(np.float32)}), precision="fast")["w.weight"]
    assert (fast.null_reasons or {})["verdict"] == "precision"


def test_a_side_below_100_supports_no_verdict(save: Writer) -> None:
    rng = np.random.default_rng(3)
    found = judged(save({"noise": noise(rng, 200, 80), "law": power_law(3.0, 99)}), bootstrap=False)
    assert (found["noise"].phase, found["noise"].verdict) == ("random-like", "inconclusive")
    assert "m_lt_100" in (found["law"].verdict_evidence or "")


def test_codes_of_the_test_and_of_the_phase(save: Writer) -> None:
    rng = np.random.default_rng(1)
    tensors = {"few": power_law(3.0, 90), "law": power_law(3.0), "noise": noise(rng, 300, 200)}
    asked, plain = judged(save(tensors)), judged(save(tensors), gof=False)
    codes = {name: set(row.warning_codes or ()) for name, row in asked.items()}
    assert "gof_missing" in codes["few"]
    assert not codes["law"] & {"gof_missing", "gof_reject", "mp_bulk", "fingers"}
    assert codes["noise"] >= {"mp_bulk", "gof_reject"}
    assert not any({"gof_missing", "gof_reject"} & set(row.warning_codes or ()) for row in plain.values())
    assert "mp_bulk" in (plain["noise"].warning_codes or ())


def test_rounding_that_hides_the_rank_is_a_code(save: Writer) -> None:
    rng = np.random.default_rng(2)
    low = (rng.standard_normal((300, 20)) @ rng.standard_normal((20, 200))).astype(np.float32)
    full = rng.standard_normal((300, 200)).astype(np.float32)
    stored = {name: ("BF16", W.shape, bfloat16_bits(W).tobytes()) for name, W in (("low", low), ("full", full))}
    found = judged(save({**stored, "exact": full}), gof=False, bootstrap=False)
    assert {name: "quant_floor" in (row.warning_codes or ()) for name, row in found.items()} == {
        "low": True, "full": False, "exact": False,
    }  # fmt: skip


def test_rounding_of_codes_that_reaches_the_tail_is_seen() -> None:
    """All eigenvalues of a power law from 1 on with the mean 2 are in its tail: 3 N s^2 = 1.2 is, 0.6 is not."""
    spec = TensorSpec("w", "I8", (300, 300), "model.onnx", encoding="quantized")
    view = layer_table([spec], Facts())[0]
    W = power_law(3.0)
    row = measure((spectrum(W),), 1.0, Options())
    assert isinstance(row.fit, TailFit)
    assert row.fit.k == 300
    for share, reaches in ((0.2, True), (0.1, False)):
        survey = Survey(moments=moments(W), squared_step=12 * share * float(np.mean(W**2)))
        assert rounding_of(view, survey) == pytest.approx(share)
        assert zeros_of(view, survey, row) == 0
        assert rounding_hides(view, survey, row) == reaches


def test_codes_say_what_they_block() -> None:
    assert {code.blocks for code in CODES.values()} == {"", "scale", "verdict"}
    blocking = {name for name, code in CODES.items() if code.blocks == "verdict"}
    assert blocking >= {
        "mp_bulk", "gof_reject", "gof_missing", "few_evals", "m_lt_50", "m_lt_100", "tail_lt_50", "degenerate_xmin", "fingers",
        "alpha_at_bound", "fit_degenerate", "spectral_floor", "rank_loss", "quant_floor", "constant_tensor", "zero_matrix", "nonfinite",
    }  # fmt: skip
    assert not blocking & {"near_tie", "trap_mean", "trap_element", "aspect_q_gt_8", "scale_unknown", "ambiguous_orientation"}
    assert "| `near_tie` | another xmin" in table()


def test_the_table_shows_verdicts_or_reasons_within_its_width(save: Writer) -> None:
    name = "encoder.layer.0.attention.self.query.weight"
    path = save({name: power_law(3.0), "equal.weight": np.eye(40), "z.bias": np.ones(9, np.float32)})
    text = render.plain_text(ww.analyze(path, gof=True, bootstrap=True))
    finding, *lines = text.splitlines()
    assert finding.startswith("model.safetensors: degenerate")
    assert re.split(r"\s\s+", lines[0]) == ["layer", "alpha", "from", "to", "p", "tail", "phase", "verdict"]
    assert lines[1].split()[-2:] == ["heavy-tailed", "in_range"]
    assert lines[2].split() == ["equal.weight", "undetermined", "constant_esd"]
    assert max(map(len, lines)) <= render.PLAIN_WIDTH
    plain = render.plain_text(ww.analyze(path)).splitlines()
    assert re.split(r"\s\s+", plain[1])[-2:] == ["phase", "reason"]
