"""Errors: one tree, one line of text, and a way through pickle."""

from __future__ import annotations

import copy
import pickle
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ww_static import errors
from ww_static.errors import FormatError, LimitError, NonFiniteError, NotConvergedError, UsageError, WWStaticError, escape

FORMAT_ERRORS = [
    FormatError,
    errors.UnknownFormatError,
    LimitError,
    errors.UnsafeFileError,
    errors.ReaderError,
    errors.WorkerDiedError,
]


@pytest.mark.parametrize("kind", FORMAT_ERRORS)
@pytest.mark.parametrize("path", [None, "models/a.safetensors"])
def test_format_errors_survive_pickling_and_copying(kind: type[FormatError], path: str | None) -> None:
    error = kind("truncated", "tensor 'w'", "ends at byte 9, file has 8", path)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert (twin.category, twin.where, twin.problem, twin.path) == (error.category, error.where, error.problem, path)
        assert str(twin) == str(error)


@pytest.mark.parametrize("kind", [WWStaticError, UsageError, NonFiniteError, NotConvergedError])
def test_plain_errors_survive_pickling(kind: type[WWStaticError]) -> None:
    twin = pickle.loads(pickle.dumps(kind("what is wrong")))
    assert type(twin) is kind
    assert str(twin) == "what is wrong"


def test_problems_of_a_policy_survive_pickling() -> None:
    twin = pickle.loads(pickle.dumps(errors.PolicyError("p.toml", ("one", "two"))))
    assert (twin.path, twin.problems, str(twin)) == ("p.toml", ("one", "two"), "p.toml: one; p.toml: two")


def test_every_error_of_the_module_is_in_the_tree_and_is_tested_here() -> None:
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes == {WWStaticError, errors.PolicyError, UsageError, NonFiniteError, NotConvergedError, *FORMAT_ERRORS}
    assert all(issubclass(one, WWStaticError) for one in classes)


def test_the_text_is_path_category_place_and_problem() -> None:
    assert str(FormatError("limit", "header", "9 bytes, limit 8", "m.bin")) == "m.bin: limit: header: 9 bytes, limit 8"
    assert str(FormatError("limit", "", "9 bytes, limit 8")) == "limit: 9 bytes, limit 8"


def test_a_bug_becomes_an_error_of_the_file_and_an_interruption_does_not() -> None:
    known = LimitError("limit", "header", "too long")
    assert errors.as_format_error(known) is known
    assert str(errors.as_format_error(KeyError("w"))) == "internal_error: KeyError: 'w'; this is a bug of ww-static"
    with pytest.raises(KeyboardInterrupt):
        errors.as_format_error(KeyboardInterrupt())


def test_at_names_the_file_once() -> None:
    error = LimitError("limit", "header", "too long").at("a")
    assert type(error) is LimitError
    assert error.path == "a"
    assert error.at("b").path == "a"


def test_hostile_names_come_out_on_one_line() -> None:
    error = FormatError("bad_header", "tensor 'a\nb\x1b[31m\r\u202e\u2028'", "x\x00y", "caf\udce9\n.bin")
    expected = r"caf\xe9\x0a.bin: bad_header: tensor 'a\x0ab\x1b[31m\x0d\u202e\u2028': x\x00y"
    assert str(error) == expected


@pytest.mark.parametrize("text", ["plain", "модель", "層.0", "emoji \U0001f600", "path/to: it's 100%"])
def test_printable_text_is_left_alone(text: str) -> None:
    assert escape(text) == text


def test_an_undecodable_byte_of_a_file_name_shows_as_that_byte() -> None:
    assert escape(b"caf\xe9\xff".decode("utf-8", "surrogateescape")) == r"caf\xe9\xff"
    assert escape("\ud800\U000e0001") == r"\ud800\U000e0001"


@pytest.mark.parametrize(
    "text", ["::error::x", " ::set-output name=a::b", "##[error]x", "##vso[task.complete]", "\t::warning::"]
)
def test_no_line_begins_with_a_command_of_a_ci_runner(text: str) -> None:
    shown = escape(text)
    assert not shown.strip().startswith(("::", "##"))
    assert escape(shown) == shown
    assert escape("a::b ## c") == "a::b ## c"


@given(st.text(st.characters(exclude_categories=[])))
def test_escaped_text_is_printable_valid_unicode_and_one_line(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert len(shown.splitlines()) <= 1
    assert all(
        unicodedata.bidirectional(character) not in ("RLO", "LRO", "RLI", "LRI", "FSI", "PDF", "PDI") for character in shown
    )


@pytest.mark.parametrize(
    "text", ["a ##[error]x", "m/##vso[task.complete]", "##teamcity[x", "###[add-mask]y", "## [no command]"]
)
def test_no_line_holds_a_command_of_a_ci_runner(text: str) -> None:
    assert re.search(r"##\w*\[", escape(text)) is None
    assert escape(text).replace("\\x23", "#") == text
