"""The estimators of alpha on samples of known laws: what they give, how much they spread, and that chance is seeded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import ww_static as ww
from conftest import Note
from ww_static import calibration, cli
from ww_static.calibration import Curve


def mean(row: dict[str, object]) -> float:
    assert isinstance(row["mean"], float)
    return row["mean"]


def rows(listing: ww.Listing, estimator: str) -> dict[tuple[str, float], dict[str, object]]:
    found: list[dict[str, object]] = [dict(zip(listing.columns, row, strict=True)) for row in listing.rows]
    return {(str(one["sampler"]), float(str(one["alpha"]))): one for one in found if one["estimator"] == estimator}


@pytest.fixture(scope="module")
def curves() -> ww.Listing:
    return ww.calibrate(seed=1, executor=ww.InlineExecutor())


@pytest.mark.parametrize("alpha", calibration.ALPHAS)
def test_power_laws_are_recovered(curves: ww.Listing, alpha: float, measured: Note) -> None:
    for estimator in ("alpha", "alpha_robust"):
        row = rows(curves, estimator)["pareto", alpha]
        assert row["fitted"] == 30
        assert abs(mean(row) - alpha) < (0.06 if alpha <= 4.5 else 0.12)
        assert row["bias"] == pytest.approx(mean(row) - alpha)
        assert row["sd_expected"] == pytest.approx((alpha - 1) / np.sqrt(1000))
    # by the choice of xmin more than at a known one; widened by two standard deviations of the spread of 30 runs
    spread = float(str(rows(curves, "alpha")["pareto", alpha]["sd"])) / ((alpha - 1) / np.sqrt(1000))
    assert 1.0 * (1 - 2 / np.sqrt(58)) < spread < 1.6 * (1 + 2 / np.sqrt(58))
    measured("T9", f"calibrate, {alpha:g}: {mean(rows(curves, 'alpha')['pareto', alpha]):.3f}")


@pytest.mark.parametrize(
    ("alpha", "published"), [(1.5, 1.49), (2.0, 1.89), (2.5, 2.23), (3.0, 2.48), (4.0, 2.89), (5.0, 3.11), (7.0, 3.29)]
)
def test_lomax_saturates_as_published(curves: ww.Listing, alpha: float, published: float, measured: Note) -> None:
    """T9b: within two standard deviations of the difference of two means of 30 samples."""
    row = rows(curves, "alpha")["lomax", alpha]
    assert mean(row) == pytest.approx(published, abs=2 * float(str(row["sd"])) * (2 / 30) ** 0.5)
    assert mean(row) < alpha
    measured("T9b", f"{alpha}: {mean(row):.2f}")


def test_large_exponents_are_not_clamped_to_three(measured: Note) -> None:
    found = rows(ww.calibrate(sampler="pareto", alpha=(4, 6), n=4000, runs=20, seed=2, executor=ww.InlineExecutor()), "alpha")
    assert mean(found["pareto", 4.0]) == pytest.approx(4, abs=0.1)
    assert mean(found["pareto", 6.0]) == pytest.approx(6, abs=0.1)
    measured("T27", f"calibrate: {mean(found['pareto', 4.0]):.2f}, {mean(found['pareto', 6.0]):.2f}")


def test_hill_reads_the_upper_half_of_a_power_law(curves: ww.Listing) -> None:
    row = rows(curves, "alpha_hill")["pareto", 3.0]
    assert mean(row) == pytest.approx(3, abs=4 * 2 / np.sqrt(500 * 30))


def test_samples_follow_their_laws() -> None:
    for sampler in calibration.SAMPLERS:
        x = np.sort(Curve(sampler, 3.0, 20_000, 5).sample(0))
        share = 1 - (x if sampler == "pareto" else 1 + x) ** -2.0
        assert float(np.max(np.abs(share - (np.arange(20_000) + 0.5) / 20_000))) < 1.63 / np.sqrt(20_000)


def test_numbers_depend_on_the_seed_and_on_nothing_else() -> None:
    plan = {"alpha": (2.0, 3.5), "n": 300, "runs": 12}
    first = ww.calibrate(seed=3, jobs=2, **plan)  # type: ignore[arg-type]
    assert first == ww.calibrate(seed=3, jobs=1, **plan)  # type: ignore[arg-type]
    assert first != ww.calibrate(seed=4, executor=ww.InlineExecutor(), **plan)  # type: ignore[arg-type]
    alone = ww.calibrate(seed=3, executor=ww.InlineExecutor(), sampler="lomax", alpha="3.5", n=300, runs=12)
    assert alone.rows == first.rows[-3:]


def test_tasks_of_any_size_give_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ww.calibrate(alpha="2", n=100, runs=9, executor=ww.InlineExecutor())
    monkeypatch.setattr(calibration, "_TOGETHER", 200)
    assert ww.calibrate(alpha="2", n=100, runs=9, executor=ww.InlineExecutor()) == whole


def test_the_command_prints_json_and_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["calibrate", "--sampler", "pareto", "--alpha", "2", "--n", "50", "--runs", "4", "--format", "json", "-j", "1"]
    assert cli.run(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pareto"].startswith("Pareto I")
    assert [row["estimator"] for row in found["rows"]] == list(calibration.ESTIMATORS)


def test_progress_reaches_the_end() -> None:
    seen: list[float] = []
    ww.calibrate(
        alpha="2,3", n=50, runs=3, executor=ww.InlineExecutor(), progress=lambda one: seen.append(one.done / one.total)
    )
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


def test_an_interruption_ends_it_with_130() -> None:
    command = [sys.executable, "-m", "ww_static", "calibrate", "--n", "100000", "--runs", "3000", "--progress", "on"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    timer = threading.Timer(120, process.kill)
    timer.start()
    assert process.stderr is not None
    while "% done" not in process.stderr.readline():  # workers are at it
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    shown, said = process.communicate()
    timer.cancel()
    assert process.returncode == 130
    assert shown == ""
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--sampler", "gauss"], "sampler 'gauss' is not known; known are: pareto, lomax"),
        (["--alpha", "1"], "--alpha is an exponent above 1"),
        (["--alpha", "two"], "--alpha is a list of numbers"),
        (["--n", "7"], "--n is a number from 8"),
        (["--runs", "1"], "--runs is a number from 2"),
        (["--seed", "-1"], "--seed is a number from 0"),
        (["--jobs", "0"], "jobs is a positive number or auto"),
    ],
)
def test_what_means_nothing_is_a_usage_error(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["calibrate", *arguments]) == 2
    assert problem in capsys.readouterr().err
