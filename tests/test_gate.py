"""The exit code of an audit: every cell of outcome, --fail-on, --on-unreadable and --on-inconclusive, by rows that are judged."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import ww_static
from support import ROOT, safetensors_bytes
from test_docs import emitted
from ww_static.auditing import PROFILES
from ww_static.policies import gate
from ww_static.policies.judgement import Judgement, judge
from ww_static.policies.policy import Policy, Suppression
from ww_static.rows import FindingRow, LayerRow
from ww_static.rules.aggregates import Aggregate, Expression
from ww_static.rules.catalogue import RULES
from ww_static.rules.files import CODE_OF

TODAY = datetime.date(2026, 11, 22)
COMMON: dict[str, Any] = {"model_id": "model", "file": "model.safetensors", "kind": "dense", "dtype": "F32"}
SOUND = LayerRow(name="sound.weight", status="success", has_esd=True, numel=1_000_000, N=1000, M=1000, num_evals=1000, matrix_rank=1000, abs_max=1.0,
                 min=-1.0, max=1.0, n_nan=0, n_inf=0, alpha=3.0, **COMMON)  # fmt: skip
ZERO = LayerRow(name="zero.weight", status="success", has_esd=True, numel=400, N=20, M=20, num_evals=20, matrix_rank=0, abs_max=0.0,
                min=0.0, max=0.0, n_nan=0, n_inf=0, **COMMON)  # fmt: skip
STEEP = LayerRow(name="steep.weight", status="success", has_esd=True, numel=400, N=20, M=20, num_evals=20, matrix_rank=20, abs_max=1.0,
                 min=-1.0, max=1.0, n_nan=0, n_inf=0, alpha=9.0, sigma=0.2, D=0.05, phase="heavy-tailed", **COMMON)  # fmt: skip
CODES_OF = LayerRow(name="codes.weight", status="skipped", reason="quantized", numel=400, **COMMON)
UNDECODED = FindingRow(model_id="model", file="model.safetensors", name="codes.weight", category="quantized", where="tensor 'codes.weight'",
                       message="I8 codes", inconclusive=True)  # fmt: skip
PICKLE = FindingRow(
    model_id="model", file="model.pt", category="unsafe_pickle", where="data.pkl", message="posix.system", inconclusive=True
)
CUT = LayerRow(model_id="cut", file="cut.safetensors", status="error", category="truncated", message="12 bytes for 96")
POINTER = LayerRow(model_id="lfs", file="lfs.safetensors", status="error", category="lfs_pointer", message="a pointer")
BUG = LayerRow(model_id="bug", file="bug.safetensors", status="error", category="internal_error", message="KeyError")

OUTCOMES: dict[str, tuple[tuple[LayerRow, ...], tuple[FindingRow, ...]]] = {
    "clean": ((SOUND,), ()),
    "info": ((SOUND,), (FindingRow(model_id="model", name=None, category="duplicate_variant", where="b.onnx", message="not read"),)),
    "warn": ((SOUND, STEEP), ()),
    "error": ((SOUND, ZERO), ()),
    "inconclusive": ((SOUND, CODES_OF), (UNDECODED,)),
    "inconclusive, error": ((SOUND, ZERO, CODES_OF), (UNDECODED,)),
    "inconclusive, wrong": ((SOUND,), (PICKLE,)),
    "unreadable": ((SOUND, CUT), ()),
    "unreadable, error": ((SOUND, ZERO, CUT), ()),
    "unreadable, inconclusive": ((SOUND, CODES_OF, CUT), (UNDECODED,)),
    "pointer": ((SOUND, POINTER), ()),
    "pointer, unreadable": ((SOUND, POINTER, CUT), ()),
    "internal_error": ((SOUND, BUG), ()),
    "internal_error, all": ((SOUND, ZERO, CODES_OF, CUT, BUG), (UNDECODED,)),
    "nothing": ((), ()),
    "interrupted": ((SOUND,), ()),
    "interrupted, internal_error": ((SOUND, BUG), ()),
    "interrupted, nothing": ((), ()),
}  # fmt: skip
FAIL_ON = ("never", "warn", "error")
UNREAD = tuple(product(("fail", "warn"), ("fail", "warn")))  # on_unreadable, on_inconclusive
# Rows: outcome. Columns: on_unreadable and on_inconclusive fail-fail, fail-warn, warn-fail, warn-warn; in each cell the exit codes
# for fail_on never, warn, error.
EXPECTED = {
    "clean":                       ("0 0 0", "0 0 0", "0 0 0", "0 0 0"),
    "info":                        ("0 0 0", "0 0 0", "0 0 0", "0 0 0"),
    "warn":                        ("0 1 0", "0 1 0", "0 1 0", "0 1 0"),
    "error":                       ("0 1 1", "0 1 1", "0 1 1", "0 1 1"),
    "inconclusive":                ("3 3 3", "0 1 0", "3 3 3", "0 1 0"),
    "inconclusive, error":         ("3 3 3", "0 1 1", "3 3 3", "0 1 1"),
    "inconclusive, wrong":         ("3 3 3", "3 3 3", "3 3 3", "3 3 3"),
    "unreadable":                  ("3 3 3", "3 3 3", "0 1 0", "0 1 0"),
    "unreadable, error":           ("3 3 3", "3 3 3", "0 1 1", "0 1 1"),
    "unreadable, inconclusive":    ("3 3 3", "3 3 3", "3 3 3", "0 1 0"),
    "pointer":                     ("3 3 3", "3 3 3", "0 1 0", "0 1 0"),
    "pointer, unreadable":         ("3 3 3", "3 3 3", "0 1 0", "0 1 0"),
    "internal_error":              ("4 4 4", "4 4 4", "4 4 4", "4 4 4"),
    "internal_error, all":         ("4 4 4", "4 4 4", "4 4 4", "4 4 4"),
    "nothing":                     ("3 3 3", "3 3 3", "3 3 3", "3 3 3"),
    "interrupted":                 ("130 130 130",) * 4,
    "interrupted, internal_error": ("130 130 130",) * 4,
    "interrupted, nothing":        ("130 130 130",) * 4,
}  # fmt: skip


def judged(outcome: str, suppress: Sequence[Suppression] = (), **top: Any) -> Judgement:
    rows, findings = OUTCOMES[outcome]
    policy = msgspec.structs.replace(Policy(suppress=tuple(suppress)), **top)
    options = {"metrics": PROFILES[policy.profile].metrics}
    return judge(rows, findings, (), policy, TODAY, parameters=options, interrupted=outcome.startswith("interrupted"))


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("place", range(len(UNREAD)))
@pytest.mark.parametrize("fail_on", FAIL_ON)
def test_the_exit_code_is_that_of_the_table(outcome: str, place: int, fail_on: str) -> None:
    on_unreadable, on_inconclusive = UNREAD[place]
    found = judged(outcome, fail_on=fail_on, on_unreadable=on_unreadable, on_inconclusive=on_inconclusive)
    assert found.exit_code == int(EXPECTED[outcome][place].split()[FAIL_ON.index(fail_on)])
    assert bool(found.reasons) == bool(found.exit_code)


NOBODY_LOOKED = {"WW002", "WW091", "WW210"}


def test_only_what_nobody_looked_at_may_be_a_warning() -> None:
    assert set(gate._UNSEEN_CODES) == NOBODY_LOOKED
    for category, code in CODE_OF.items():
        if category in ("internal_error", "lfs_pointer"):
            continue
        open_ = Policy(on_unreadable="warn", on_inconclusive="warn")
        unread = FindingRow(model_id="model", file="model.pt", category=category, message="m", inconclusive=True)
        found = judge((SOUND,), (unread,), (), open_, TODAY)
        looked = code != "WW002" and category not in ("nothing_to_analyse", "memory_limit")
        (one,) = (one for one in found.findings if one.code == code)
        assert (found.exit_code, one.severity) == ((3, judge((SOUND,), (unread,), (), Policy(), TODAY).findings[0].severity) if looked else (0, "warn")), category  # fmt: skip
        error = LayerRow(model_id="other", status="error", category=category)
        unsafe = code in ("WW004", "WW005", "WW006")
        assert judge((SOUND, error), (), (), open_, TODAY).exit_code == (3 if unsafe else 0), category


def test_pointers_of_git_lfs_alone_may_be_a_warning() -> None:
    found = judged("pointer", on_lfs_pointers="warn")
    assert (found.exit_code, found.reasons) == (0, ())
    assert [(one.code, one.severity, one.outcome) for one in found.findings] == [("WW008", "warn", "unreadable")]
    assert judged("pointer", on_lfs_pointers="warn", fail_on="warn").exit_code == 1
    assert judged("pointer, unreadable", on_lfs_pointers="warn").exit_code == 3


def test_every_reason_that_applies_is_told_the_gravest_first() -> None:
    assert judged("internal_error, all").reasons == ("internal_error", "unreadable", "inconclusive", "violated")
    assert judged("unreadable, error").reasons == ("unreadable", "violated")
    assert judged("unreadable, error", on_unreadable="warn").reasons == ("violated",)
    assert judged("nothing").reasons == ("nothing_to_audit",)
    assert judged("interrupted, internal_error").reasons == ("interrupted", "internal_error")
    assert judged("clean").reasons == ()


def test_no_setting_of_a_rule_hides_what_is_unread() -> None:
    off = {code: msgspec.structs.replace(one, severity="off") for code, one in Policy().rules.items()}
    kinds = {code: msgspec.structs.replace(one, kinds=("norm",)) for code, one in Policy().rules.items()}
    for outcome in ("inconclusive", "unreadable", "internal_error"):
        expected = judged(outcome).exit_code
        assert judged(outcome, rules=off).exit_code == expected > 0
        assert judged(outcome, rules=kinds).exit_code == expected
        assert judged(outcome, select=("WW101",)).exit_code == expected
        assert judged(outcome, ignore=("WW001", "WW002", "WW003")).exit_code == expected
    assert judged("error", rules=off).exit_code == judged("error", rules=kinds).exit_code == 0


def test_rules_are_selected_and_ignored() -> None:
    assert [one.code for one in judged("error").findings] == ["WW102"]
    assert judged("error", select=("WW101",)).findings == judged("error", ignore=("WW102",)).findings == ()


def test_a_suppression_accepts_what_it_names_and_nothing_else() -> None:
    known = Suppression(code="WW102", reason="switched off on purpose", model="model", tensor="zero.*")
    found = judged("error", [known])
    assert (found.exit_code, found.suppressed, [one.suppressed for one in found.findings]) == (
        0,
        1,
        ["switched off on purpose"],
    )
    assert found.counts == {}
    assert judged("error", [known], fail_on="warn").exit_code == 0
    by_file = Suppression(code="WW102", reason="r", model="model.safe*")
    assert judged("error", [by_file]).exit_code == 0
    for other in (
        Suppression(code="WW102", reason="r", tensor="sound.*"),
        Suppression(code="WW103", reason="r"),
        Suppression(code="WW102", reason="r", model="other"),
    ):
        assert judged("error", [other]).exit_code == 1
    unread = Suppression(code="WW002", reason="codes that nobody uses", tensor="codes.weight")
    assert judged("inconclusive", [unread], fail_on="warn").exit_code == 0


def test_a_bug_of_ours_cannot_be_suppressed() -> None:
    found = judged("internal_error", [Suppression(code=code, reason="r") for code in RULES])
    assert (found.exit_code, found.suppressed) == (4, 0)


@pytest.mark.parametrize(("expires", "code"), [(datetime.date(2026, 11, 23), 0), (TODAY, 1), (datetime.date(2026, 11, 21), 1)])
def test_a_suppression_holds_until_the_day_it_expires(expires: datetime.date, code: int) -> None:
    found = judged("error", [Suppression(code="WW102", reason="until the next release", expires=expires)])
    assert found.exit_code == code
    told = [(one.severity, one.message) for one in found.findings if one.code == "WW090"]
    assert told == ([("warn", f"it expired on {expires}: until the next release")] if code else [])


def test_a_suppression_that_matches_nothing_is_told_where_it_would_have_been_used() -> None:
    def told(**options: Any) -> list[str]:
        top = {name: options.pop(name) for name in ("profile", "ignore") if name in options}
        found = judged("error", [Suppression(reason="r", **options)], **top)
        return [one.where or "" for one in found.findings if one.code == "WW090"]

    assert told(code="WW101", tensor="q.*") == ["suppression of WW101, model '*', tensor 'q.*'"]
    assert told(code="WW101", model="other") == []  # that model was not audited
    assert told(code="WW101", ignore=("WW101",)) == []
    assert told(code="WW101", ignore=("WW090",)) == []
    assert told(code="WW201") != []
    assert told(code="WW204") != []
    assert told(code="WW204", profile="fast") == []  # it needs what the full profile computes
    assert told(code="WW305") == []  # there is no baseline
    assert judged("clean", [Suppression(code="WW101", reason="r")], fail_on="warn").exit_code == 1
    unread = judged("unreadable", [Suppression(code="WW101", reason="r"), Suppression(code="WW101", reason="r", model="model")])
    assert [one.where for one in unread.findings if one.code == "WW090"] == ["suppression of WW101, model 'model', tensor '*'"]


def test_a_suppression_of_what_a_run_did_not_compute_is_not_stale(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "model.safetensors"
    weights = {"large.weight": rng.standard_normal((1024, 1024)), "small.weight": rng.standard_normal((64, 64))}
    path.write_bytes(safetensors_bytes({name: array.astype(np.float32) for name, array in weights.items()}))

    def told(result: ww_static.Result) -> list[str]:
        return [one.where or "" for one in result.finding_rows if one.code == "WW090"]

    accepted = [Suppression(code=code, tensor=tensor, reason="r") for code in ("WW101", "WW203", "WW204") for tensor in ("large.*", "small.*")]  # fmt: skip
    policy = Policy(profile="fast", suppress=tuple(accepted))
    assert told(ww_static.audit(path, policy=policy)) == [
        "suppression of WW101, model '*', tensor 'large.*'",  # its values were read
        "suppression of WW101, model '*', tensor 'small.*'",
        "suppression of WW203, model '*', tensor 'small.*'",
    ]
    path = tmp_path / "small.safetensors"
    path.write_bytes(safetensors_bytes({"small.weight": weights["small.weight"].astype(np.float32)}))
    analysed = ww_static.analyze(path)
    without = Policy(suppress=(Suppression(code="WW204", tensor="small.*", reason="r"),))
    assert told(ww_static.audit(analysed, policy=without)) == []
    randomized = ww_static.analyze(path, metrics=("default", "randomize"))
    assert told(ww_static.audit(randomized, policy=without)) == ["suppression of WW204, model '*', tensor 'small.*'"]


def test_too_little_coverage_is_an_error_even_when_unread_tensors_are_accepted() -> None:
    half = msgspec.structs.replace(Policy(), on_inconclusive="warn")
    rows = (
        SOUND,
        LayerRow(name="codes.weight", status="skipped", reason="quantized", numel=1_000_000, **{**COMMON, "dtype": "I8"}),
    )
    found = judge(rows, (UNDECODED,), (), half, TODAY)  # 4 MB analysed, 1 MB not
    (coverage,) = (one for one in found.findings if one.code == "WW010")
    assert (coverage.value, coverage.limit, coverage.severity, found.exit_code) == (0.8, 0.95, "error", 1)
    less = {**half.rules, "WW010": RULES["WW010"].settings(min_analysed_share=0.8)}  # type: ignore[call-arg]
    assert judge(rows, (UNDECODED,), (), msgspec.structs.replace(half, rules=less), TODAY).exit_code == 0


def test_tensors_that_are_no_weights_do_not_count_in_the_coverage() -> None:
    table = LayerRow(name="ids", status="skipped", reason="integer_tensor", numel=10**9, **{**COMMON, "dtype": "I64"})
    assert judge((SOUND, table), (), (), Policy(), TODAY).findings == ()


def test_a_tensor_that_is_another_one_counts_once_in_the_coverage() -> None:
    tied = replace(SOUND, name="tied.weight", tied_to="sound.weight")
    assert judge((SOUND, tied), (), (), Policy(), TODAY).coverage == {"model": (4e6, 0.0)}


def test_codes_that_nobody_decodes_and_values_that_a_profile_read_count_in_the_coverage() -> None:
    codes = replace(CODES_OF, dtype="I8", numel=10**6)
    large = LayerRow(name="b.weight", status="skipped", reason="profile", numel=10**9, **COMMON)
    policy = Policy(select=("WW010",), on_inconclusive="warn")
    assert judge((SOUND, codes), (UNDECODED,), (), policy, TODAY).exit_code == 1
    assert judge((SOUND, codes, large), (UNDECODED,), (), policy, TODAY).exit_code == 0


def test_whatever_is_inconclusive_or_unreadable_fails_under_any_category() -> None:
    for category in sorted({"a category of another reader", *emitted()}):
        unread = FindingRow(model_id="model", name="w", category=category, inconclusive=True)
        error = LayerRow(model_id="other", status="error", category=category)
        expected = 4 if category == "internal_error" else 3
        assert judge((SOUND,), (unread,), (), Policy(), TODAY).exit_code == expected, category
        assert judge((SOUND, error), (), (), Policy(), TODAY).exit_code == expected, category


LAYERS = tuple(
    LayerRow(name=f"{number}.weight", status="success", alpha=alpha, **{**COMMON, "kind": kind})
    for number, (alpha, kind) in enumerate(
        [(2.0, "dense"), (4.0, "dense"), (7.0, "dense"), (9.0, "attention"), (None, "dense")]
    )
)
WHOLE = LayerRow(name="5.weight", part="whole", status="success", alpha=9.0, **COMMON)
TIED = LayerRow(name="6.weight", tied_to="3.weight", status="success", alpha=9.0, **COMMON)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"above": 6.0, "max_share": 0.5}, None),
        ({"above": 6.0, "max_share": 0.49}, "alpha of 2 of 4 layers is above 6, at most 49 % may be"),
        ({"above": 6.0, "max_count": 2}, None),
        ({"above": 6.0, "max_count": 1}, "alpha of 2 of 4 layers is above 6, at most 1 may be"),
        ({"above": 7.0, "max_count": 1}, None),
        ({"below": 3.0, "max_count": 0}, "alpha of 1 of 4 layers is below 3, at most 0 may be"),
        ({"below": 2.0, "max_count": 0}, None),
        ({"below": 0.0, "max_share": 0.0}, None),
        ({"above": 6.0, "max_share": 0.4, "kinds": ("dense",)}, None),
        ({"above": 6.0, "max_share": 0.4, "kinds": ("attention",)}, "alpha of 1 of 1 layers is above 6, at most 40 % may be"),
        ({"above": 6.0, "max_share": 0.0, "kinds": ("head",)}, None),
    ],
)
def test_limits_over_the_layers_of_a_model(expression: dict[str, Any], message: str | None) -> None:
    one = Aggregate(expr=Expression(metric="alpha", **expression))
    policy = Policy(aggregate=(one,), select=("WW210",), fail_on="warn")
    found = judge((*LAYERS, WHOLE, TIED), (), (), policy, TODAY)
    assert [finding.message for finding in found.findings] == ([] if message is None else [message])
    assert all(
        (finding.code, finding.severity, finding.metric, finding.name) == ("WW210", "warn", "alpha", None)
        for finding in found.findings
    )
    assert found.exit_code == (0 if message is None else 1)


@pytest.mark.parametrize(
    ("metric", "source"),
    [
        ("gof_p", "--metrics gof computes it"),
        ("alpha", "--profile full computes it"),
    ],
)
def test_a_limit_on_what_no_layer_has_is_inconclusive(metric: str, source: str) -> None:
    one = Aggregate(expr=Expression(metric=metric, above=0.1, max_count=0))
    rows = (
        replace(SOUND, alpha=None),
        replace(SOUND, name="large.weight", alpha=None, has_esd=False, status="skipped", reason="profile"),
    )
    found = judge(rows, (), (), Policy(aggregate=(one,)), TODAY)
    (told,) = (finding for finding in found.findings if finding.code == "WW210")
    assert (told.outcome, told.metric, found.exit_code, found.reasons) == ("inconclusive", metric, 3, ("inconclusive",))
    assert f"nothing has {metric}" in (told.message or "")
    assert source in (told.message or "")
    assert judge(rows, (), (), Policy(aggregate=(one,), on_inconclusive="warn"), TODAY).exit_code == 0
    assert judge(rows, (), (), Policy(aggregate=(one,), ignore=("WW210",)), TODAY).exit_code == 0
    kinds = Aggregate(expr=msgspec.structs.replace(one.expr, kinds=("head",)))
    assert judge(rows, (), (), Policy(aggregate=(kinds,)), TODAY).exit_code == 0  # there is no head


def test_two_limits_of_one_model_are_two_findings() -> None:
    two = tuple(Aggregate(expr=Expression(metric="alpha", above=above, max_count=0)) for above in (5.0, 8.0))
    found = judge(LAYERS, (), (), Policy(aggregate=two, select=("WW210",)), TODAY).findings
    assert len({one.fingerprint for one in found}) == 2


def test_the_page_shows_the_same_table() -> None:
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8").partition("| found |")[2]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()[2:] if line.startswith("|")]
    assert {name: tuple(cells) for name, *cells in lines} == EXPECTED
