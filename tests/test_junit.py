"""JUnit XML: counts that agree, cases for layers, what the gate says of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace

import pytest

from audits import audited, layer, nan_layer, undecoded, unread
from ww_static.outputs import writers
from ww_static.policies.policy import Policy, Suppression
from ww_static.results import Result
from ww_static.rows import FindingRow

SKIPPED = layer("norm", status="skipped", reason="one_dimensional", has_esd=False, alpha=None)


def suites(result: Result) -> ET.Element:
    return ET.fromstring(writers.text(result, "junit"))


def outcomes(result: Result) -> dict[str, str]:
    """The name of each case, and what became of it."""
    found = {}
    for case in suites(result).iter("testcase"):
        tags = [child.tag for child in case if child.tag != "system-out"]
        assert len(tags) <= 1
        found[case.attrib["name"]] = tags[0] if tags else "passed"
    return found


def mixed(policy: Policy) -> Result:
    codes, left = undecoded("codes")
    rows = [layer("sound"), nan_layer("nan", part="q"), layer("steep", alpha=9.0), SKIPPED, codes, unread("cut")]
    return audited(rows, [left], policy)


def test_counts_agree_with_what_is_there() -> None:
    root = suites(mixed(Policy()))
    for element in (root, *root):
        cases = list(element.iter("testcase"))
        tags = Counter(child.tag for case in cases for child in case)
        counts = {name: int(element.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
        assert counts == {"tests": len(cases), "failures": tags["failure"], "errors": tags["error"], "skipped": tags["skipped"]}
    assert [one.attrib["name"] for one in root] == ["model", "cut"]
    assert not [element for element in root.iter() if {"time", "timestamp", "hostname"} & set(element.attrib)]


@pytest.mark.parametrize(
    ("policy", "nan", "steep", "codes", "cut"),
    [
        (Policy(), "failure", "passed", "error", "error"),
        (Policy(fail_on="warn"), "failure", "failure", "error", "error"),
        (Policy(fail_on="never"), "passed", "passed", "error", "error"),
        (Policy(on_inconclusive="warn"), "failure", "passed", "skipped", "error"),
        (Policy(on_unreadable="warn"), "failure", "passed", "error", "skipped"),
        (Policy(suppress=(Suppression(code="WW101", reason="masks"),)), "passed", "passed", "error", "error"),
    ],
)
def test_the_report_agrees_with_the_exit_code(policy: Policy, nan: str, steep: str, codes: str, cut: str) -> None:
    expected = {"sound": "passed", "norm": "skipped", "nan [q]": nan, "steep": steep, "codes": codes, "WW003 truncated": cut}
    found = outcomes(mixed(policy))
    coverage = found.pop("WW010 coverage", None)
    # a failed row whose finding does not count was still not analysed
    assert found == expected | ({"nan [q]": "skipped"} if nan == "passed" else {})
    assert coverage in (None, "failure", "passed")
    statuses = set(found.values())
    assert mixed(policy).exit_code == (3 if "error" in statuses else 1 if "failure" in statuses else 0)


def test_a_case_says_what_was_found() -> None:
    (case,) = [one for one in suites(mixed(Policy())).iter("testcase") if one.attrib["name"] == "nan [q]"]
    (failure,) = case
    assert case.attrib["classname"] == "model.safetensors"
    assert failure.attrib == {"type": "WW101", "message": "3 NaN and 0 infinite of 400 elements"}
    assert failure.text == "error WW101: 3 NaN and 0 infinite of 400 elements"


def test_a_finding_that_does_not_count_is_still_told() -> None:
    (case,) = [one for one in suites(mixed(Policy())).iter("testcase") if one.attrib["name"] == "steep"]
    assert [(child.tag, (child.text or "").split(":")[0]) for child in case] == [("system-out", "warn WW201")]
    known = audited([nan_layer("nan")], policy=Policy(suppress=(Suppression(code="WW101", reason="masks"),)))
    assert "(suppressed: masks)" in writers.text(known, "junit")


def test_findings_about_no_layer_have_cases_of_their_own() -> None:
    said = [
        FindingRow(
            model_id="model", file="model.safetensors", category="unsafe_pickle", where=f"byte {place}", message="os.system"
        )
        for place in (1, 2)
    ]
    found = outcomes(audited([layer("sound")], said))
    assert found == {"sound": "passed", "WW004 unsafe_pickle byte 1": "failure", "WW004 unsafe_pickle byte 2": "failure"}


def test_nothing_unread_is_left_out_where_no_finding_says_it() -> None:
    result = audited([unread("cut")])
    assert result.judgement is not None
    silent = replace(result, judgement=replace(result.judgement, findings=()))
    assert outcomes(silent) == {"file": "skipped"}
    assert writers.text(result, "junit") == writers.text(audited([unread("cut")]), "junit")
