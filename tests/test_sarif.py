"""SARIF 2.1.0: the official schema, places, levels, suppressions, baselines, what is unread, the cap."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import numpy as np
import pytest

import ww_static as ww
from audits import audited, layer, nan_layer, undecoded, unread
from conftest import Writer
from support import fetched
from ww_static.cli import main
from ww_static.errors import UsageError
from ww_static.models import Source
from ww_static.outputs import sarif, writers
from ww_static.policies.policy import Policy, Suppression
from ww_static.results import Result
from ww_static.rules.catalogue import RULES


@pytest.fixture(scope="session")
def validator() -> jsonschema.Draft4Validator:
    """The schema of OASIS, errata 01: fetched with pip, checked by sha256; its absence fails in CI and skips elsewhere."""
    schema = json.loads(fetched("sarif-schema").read_text(encoding="utf-8"))
    assert schema["id"].endswith("/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json")
    jsonschema.Draft4Validator.check_schema(schema)
    return jsonschema.Draft4Validator(schema)


def log(result: Result) -> dict[str, Any]:
    """The one run of the log, as it is written."""
    (run,) = json.loads(writers.text(result, "sarif"))["runs"]
    return dict(run)


def mixed() -> Result:
    """Every severity and outcome, a suppressed finding, several models."""
    codes, left = undecoded("codes")
    rows = [layer("sound"), nan_layer("nan", part="q"), nan_layer("known"), codes, layer("steep", alpha=9.0), unread("cut")]
    return audited(rows, [left], Policy(suppress=(Suppression(code="WW101", tensor="known", reason="masks"),)))


def nulls(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(nulls, value.values()))
    return any(map(nulls, value)) if isinstance(value, list) else value is None


def test_logs_meet_the_official_schema(validator: jsonschema.Draft4Validator) -> None:
    empty = audited([layer("sound")])
    against = replace(empty, finding_rows=tuple(replace(one, baseline="fixed") for one in mixed().finding_rows))
    for result in (mixed(), empty, audited([]), against):
        document = json.loads(writers.text(result, "sarif"))
        validator.validate(document)
        assert not nulls(document)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"version": "2.1.0", "runs": [{"results": []}]})


def test_a_finding_names_its_rule_its_tensor_and_its_fingerprint() -> None:
    found = {one["message"]["text"]: one for one in log(mixed())["results"]}
    one = found["tensor 'nan [q]': 3 NaN and 0 infinite of 400 elements"]
    assert (one["ruleId"], one["level"], one["suppressions"]) == ("WW101", "error", [])
    (place,) = one["locations"]
    assert place["logicalLocations"] == [{"fullyQualifiedName": "nan [q]"}]
    assert place["physicalLocation"]["region"] == {"startLine": 1}
    (row,) = [row for row in mixed().finding_rows if row.name == "nan"]
    assert set(one["partialFingerprints"].values()) == {row.fingerprint}
    assert log(mixed())["tool"]["driver"]["rules"][one["ruleIndex"]]["id"] == "WW101"


def test_every_rule_has_its_texts() -> None:
    rules = log(mixed())["tool"]["driver"]["rules"]
    assert [one["id"] for one in rules] == sorted(RULES)
    for one in rules:
        assert RULES[one["id"]].fix in one["help"]["text"].replace("{{", "{").replace("}}", "}")
        assert "helpUri" not in one


def test_a_rule_that_is_off_by_default_says_so() -> None:
    rules = {one["id"]: one["defaultConfiguration"] for one in log(mixed())["tool"]["driver"]["rules"]}
    off = {code for code, rule in RULES.items() if rule.settings().severity == "off"}
    assert {code for code, one in rules.items() if one.get("enabled", True) is False} == off != set()
    assert all(rules[code]["level"] == "none" for code in off)


def test_levels_are_those_of_the_policy() -> None:
    levels = {one["ruleId"]: one["level"] for one in log(mixed())["results"]}
    assert (levels["WW101"], levels["WW201"]) == ("error", "warning")
    order = [one["level"] for one in log(mixed())["results"]]
    assert order == sorted(order, key=["error", "warning", "note"].index)


def test_suppressed_findings_stay_with_their_reason() -> None:
    reasons = [one["suppressions"] for one in log(mixed())["results"] if one["suppressions"]]
    assert reasons == [[{"kind": "external", "status": "accepted", "justification": "masks"}]]
    assert not [one for one in log(audited([nan_layer("nan")]))["results"] if "suppressions" in one]


def test_what_is_unread_is_told_as_a_failed_run() -> None:
    (invocation,) = log(mixed())["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 3)
    (note,) = invocation["toolExecutionNotifications"]
    assert (note["descriptor"], note["level"], note["message"]) == ({"id": "truncated"}, "error", {"text": "12 bytes for 96"})
    assert log(audited([nan_layer("nan")]))["invocations"] == [
        {"executionSuccessful": True, "exitCode": 1, "exitCodeDescription": "violated"}
    ]


@pytest.mark.parametrize(
    ("state", "told"), [("new", "new"), ("changed", "updated"), ("unchanged", "unchanged"), ("fixed", "absent")]
)
def test_the_state_against_a_baseline_is_told(state: str, told: str) -> None:
    result = audited([nan_layer("nan")])
    found = tuple(replace(one, baseline=state) for one in result.finding_rows)
    assert [one["baselineState"] for one in log(replace(result, finding_rows=found))["results"]] == [told]


def test_many_findings_are_cut_with_errors_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarif, "MOST_RESULTS", 7)
    rows = [layer(f"steep.{place}", alpha=9.0) for place in range(5)] + [nan_layer(f"nan.{place}") for place in range(5)]
    run = log(audited(rows))
    assert [one["level"] for one in run["results"]] == ["error"] * 5 + ["warning"] * 2
    assert [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]] == [
        "3 further results are left out; the other formats have them all"
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "a b#?%:é.safetensors", "caf\udce9.safetensors", "back\\slash"])
def test_files_are_named_from_the_working_directory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path, shown, uri in (
        (f"models/{name}", name, f"models/{name}"),
        (f"models/a/{name}", f"a/{name}", f"models/a/{name}"),
        (str(tmp_path / "models" / name), name, f"models/{name}"),
        (f"./models/../{name}", name, name),
        (str(tmp_path.parent / "elsewhere" / name), name, name),
    ):
        row = replace(nan_layer("nan"), file=shown)
        (one,) = log(audited([row], sources=[Source(path, shown, "model")]))["results"]
        place = one["locations"][0]["physicalLocation"]["artifactLocation"]
        assert place["uriBaseId"] == "%SRCROOT%"
        assert os.fsdecode(unquote(place["uri"], errors="surrogateescape")) == uri
        assert ":" not in place["uri"]


@pytest.mark.parametrize(("source", "uri"), [("ci/ww-static.toml", "ci/ww-static.toml"), ("../p.toml", "p.toml"), (None, None)])
def test_a_finding_about_the_policy_is_in_its_file(source: str | None, uri: str | None) -> None:
    policy = Policy(suppress=(Suppression(code="WW101", model="model", reason="masks"),), source=source)
    (one,) = log(audited([layer("sound")], policy=policy))["results"]
    assert one["ruleId"] == "WW090"
    places = [place["physicalLocation"]["artifactLocation"]["uri"] for place in one.get("locations", ())]
    assert places == ([] if uri is None else [uri])


def test_a_shard_is_named_beside_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = replace(nan_layer("nan"), file="a/model-00002.safetensors")
    source = Source("models/a/model.safetensors.index.json", "a/model.safetensors.index.json", "model")
    (one,) = log(audited([row], sources=[source]))["results"]
    assert one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/a/model-00002.safetensors"


def test_the_command_writes_the_same_bytes_wherever_the_repository_lies(
    save: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validator: jsonschema.Draft4Validator
) -> None:
    damaged = {"a.weight": np.full((20, 30), np.nan, np.float32), "b.weight": np.eye(20, dtype=np.float32)}
    written = []
    for folder in ("one", "another"):
        save(damaged, f"{folder}/models/m.safetensors")
        monkeypatch.chdir(tmp_path / folder)
        with pytest.raises(SystemExit):
            main(["audit", "models", "-o", "r.sarif", "-o", "r.sarif.json", "--no-config"])
        assert Path("r.sarif").read_bytes() == Path("r.sarif.json").read_bytes()
        written.append(Path("r.sarif").read_bytes())
    assert written[0] == written[1]
    assert str(tmp_path).encode() not in written[0]
    validator.validate(json.loads(written[0]))


@pytest.mark.parametrize("command", ["analyze", "describe"])
@pytest.mark.parametrize("suffix", [".sarif", ".xml"])
def test_what_no_audit_found_is_not_written(
    command: str, suffix: str, save: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = save({"w.weight": np.eye(9, dtype=np.float32)}), tmp_path / f"r{suffix}"
    with pytest.raises(SystemExit) as ended:
        main([command, str(path), "-o", str(target)])
    assert ended.value.code == 2
    assert "says what an audit found; `ww-static audit` writes it" in capsys.readouterr().err
    assert not target.exists()
    for attempt in (partial(ww.describe(path).write, target), partial(writers.text, ww.describe(path), "sarif")):
        with pytest.raises(UsageError, match="ww-static audit"):
            attempt()
