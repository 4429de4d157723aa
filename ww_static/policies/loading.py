"""A policy file, from its bytes to a policy: bounded, parsed by tomllib, checked table by table with one problem each."""

from __future__ import annotations

import difflib
import math
import os
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from ww_static import storage
from ww_static.errors import FormatError, PolicyError, UsageError
from ww_static.options import KINDS, matcher, parse_bytes
from ww_static.policies.policy import Bounds, Head, Policy, Suppression
from ww_static.rules.aggregates import Aggregate, metrics
from ww_static.rules.catalogue import RULES, rule_of
from ww_static.rules.rule import Setting

SCHEMA = 1
PYPROJECT = "pyproject.toml"
TABLE = "tool.ww-static"  # of a pyproject.toml
MOST_BYTES = 1 << 18
_TABLES = ("limits", "rules", "aggregate", "suppress")
_KEYS = ("schema", *Head.__struct_fields__, *_TABLES)
_S = TypeVar("_S", bound=msgspec.Struct)


@dataclass(slots=True)
class _Problems:
    """What is wrong with a file, collected: the first problem of every table."""

    found: list[str] = field(default_factory=list)

    def add(self, problem: str, place: str) -> None:
        self.found.append(f"{problem} - at `{place}`")

    def table(self, raw: Any, kind: type[_S], place: str, check: Callable[[_S, str], None]) -> _S | None:
        """A table as a struct; None when it is wrong, and then its problem is noted."""
        try:
            made = msgspec.convert(raw, kind)
            check(made, place)
        except msgspec.ValidationError as error:
            said, _, inner = str(error).partition(" - at `$")
            inner = inner.rstrip("`")
            self.add(said + _hint(said, kind, inner), place + inner)
        except UsageError as error:
            self.add(str(error), place)
        else:
            return made
        return None


def _hint(said: str, kind: type[msgspec.Struct], inner: str) -> str:
    """What may stand there, where the message of msgspec does not say it."""
    annotations = typing.get_type_hints(kind)
    inside = annotations.get(inner.removeprefix(".").partition(".")[0])
    if said.startswith("Object contains unknown field"):
        known = typing.get_type_hints(inside) if isinstance(inside, type) else annotations
        return f"{_meant(said.split('`')[1], known)}known are: {', '.join(known)}"
    if said.startswith("Invalid enum value"):
        return f"; it is one of: {', '.join(map(str, typing.get_args(inside)))}"
    return ""


def load(path: str, *, shown: str | None = None) -> Policy:
    """The policy of a file: ``pyproject.toml`` by its table, any other as a whole.

    Raises:
        PolicyError: it cannot be read, or says something that means nothing; with all problems.
    """
    name = shown or path
    table = tables(path, name)
    if table is None:
        raise PolicyError(name, (f"it has no table [{TABLE}]; add one with `schema = {SCHEMA}`, or name another file",))
    return checked(table, name, f"$.{TABLE}" if is_pyproject(path) else "$")


def verified(policy: Policy) -> Policy:
    """A policy that was made in Python, checked as a file is; rules that it does not mention have their defaults.

    Raises:
        PolicyError: it says something that means nothing; with all problems.
    """
    said = {name: getattr(policy, name) for name in (*Head.__struct_fields__, "limits", "rules")}
    arrays = {name: list(getattr(policy, name)) for name in ("aggregate", "suppress")}
    document = msgspec.to_builtins({"schema": SCHEMA, **said, **arrays})
    return msgspec.structs.replace(checked(document, "policy", "$"), source=policy.source, origins=policy.origins)


def is_pyproject(path: str) -> bool:
    """Whether a file holds its policy in a table."""
    return os.path.basename(path) == PYPROJECT


def tables(path: str, shown: str) -> dict[str, Any] | None:
    """The tables of a policy file, unchecked; None for a ``pyproject.toml`` without one.

    Raises:
        PolicyError: it cannot be read, is larger than a policy is, or no TOML.
    """
    try:
        document = tomllib.loads(_bytes(path, shown).decode("utf-8"))
    except PolicyError:
        raise
    except UnicodeDecodeError as error:
        raise PolicyError(shown, (f"not UTF-8 at byte {error.start}",)) from error
    except RecursionError as error:
        raise PolicyError(shown, ("not TOML: nested too deeply",)) from error
    except ValueError as error:
        raise PolicyError(shown, (f"not TOML: {error}",)) from error
    if not is_pyproject(path):
        return document
    tool = document.get("tool", {})
    found = tool.get("ww-static") if isinstance(tool, dict) else None
    if found is not None and not isinstance(found, dict):
        raise PolicyError(shown, (f"Expected `object`, got `{type(found).__name__}` - at `$.{TABLE}`",))
    return found


def _bytes(path: str, shown: str) -> bytes:
    try:
        descriptor = storage.open_file(path)
        try:
            size = os.fstat(descriptor).st_size
            if size > MOST_BYTES:
                raise PolicyError(shown, (f"it has {size} bytes, a policy at most {MOST_BYTES}",))
            return storage.read_at(descriptor, 0, size, "")
        finally:
            os.close(descriptor)
    except FormatError as error:
        raise PolicyError(shown, (_unread(path, error),)) from error


def _unread(path: str, error: FormatError) -> str:
    if "\0" not in path and os.path.isdir(path):
        return "is a directory; name the file in it"
    if isinstance(error.__cause__, FileNotFoundError):
        return "no such file or directory; `ww-static policy init -o FILE` writes one"
    return f"{error.problem}; a policy is a regular file that can be read"


def checked(document: Mapping[str, Any], shown: str, root: str) -> Policy:
    """The policy that the tables of a file make.

    Args:
        document: the tables, as tomllib gives them.
        shown: what the file is called.
        root: the place of the tables in it: ``$``, or that of a table.

    Raises:
        PolicyError: they mean nothing; one problem for each table.
    """
    problems = _Problems()
    head = {key: value for key, value in document.items() if key in Head.__struct_fields__}
    for key in document:
        if key not in _KEYS:
            problems.add(f"unknown field{_meant(key, _KEYS)}known are: {', '.join(_KEYS)}", f"{root}.{key}")
    _check_schema(document.get("schema"), root, problems)
    top = problems.table(head, Head, root, _check_head)
    limits = problems.table(document.get("limits", {}), Bounds, f"{root}.limits", _check_limits)
    rules = _rules(document.get("rules", {}), f"{root}.rules", problems)
    aggregate = _array(document.get("aggregate", []), Aggregate, f"{root}.aggregate", _check_aggregate, problems)
    suppress = _array(document.get("suppress", []), Suppression, f"{root}.suppress", _check_suppression, problems)
    if problems.found or top is None or limits is None:
        raise PolicyError(shown, tuple(problems.found))
    return Policy(
        **msgspec.structs.asdict(top), limits=limits, rules=rules, aggregate=aggregate, suppress=suppress,
        source=shown, origins=_origins(document, shown),
    )  # fmt: skip


def _origins(document: Mapping[str, Any], shown: str) -> dict[str, str]:
    """Where each value of a checked file is: key -> file and table."""
    found = dict.fromkeys((key for key in document if key in Head.__struct_fields__), shown)
    found |= {f"limits.{key}": f"{shown} [limits]" for key in document.get("limits", {})}
    for code, table in document.get("rules", {}).items():
        found |= {f"rules.{code}.{key}": f"{shown} [rules.{code}]" for key in table}
    for name in ("aggregate", "suppress"):
        found |= {f"{name}[{number}]": f"{shown} [[{name}]]" for number in range(len(document.get(name, ())))}
    return found


def _check_schema(version: object, root: str, problems: _Problems) -> None:
    if version is None:
        problems.add(f"`schema = {SCHEMA}` is missing: it says which layout the file has", root)
    elif type(version) is not int or version != SCHEMA:
        hint = "use a newer ww-static" if type(version) is int and version > SCHEMA else f"write `schema = {SCHEMA}`"
        problems.add(f"schema {version!r} is not known, this release reads {SCHEMA}; {hint}", f"{root}.schema")


def _rules(raw: Any, place: str, problems: _Problems) -> dict[str, Setting]:
    made = {code: rule.settings() for code, rule in RULES.items()}
    if not isinstance(raw, dict):
        problems.add(f"Expected `object`, got `{_type(raw)}`", place)
        return made
    for code, table in raw.items():
        try:
            rule = rule_of(code)
        except UsageError as error:
            problems.add(str(error), f"{place}.{code}")
            continue
        settings = problems.table(table, rule.settings, f"{place}.{code}", _check_setting)
        made[code] = settings or made[code]
    return made


def _array(raw: Any, kind: type[_S], place: str, check: Callable[[_S, str], None], problems: _Problems) -> tuple[_S, ...]:
    if not isinstance(raw, list):
        problems.add(f"Expected `array`, got `{_type(raw)}`; write [[{place.rpartition('.')[2]}]]", place)
        return ()
    made = (problems.table(table, kind, f"{place}[{number}]", check) for number, table in enumerate(raw))
    return tuple(one for one in made if one is not None)


def _type(raw: object) -> str:
    return "object" if isinstance(raw, dict) else "array" if isinstance(raw, list) else type(raw).__name__


def _check_head(head: Head, _: str) -> None:
    for code in (*head.select, *head.ignore):
        rule_of(code)


def _check_limits(limits: Bounds, _: str) -> None:
    if limits.memory is not None:
        parse_bytes(limits.memory)
    if limits.seconds is not None and not 0 < limits.seconds < math.inf:
        raise UsageError(f"seconds is a positive number, not {limits.seconds}")


def _check_setting(settings: Setting, _: str) -> None:
    _check_kinds(settings.kinds)
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value < math.inf:
            raise UsageError(f"{name} is a number from 0, not {value}")


def _check_aggregate(aggregate: Aggregate, _: str) -> None:
    expr = aggregate.expr
    _known(expr.metric, metrics(), "metric", "`ww-static schema layers` lists the columns")
    _check_kinds(expr.kinds)
    for one, other in (("above", "below"), ("max_share", "max_count")):
        if (getattr(expr, one) is None) == (getattr(expr, other) is None):
            raise UsageError(f"expr has one of {one} and {other}")
    for name in ("above", "below"):
        if not math.isfinite(getattr(expr, name) or 0):
            raise UsageError(f"{name} is a finite number, not {getattr(expr, name)}")
    if expr.max_count is not None and expr.max_count < 0:
        raise UsageError(f"max_count is a number from 0, not {expr.max_count}")


def _check_suppression(one: Suppression, _: str) -> None:
    rule_of(one.code)
    if not one.reason.strip():
        raise UsageError("reason is empty; say why the finding is accepted")
    for name in ("model", "tensor"):
        pattern = getattr(one, name)
        if not pattern:
            raise UsageError(f"{name} is an empty pattern; leave it out, or write '*' for all")
        matcher(pattern, name)


def _check_kinds(kinds: Iterable[str]) -> None:
    for kind in kinds:
        _known(kind, KINDS, "kind", f"known are: {', '.join(KINDS)}")


def _known(word: str, known: Iterable[str], noun: str, otherwise: str) -> None:
    names = list(known)
    if word not in names:
        raise UsageError(f"{noun} '{word}' is not known{_meant(word, names)}{otherwise}")


def _meant(word: str, known: Iterable[str]) -> str:
    """What was meant, perhaps, between a problem and what else there is to say."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}? " if close else "; "
