"""JSON with no second meaning: what two parsers could read differently is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from ww_static.errors import FormatError

_HALF_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(raw: bytes, where: str) -> Any:
    """JSON with no second meaning: UTF-8, no duplicate keys, no NaN, no number of more than 20 digits.

    Raises:
        FormatError: ``bad_header``, ``duplicate_name``.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("bad_header", where, f"is not UTF-8 at byte {error.start}") from error
    refuse_repeats = _pairs_hook(where)
    try:
        document = json.loads(
            text,
            object_pairs_hook=refuse_repeats,
            parse_int=_plain_integer,
            parse_float=_finite_float,
            parse_constant=_refuse_constant,
        )
        if _HALF_ESCAPE.search(text):  # half of a surrogate pair is no character, and shows only when it is encoded
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        return document
    except json.JSONDecodeError as error:
        raise FormatError(
            "bad_header", where, f"{len(raw)} bytes are not JSON at byte {len(text[: error.pos].encode())}"
        ) from error
    except RecursionError as error:
        raise FormatError("bad_header", where, "brackets are nested too deeply") from error
    except UnicodeEncodeError as error:
        raise FormatError("bad_header", where, "an escape is half of a surrogate pair") from error
    except _NumberError as error:
        raise FormatError("bad_header", where, str(error)) from error


class _NumberError(ValueError):
    pass


def _plain_integer(digits: str) -> int:
    if len(digits) > 20:  # 2^64 has 20
        raise _NumberError(f"a number has {len(digits)} digits")
    if digits == "-0":
        raise _NumberError("-0 is not a count")
    return int(digits)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _NumberError(f"{digits:.40} is out of range")
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise _NumberError(f"{word} is not a JSON number")


def _pairs_hook(where: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FormatError("duplicate_name", where, f"name '{twice:.200}' appears twice")
        return result

    return hook
