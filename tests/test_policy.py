"""Policy files: what they may say, what wins, and every message about what they must not say."""

from __future__ import annotations

import datetime
import json
import os
import random
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

import ww_static
from support import ROOT
from test_cli import here
from ww_static.errors import PolicyError
from ww_static.policies import effective, loading, template
from ww_static.policies.policy import Head, Policy, Suppression, overridden
from ww_static.rules.catalogue import RULES

WHOLE = """\
schema = 1
profile = "fast"
fail_on = "warn"
on_unreadable = "warn"
on_inconclusive = "fail"
ignore = ["WW011"]
[limits]
memory = "2GiB"
seconds = 600
[rules.WW201]
severity = "info"
kinds = ["dense"]
max = 5
[rules.WW010]
min_analysed_share = 0.5
[[aggregate]]
expr = { metric = "alpha", above = 6.0, max_share = 0.2 }
[[aggregate]]
code = "WW210"
expr = { metric = "stable_rank", below = 2, max_count = 3, kinds = ["attention"] }
[[suppress]]
code = "WW104"
model = "checkpoints/*"
tensor = "*.lora_A.weight"
reason = "rank 8 by construction"
expires = 2027-03-31
[[suppress]]
code = "WW102"
reason = "switched off"
tensor = 're:^head\\.'
"""


def written(folder: Path, text: str | bytes, name: str = "ww-static.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(folder: Path, text: str | bytes, name: str = "ww-static.toml") -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        loading.load(str(written(folder, text, name)))
    return caught.value.problems


def test_a_file_may_say_everything_and_what_it_does_not_say_is_the_default(tmp_path: Path) -> None:
    policy = loading.load(str(written(tmp_path, WHOLE)))
    assert (policy.profile, policy.fail_on, policy.on_unreadable, policy.on_inconclusive) == ("fast", "warn", "warn", "fail")
    assert (policy.limits.memory, policy.limits.seconds) == ("2GiB", 600)
    said = {"severity": "info", "kinds": ("dense",), "max": 5.0}
    assert msgspec.to_builtins(policy.rules["WW201"]) == msgspec.to_builtins(RULES["WW201"].settings()) | said
    assert policy.severity("WW011") == "off"
    assert {code: one for code, one in policy.rules.items() if code not in ("WW201", "WW010")} == {
        code: one for code, one in Policy().rules.items() if code not in ("WW201", "WW010")
    }
    assert [one.expr.max_count for one in policy.aggregate] == [None, 3]
    assert policy.suppress[0].expires == datetime.date(2027, 3, 31)
    assert policy.suppress[1] == Suppression(code="WW102", reason="switched off", tensor=r"re:^head\.")
    assert loading.load(str(written(tmp_path, "schema = 1"))) == Policy(
        source=str(tmp_path / "ww-static.toml"),
    )


def test_a_table_of_pyproject_is_the_same_policy(tmp_path: Path) -> None:
    lines = [re.sub(r"^(\[\[?)", r"\1tool.ww-static.", line) if line.startswith("[") else line for line in WHOLE.splitlines()]
    path = written(tmp_path, "[tool.ww-static]\n" + "\n".join(lines), "pyproject.toml")
    own = loading.load(str(written(tmp_path, WHOLE)))
    found = loading.load(str(path))
    assert msgspec.structs.replace(found, source=None, origins={}) == msgspec.structs.replace(own, source=None, origins={})


# What a file says after `schema = 1` -> the problem, and its place.
WRONG = {
    'fail_on = "fatal"': ("Invalid enum value 'fatal'; it is one of: never, warn, error", "$.fail_on"),
    "[[supress]]": ("unknown field; did you mean suppress? known are: schema, profile, ", "$.supress"),
    "xyz = 1": ("unknown field; known are: schema, profile, ", "$.xyz"),
    "falon = 1": ("unknown field; did you mean fail_on? known are: schema, profile, fail_on, ", "$.falon"),
    'select = "WW101"': ("Expected `array`, got `str`", "$.select"),
    'ignore = ["WW21"]': ("rule 'WW21' is not known; did you mean WW210 (aggregate)? `ww-static rules list` shows them all", "$"),
    "limits = 3": ("Expected `object`, got `int`", "$.limits"),
    "[limits]\nmemory = -1": ("a size must be positive, not -1", "$.limits"),
    '[limits]\nmemory = "much"': ("'much' is not a size such as 600MiB or 2GB", "$.limits"),
    "[limits]\nseconds = 0": ("seconds is a positive number, not 0.0", "$.limits"),
    "rules = 1": ("Expected `object`, got `int`", "$.rules"),
    "[rules.WW999]": ("rule 'WW999' is not known; did you mean WW", "$.rules.WW999"),
    "[rules.alpha-abov]": ("rule 'alpha-abov' is not known; did you mean WW201 (alpha-above)?", "$.rules.alpha-abov"),
    "[rules]\nWW201 = 6": ("Expected `object`, got `int`", "$.rules.WW201"),
    '[rules.WW201]\nmax = "6"': ("Expected `float`, got `str`", "$.rules.WW201.max"),
    "[rules.WW201]\nmaximum = 6": ("Object contains unknown field `maximum`; did you mean max? known are: ", "$.rules.WW201"),
    "[rules.WW201]\nmax = -6": ("Expected `float` > 1.0", "$.rules.WW201.max"),
    "[rules.WW201]\nmax = nan": ("Expected `float` > 1.0", "$.rules.WW201.max"),
    "[rules.WW201]\nmax = inf": ("max is a number from 0, not inf", "$.rules.WW201"),
    '[rules.WW201]\nseverity = "fatal"': ("Invalid enum value 'fatal'; it is one of: error, warn, info, off", "$.rules.WW201.severity"),
    '[rules.WW201]\nkinds = ["dens"]': ("kind 'dens' is not known; did you mean dense? known are: dense, attention", "$.rules.WW201"),
    "[rules.WW010]\nmin_analysed_share = 95": ("Expected `float` <= 1.0", "$.rules.WW010.min_analysed_share"),
    "[aggregate]": ("Expected `array`, got `object`; write [[aggregate]]", "$.aggregate"),
    "[[aggregate]]": ("Object missing required field `expr`", "$.aggregate[0]"),
    '[[aggregate]]\nexpr = "alpha > 6"': ("Expected `object`, got `str`", "$.aggregate[0].expr"),
    '[[aggregate]]\nexpr = {metric = "alpa", above = 1, max_count = 1}': ("metric 'alpa' is not known; did you mean alpha? `ww-static schema layers`", "$.aggregate[0]"),
    '[[aggregate]]\nexpr = {metric = "name", above = 1, max_count = 1}': ("metric 'name' is not known", "$.aggregate[0]"),
    '[[aggregate]]\nexpr = {metric = "alpha", above = 1, below = 1, max_count = 1}': ("expr has one of above and below", "$.aggregate[0]"),
    '[[aggregate]]\nexpr = {metric = "alpha", above = 1}': ("expr has one of max_share and max_count", "$.aggregate[0]"),
    '[[aggregate]]\nexpr = {metric = "alpha", above = nan, max_count = 1}': ("above is a finite number, not nan", "$.aggregate[0]"),
    '[[aggregate]]\nexpr = {metric = "alpha", above = 1, max_count = -1}': ("max_count is a number from 0, not -1", "$.aggregate[0]"),
    '[[aggregate]]\nexpr = {metric = "alpha", above = 1, max_share = 1.5}': ("Expected `float` <= 1.0", "$.aggregate[0].expr.max_share"),
    '[[aggregate]]\nexpr = {metric = "alpha", over = 1}': ("Object contains unknown field `over`; did you mean above? known are: metric, above", "$.aggregate[0].expr"),
    '[[suppress]]\ncode = "WW104"': ("Object missing required field `reason`", "$.suppress[0]"),
    '[[suppress]]\ncode = "WW104"\nreason = " "': ("reason is empty; say why the finding is accepted", "$.suppress[0]"),
    '[[suppress]]\ncode = "ww104"\nreason = "r"': ("rule 'ww104' is not known; did you mean WW104 (rank-collapse)?", "$.suppress[0]"),
    '[[suppress]]\ncode = "WW104"\nreason = "r"\ntensor = ""': ("tensor is an empty pattern", "$.suppress[0]"),
    '[[suppress]]\ncode = "WW104"\nreason = "r"\ntensor = "re:("': ("tensor 're:(' is not a regular expression", "$.suppress[0]"),
    '[[suppress]]\ncode = "WW104"\nreason = "r"\nexpires = "soon"': ("Invalid RFC3339 encoded date", "$.suppress[0].expires"),
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_means_nothing_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    said, place = WRONG[text]
    (found,) = problems(tmp_path, f"schema = 1\n{text}\n")
    assert found.startswith(said)
    assert found.endswith(f" - at `{place}`")


def test_no_limit_of_any_rule_is_negative_infinite_or_no_number(tmp_path: Path) -> None:
    for code, settings in Policy().rules.items():
        for name in settings.__struct_fields__:
            if type(getattr(settings, name)) in (int, float):
                for value in ("-1", "-0.5", "nan", "inf"):
                    (found,) = problems(tmp_path, f"schema = 1\n[rules.{code}]\n{name} = {value}")
                    assert f"$.rules.{code}" in found


NAMES = (
    *loading._KEYS, "WW101", "WW201", "WW301", "severity", "kinds", "max", "expr", "metric", "above", "max_share", "code", "reason", "model",
    "tensor", "expires", "x",
)  # fmt: skip
LEAVES = (
    True, 0, 1, -1, 0.5, float("nan"), "", "x", "WW101", "WW210", "alpha", "name", "error", "off", "fast", "warn", "dense", "re:(", "2GiB",
    datetime.date(2027, 1, 1), datetime.datetime(2027, 1, 1), datetime.time(1),
)  # fmt: skip


def anything(chance: random.Random, depth: int) -> Any:
    """What TOML may hold, of words that a policy knows."""
    kind = chance.random() if depth else 1.0
    if kind < 0.4:
        return {name: anything(chance, depth - 1) for name in chance.sample(NAMES, chance.randrange(4))}
    return [anything(chance, depth - 1) for _ in range(chance.randrange(3))] if kind < 0.6 else chance.choice(LEAVES)


def test_whatever_toml_holds_is_a_policy_or_is_refused() -> None:
    chance, ends = random.Random(0), set()
    for _ in range(4000):
        document = {name: anything(chance, 3) for name in chance.sample(NAMES, chance.randrange(4))} | {"schema": 1}
        try:
            policy = loading.checked(document, "p", "$")
        except PolicyError as error:
            ends.add("refused")
            wrong = [problem for problem in error.problems if " - at `$" not in problem]
        else:
            ends.add("obeyed")
            wrong = [] if loading.verified(policy) == policy else [str(document)]
        assert wrong == []
    assert ends == {"refused", "obeyed"}


def test_a_pyproject_that_was_named_has_the_table(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "[tool.other]", "pyproject.toml")
    assert found == "it has no table [tool.ww-static]; add one with `schema = 1`, or name another file"
    (found,) = problems(tmp_path, "[tool]\nww-static = 1", "pyproject.toml")
    assert found == "Expected `object`, got `int` - at `$.tool.ww-static`"


def test_a_policy_made_in_python_is_checked_and_completed(tmp_path: Path) -> None:
    whole = loading.load(str(written(tmp_path, WHOLE)))
    assert loading.verified(whole) == whole
    assert loading.verified(Policy()) == Policy()
    few = Policy(rules={"WW201": RULES["WW201"].settings(severity="error")})
    assert set(loading.verified(few).rules) == set(RULES)
    assert loading.verified(few).severity("WW201") == "error"
    wrong = Policy(fail_on="fatal", rules={"WW1": RULES["WW101"].settings()}, suppress=(Suppression(code="WW101", reason=""),))  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="'fatal'") as caught:
        ww_static.audit([], policy=wrong)
    assert len(caught.value.problems) == 3


def test_a_place_in_pyproject_is_that_of_the_whole_file(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "[tool.ww-static]\nschema = 1\n[tool.ww-static.rules.WW201]\nmax = true", "pyproject.toml")
    assert found == "Expected `float`, got `bool` - at `$.tool.ww-static.rules.WW201.max`"


def test_every_table_has_its_problem_told(tmp_path: Path) -> None:
    text = 'fail_on = 1\n[limits]\nmemory = []\n[rules.WW201]\nmax = ""\n[rules.WW1]\n[[suppress]]\n[[suppress]]\ncode = 1'
    assert len(problems(tmp_path, text)) == 7
    assert len(problems(tmp_path, "schema = 1\nfailon = 1\n[rule.WW101]\n[[supress]]")) == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "`schema = 1` is missing"),
        ("schema = 2", "schema 2 is not known, this release reads 1; use a newer ww-static"),
        ("schema = 0", "schema 0 is not known, this release reads 1; write `schema = 1`"),
        ('schema = "1"', "schema '1' is not known"),
        ("schema = true", "schema True is not known"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, line: str, said: str) -> None:
    (found,) = problems(tmp_path, line)
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"schema = ", "not TOML: Invalid value"),
        (b"schema = 1\n\xff", "not UTF-8 at byte 11"),
        (b"#" * (loading.MOST_BYTES + 1), f"it has {loading.MOST_BYTES + 1} bytes, a policy at most {loading.MOST_BYTES}"),
        (b"a = " + b"[" * 100_000, "not TOML: nested too deeply"),
        (b"a = " + b"9" * 10_000, "not TOML: "),
    ],
)
def test_a_file_that_is_no_policy_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (found,) = problems(tmp_path, content)
    assert found.startswith(said)


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, said in (
        ("fifo", "is a FIFO; a policy is a regular file that can be read"),
        ("nothing", "no such file or directory; `ww-static policy init -o FILE` writes one"),
        (".", "is a directory; name the file in it"),
        ("nul\0", "the path holds a NUL character; a policy is a regular file that can be read"),
    ):
        with pytest.raises(PolicyError) as caught:
            loading.load(f"{tmp_path}/{name}")
        assert caught.value.problems == (said,)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    policy = overridden(
        loading.load(str(written(tmp_path, WHOLE)), shown="p.toml"), fail_on="never", profile=None, select=("WW101",)
    )
    origins = {one.key: (one.value, one.origin) for one in effective.values(policy)}
    assert origins["fail_on"] == ("never", "command line")
    assert origins["select"] == (("WW101",), "command line")
    assert origins["profile"] == ("fast", "p.toml")
    assert origins["rules.WW201.max"] == (5.0, "p.toml [rules.WW201]")
    assert origins["rules.WW010.severity"] == ("error", "default")
    assert origins["limits.memory"] == ("2GiB", "p.toml [limits]")
    expression = {"metric": "stable_rank", "below": 2.0, "max_count": 3, "kinds": ("attention",)}
    assert origins["aggregate[1]"] == ({"code": "WW210", "expr": expression}, "p.toml [[aggregate]]")
    assert origins["suppress[0]"] == (
        {"code": "WW104", "model": "checkpoints/*", "tensor": "*.lora_A.weight", "reason": "rank 8 by construction", "expires": "2027-03-31"},
        "p.toml [[suppress]]",
    )  # fmt: skip
    assert json.loads(effective.document(policy))["values"]["fail_on"] == {"value": "never", "origin": "command line"}
    assert re.search(r'(?m)^fail_on = "never" +# command line$', effective.text(policy))


def test_the_commented_file_changes_nothing_and_holds_every_rule(tmp_path: Path) -> None:
    text = template.commented()
    assert loading.load(str(written(tmp_path, text)), shown="x") == Policy(source="x")
    values = re.sub(r"(?m)^# (?!#|The policy|`ww|Limits|Findings|model and)", "", text)
    table = tomllib.loads(values)
    assert set(table["rules"]) == set(RULES)
    policy = loading.checked({**table, "limits": {}, "aggregate": [], "suppress": []}, "x", "$")
    assert msgspec.structs.replace(policy, origins={}) == Policy(source="x")
    assert loading.checked(table, "x", "$").suppress[0].reason == "rank 8 by construction"
    assert all(re.search(rf"(?m)^# (?:# )?{name} = ", text) for name in Head.__struct_fields__)
    for code, one in Policy().rules.items():
        said = {f"rules.{code}.{name}" for name in one.__struct_fields__ if getattr(one, name) is not None}
        assert said <= set(policy.origins)


def test_the_schema_of_the_file_agrees_with_the_checks(tmp_path: Path) -> None:
    schema = template.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    undescribed = [
        f"{table}.{name}"
        for table, one in schema["$defs"].items()
        for name, value in one.get("properties", {}).items()
        if "description" not in value
    ]
    assert [name for name in undescribed if not name.startswith(("Rules.", "Document."))] == []
    document: dict[str, Any] = tomllib.loads(WHOLE)
    document["suppress"][0]["expires"] = "2027-03-31"  # JSON has no dates
    jsonschema.validate(document, schema)
    for wrong in ({}, {"schema": 2}, {"schema": 1, "rules": {"WW1": {}}}, {"schema": 1, "rules": {"WW201": {"max": ""}}}, {"schema": 1, "suppress": [{"code": "WW104"}]}):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_the_commands_about_policies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, err = here(capsys, "policy", "check")
    assert (code, err) == (0, "")
    assert "the defaults hold" in out
    assert here(capsys, "policy", "init", "-o", "ww-static.toml") == (0, "", "")
    before = Path("ww-static.toml").read_text()
    code, _, err = here(capsys, "policy", "init", "-o", "ww-static.toml")
    assert (code, Path("ww-static.toml").read_text()) == (2, before)
    assert "it exists" in err
    assert here(capsys, "policy", "init")[1] == before
    assert here(capsys, "policy", "check")[:2] == (
        0,
        "ww-static.toml: valid; values that are set: 0\nrules: none; aggregates: 0; suppressions: 0\n",
    )
    written(tmp_path, WHOLE.replace("2027", "2020"))
    code, out, _ = here(capsys, "policy", "check", "ww-static.toml")
    assert (code, out.splitlines()[1:]) == (0, ["rules: WW010, WW201; aggregates: 2; suppressions: 2", "suppress[0] of WW104 expired on 2020-03-31: it no longer holds"])  # fmt: skip
    shown = json.loads(here(capsys, "policy", "show", "--on-unreadable", "fail", "--format", "json")[1])
    assert shown["policy"] == "ww-static.toml"
    assert shown["values"]["on_unreadable"] == {"value": "fail", "origin": "command line"}
    assert json.loads(here(capsys, "policy", "schema")[1]) == json.loads(json.dumps(template.json_schema()))
    written(tmp_path, "schema = 1\nfail_on = 1\n[rules.WW201]\nmax = ''\n[rules.'\x1b[31m']".replace("\x1b", "\\u001b").replace("'\\", '"\\').replace("m'", 'm"'))  # fmt: skip
    code, out, err = here(capsys, "policy", "check")
    assert (code, out, len(err.splitlines())) == (2, "", 3)
    assert all(line.startswith("ww-static.toml: ") for line in err.splitlines())
    assert "\x1b" not in err


def test_the_file_and_the_messages_of_the_page_are_true(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"(?ms)^```toml\n(.*?)^```", page)
    policy = loading.load(str(written(tmp_path, example)))
    assert {name for name in tomllib.loads(example) if name != "schema"} <= {
        key.partition(".")[0].partition("[")[0] for key in policy.origins
    }
    (shown,) = re.findall(r"(?ms)^```text\n(.*?)^```", page)
    found = problems(tmp_path, 'schema = 1\n[rules.WW201]\nmax = "6"\n[rules.WW21]\n')
    assert [f"ww-static.toml: {problem}" for problem in found] == shown.splitlines()
