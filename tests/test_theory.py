"""The laws of noise as numbers: closed forms, published quantiles, and matrices that follow them."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

import ww_static as ww
from ww_static import cli
from ww_static.spectral import spiked, tracy_widom


def number(value: object) -> float:
    assert isinstance(value, (int, float))
    return value


def numbers(listing: ww.Listing, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([number(value) for value in listing.column(name)])


@pytest.mark.parametrize(
    ("q", "low", "high"),
    [(1, 0, 4), (2, 0.0858, 2.9142), (2.25, 0.1111, 2.7778), (4, 0.25, 2.25), (8, 0.4179, 1.8321)],
)
def test_edges_of_marchenko_pastur(q: float, low: float, high: float) -> None:
    law = ww.theory.mp(q=q)
    assert number(law.fact("edge_lo")) == pytest.approx(low, abs=1e-4)
    assert number(law.fact("edge_hi")) == pytest.approx(high, abs=1e-4)


@pytest.mark.parametrize(("q", "mean_ln", "hill"), [(1, -1, 2.1217), (2, -0.3069, 2.7058), (4, -0.1370, 3.4546)])
def test_means_of_marchenko_pastur(q: float, mean_ln: float, hill: float) -> None:
    law = ww.theory.mp(q=q)
    assert number(law.fact("mean_ln")) == pytest.approx(mean_ln, abs=1e-4)
    assert number(law.fact("alpha_hill_null")) == pytest.approx(hill, abs=1e-4)


@pytest.mark.parametrize(("q", "sigma"), [(2.0, 1.0), (8.0, 0.02), (1.3, 40.0), (1e6, 1.0)])
def test_density_and_distribution_agree(q: float, sigma: float) -> None:
    law = ww.theory.mp(q=q, sigma=sigma, n_points=20_001)
    x, density, cdf = (numbers(law, name) for name in ("x", "density", "cdf"))
    steps = np.diff(x) * (density[1:] + density[:-1]) / 2
    np.testing.assert_allclose(
        np.cumsum(steps), cdf[1:], atol=2e-5
    )  # trapezoids miss that much where the density ends like a root
    assert float(np.sum(steps * (x[1:] + x[:-1]) / 2)) == pytest.approx(number(law.fact("mean")), rel=1e-4)
    assert float(np.interp(number(law.fact("median")), x, cdf)) == pytest.approx(0.5, abs=1e-6)
    assert float(np.sum(steps * np.log((x[1:] + x[:-1]) / 2))) == pytest.approx(number(law.fact("mean_ln")), abs=1e-4)


def test_eigenvalues_of_noise_follow_the_law() -> None:
    W = 0.02 * np.random.default_rng(1).standard_normal((1000, 500))
    values = ww.spectrum(W).eigenvalues / 1000
    law = ww.theory.mp(q=2, sigma=0.02, n_points=2000)
    share = np.interp(values, numbers(law, "x"), numbers(law, "cdf"))
    assert float(np.max(np.abs(share - (np.arange(500) + 0.5) / 500))) < 0.01
    assert values[-1] == pytest.approx(number(law.fact("edge_hi")), rel=0.03)


def test_the_infinite_density_of_square_matrices_is_null() -> None:
    law = ww.theory.mp(q=1, n_points=3)
    assert law.column("density") == [None, pytest.approx(1 / (2 * math.pi)), 0.0]


def test_quantiles_of_tracy_widom() -> None:
    law = ww.theory.tw(n=500, m=1000, level=(0.05, 0.01, 0.001))
    assert law.column("z") == [0.9793, 2.0234, 3.2724]
    assert law.fact("n") == 1000
    mu, tau = number(law.fact("mu")), number(law.fact("tau"))
    assert numbers(law, "edge") == pytest.approx([mu + z * tau for z in (0.9793, 2.0234, 3.2724)])
    assert numbers(law, "edge_1_N") == pytest.approx(numbers(law, "edge") / 1000)
    assert mu == pytest.approx((math.sqrt(999.5) + math.sqrt(499.5)) ** 2)
    assert (number(law.fact("mean")) - mu) / tau == pytest.approx(-1.2065)
    assert number(law.fact("sd")) / tau == pytest.approx(1.268)
    scaled = ww.theory.tw(n=500, m=1000, sigma=3)
    assert numbers(scaled, "edge") == pytest.approx(9 * numbers(law, "edge"))


def test_other_levels_lie_between_the_published_ones() -> None:
    z = numbers(ww.theory.tw(n=50, m=20, level="0.1,0.05,0.03,0.01,0.005,0.001,1e-6"), "z")
    assert (np.diff(z) > 0).all()
    assert z[0] == pytest.approx(0.4501, abs=0.03)  # the published quantile of 90 %


def test_the_largest_eigenvalue_of_noise_exceeds_the_edge_as_often_as_said() -> None:
    rng = np.random.default_rng(3)
    law = ww.theory.tw(n=120, m=60, level="0.05")
    mu, tau = number(law.fact("mu")), number(law.fact("tau"))
    largest = np.array([np.linalg.norm(rng.standard_normal((120, 60)), 2) ** 2 for _ in range(600)])
    z = (largest - mu) / tau
    assert float(z.mean()) == pytest.approx(tracy_widom.MEAN, abs=0.16)
    assert float(z.std()) == pytest.approx(tracy_widom.SD, abs=0.11)
    assert np.mean(largest > number(law.column("edge")[0])) == pytest.approx(0.05, abs=0.027)


def test_outliers_of_bbp() -> None:
    law = ww.theory.bbp(q=2, theta="0.5,1.5,2,3")
    assert law.fact("threshold") == pytest.approx(0.8409, abs=1e-4)
    assert ww.theory.bbp(q=4, theta=(1.0,)).fact("threshold") == pytest.approx(0.7071, abs=1e-4)
    assert law.rows[0] == (0.5, None, 0.0, 0.0)
    assert law.column("eigenvalue")[1:] == [pytest.approx(one, abs=1e-3) for one in (3.972, 5.625, 10.556)]
    assert numbers(law, "overlap_M")[1:3] == pytest.approx([0.737, 0.861], abs=1e-3)
    assert numbers(law, "overlap_N")[1:3] == pytest.approx([0.624, 0.775], abs=1e-3)


def test_an_outlier_is_where_the_law_says() -> None:
    rng = np.random.default_rng(4)
    n, m = 1400, 700
    u, v = (x / np.linalg.norm(x) for x in (rng.standard_normal(n), rng.standard_normal(m)))
    W = rng.standard_normal((n, m)) / math.sqrt(n) + 2 * np.outer(u, v)
    left, s, right = np.linalg.svd(W, full_matrices=False)
    (row,) = ww.theory.bbp(q=2, theta=(2.0,)).rows
    assert s[0] ** 2 == pytest.approx(number(row[1]), rel=0.03)
    assert (right[0] @ v) ** 2 == pytest.approx(number(row[2]), abs=0.03)
    assert (left[:, 0] @ u) ** 2 == pytest.approx(number(row[3]), abs=0.03)


def test_strength_inverts_position() -> None:
    t = np.array([0.9, 1.0, 2.0, 30.0])
    np.testing.assert_allclose(spiked.strength(spiked.position(t, 0.5), 0.5), t, rtol=1e-12)


def test_the_commands_print_tables_json_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["theory", "mp", "--q", "2", "--n-points", "3"]) == 0
    table = capsys.readouterr().out
    assert "edge_hi          2.91421" in table
    assert table.splitlines()[-1].split() == ["2.91421", "0", "1"]
    assert cli.run(["theory", "tw", "--n", "1000", "--m", "500", "--level", "0.01", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0]["z"] == 2.0234
    assert found["law"].startswith("Tracy-Widom")
    assert cli.run(["theory", "bbp", "--q", "2", "--theta", "0.5,2", "--format", "csv"]) == 0
    lines = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert lines == [
        ["theta", "eigenvalue", "overlap_M", "overlap_N"],
        ["0.5", "", "0.0", "0.0"],
        ["2.0", "5.625", "0.8611111111111112", "0.775"],
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["mp", "--q", "0.5"], "--q is N/M"),
        (["mp", "--q", "nan"], "not nan"),
        (["mp", "--q", "2", "--sigma", "0"], "--sigma is a positive standard deviation, not 0"),
        (["mp", "--q", "2", "--n-points", "1"], "--n-points is a number from 2 to 100000, not 1"),
        (["tw", "--n", "10", "--m", "1"], "--m is a number from 2 on, not 1"),
        (["tw", "--n", "10", "--m", "5", "--level", "0.5"], "--level is a probability of the upper tail"),
        (["tw", "--n", "10", "--m", "5", "--level", "x"], "--level is a list of numbers"),
        (["bbp", "--q", "2", "--theta", "1,-2"], "--theta are positive numbers"),
        (["bbp", "--q", "2", "--theta", "inf"], "--theta is a list of numbers"),
    ],
)
def test_what_means_nothing_is_a_usage_error(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["theory", *arguments]) == 2
    assert problem in capsys.readouterr().err
