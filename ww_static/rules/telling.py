"""The rules in words: a list, one rule in full, and the page of the docs; from the catalogue alone."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ww_static.rules.rule import FAST_M, Rule

GROUPS = (
    ("WW001", "Files", "What is wrong with a file itself, and what was left unread."),
    ("WW090", "Bookkeeping", "Whether suppressions and baseline still fit what they are for."),
    ("WW101", "Values", "What the stored values show, in one pass."),
    ("WW201", "Spectra", "Heuristics: what layers of trained models seldom show. They warn."),
    ("WW301", "Comparison with a baseline", "What changed since an earlier result that the user names."),
)


@dataclass(frozen=True, slots=True)
class Told:
    """A setting of a rule.

    Attributes:
        name: as a policy writes it.
        default: as TOML writes it.
        valid: the values that it may have.
        meaning: on one line.
    """

    name: str
    default: str
    valid: str
    meaning: str


def settings(rule: Rule) -> list[Told]:
    """The settings of a rule, those of all rules last."""
    fields = msgspec.inspect.type_info(rule.settings)
    assert isinstance(fields, msgspec.inspect.StructType)
    meanings = {name: text for one in rule.settings.__mro__ for name, text in attributes(one.__doc__ or "").items()}
    default = rule.settings()
    found = [
        Told(one.name, msgspec.json.encode(getattr(default, one.name)).decode(), _valid(one.type), meanings[one.name])
        for one in fields.fields
    ]
    return sorted(found, key=lambda one: one.name in ("severity", "kinds"))


def attributes(docstring: str) -> dict[str, str]:
    """``name: meaning`` entries of the Attributes section of a docstring; continuation lines are indented deeper."""
    section = re.sub(r"\n {5,}", " ", inspect.cleandoc(docstring).partition("Attributes:\n")[2])
    return {name: text.strip().rstrip(".").replace("``", "`") for name, text in re.findall(r"(?m)^ {4}(\w+): (.*)$", section)}


def _valid(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.LiteralType):
        return ", ".join(f'"{value}"' for value in sorted(kind.values, key=str))
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return "list of texts"
    if isinstance(kind, msgspec.inspect.FloatType | msgspec.inspect.IntType):
        bounds = ((kind.gt, ">"), (kind.ge, ">="), (kind.lt, "<"), (kind.le, "<="))
        word = "integer" if isinstance(kind, msgspec.inspect.IntType) else "number"
        return " ".join([word, ", ".join(f"{sign} {bound:g}" for bound, sign in bounds if bound is not None)]).strip()
    return "true, false" if isinstance(kind, msgspec.inspect.BoolType) else "text"


def severity(rule: Rule) -> str:
    """The severity that a rule has unless a policy says otherwise."""
    return rule.settings().severity


def since(rule: Rule) -> str:
    """The first profile that computes what a rule looks at, and for which matrices."""
    return f"{rule.profile} (M <= {FAST_M})" if rule.profile == "fast" and rule.spectrum == "only" else rule.profile


def document(rule: Rule) -> dict[str, object]:
    """A rule as JSON."""
    return {
        "code": rule.code, "name": rule.name, "title": rule.title, "severity": severity(rule), "profile": rule.profile,
        "spectrum": rule.spectrum,
        "formula": rule.formula, "may_be_wrong": rule.wrong, "fix": rule.fix,
        "settings": [{"name": one.name, "default": one.default, "valid": one.valid, "meaning": one.meaning} for one in settings(rule)],
    }  # fmt: skip


def text(rule: Rule) -> str:
    """A rule in full, for a terminal."""

    def entry(name: str, content: str) -> str:
        content = content.replace("`", "")
        return textwrap.fill(content, 100, initial_indent=f"{name:14}", subsequent_indent=" " * 14, break_on_hyphens=False)

    lines = [f"{rule.code} {rule.name}: {rule.title}.", ""]
    lines += [entry("severity", severity(rule)), entry("from profile", since(rule)), entry("reports", rule.formula)]
    lines += [entry("may be wrong", rule.wrong), entry("what to do", rule.fix), "", f"[rules.{rule.code}]"]
    lines += [entry("", f"{one.name} = {one.default}  ({one.valid}): {one.meaning}")[14:] for one in settings(rule)]
    return "\n".join(lines) + "\n"


def listing(rules: Iterable[Rule]) -> str:
    """One line per rule, for a terminal."""
    return "".join(f"{rule.code}  {severity(rule):6}{since(rule):17}{rule.name:20}{rule.title}\n" for rule in rules)


def table(rules: Iterable[Rule]) -> str:
    """One line per rule, in Markdown."""
    lines = ["| code | name | reports | severity | from profile |", "|---|---|---|---|---|"]
    lines += [f"| {rule.code} | `{rule.name}` | {rule.title} | {severity(rule)} | {since(rule)} |" for rule in rules]
    return "\n".join(lines) + "\n"


def markdown(rule: Rule, level: int = 2) -> str:
    """A rule in full, in Markdown."""
    lines = [
        f"{'#' * level} {rule.code} {rule.name}",
        "",
        f"{rule.title}. Severity `{severity(rule)}`, from profile `{since(rule)}`.",
        "",
    ]
    lines += [f"- **Reports**: {_cell(rule.formula)}", f"- **May be wrong**: {rule.wrong}", f"- **What to do**: {rule.fix}"]
    own = [one for one in settings(rule) if one.name not in ("severity", "kinds")]
    if own:
        lines += ["", "| setting | default | valid | meaning |", "|---|---|---|---|"]
        lines += [f"| `{one.name}` | {one.default} | {_cell(one.valid)} | {_cell(one.meaning)} |" for one in own]
    return "\n".join(lines) + "\n"


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


def page(rules: Iterable[Rule]) -> str:
    """All rules in full, by group, in Markdown."""
    left, parts = sorted(rules, key=lambda rule: rule.code), []
    ends = [code for code, _, _ in GROUPS[1:]] + ["WW999"]
    for (_, name, about), end in zip(GROUPS, ends, strict=True):
        inside = [rule for rule in left if rule.code < end]
        left = left[len(inside) :]
        parts += [f"## {name}\n\n{about}\n\n", *(markdown(rule, 3) + "\n" for rule in inside)] if inside else []
    return "".join(parts)
