"""What ``adapter_config.json`` beside an adapter says: which scale each of its pairs has. Bounded, typed, never trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ww_static.protocol import Finding

NAME = "adapter_config.json"
_MOST = 2**31
_LONGEST_TEXT = 200
_LONGEST_KEY = 1000
_MOST_COMPONENTS = 64
_MOST_SHAPES = 256  # lengths of keys, together with the places of their dots
_ANY = "\n"  # what a dot stands for, in a key: the one character that it does not match
# What a key of a pattern may hold to be taken literally: in PEFT it is a regular expression, and ours never runs one.
_LITERAL = re.compile(r"\^?[\w.\-]+\$?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of modules with a number for each, some of their characters free.

    Attributes:
        values: a name, with a line feed where any one character may stand -> its place among the keys, and its value.
        free: length of names -> where in them any character may stand, one tuple for each choice of places.
    """

    values: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    free: Mapping[int, frozenset[tuple[int, ...]]] = field(default_factory=dict)

    def matches(self, name: str) -> Iterator[tuple[int, float]]:
        """Place and value of each key that a name fits."""
        for places in self.free.get(len(name), ()):
            blank = _blanked(name, places)
            if blank in self.values:
                yield self.values[blank]


def _blanked(name: str, places: tuple[int, ...]) -> str:
    letters = list(name)
    for place in places:
        letters[place] = _ANY
    return "".join(letters)


@dataclass(frozen=True, slots=True)
class Patterns:
    """A ``rank_pattern`` or ``alpha_pattern``: names of modules, or the last components of them, and a number for each.

    In a key an unescaped dot stands for any one character, as it does in PEFT: ``q.proj`` decides for ``q_proj``.

    Attributes:
        suffixes: keys that are compared with whole names and with the last components of names.
        anchored: keys that begin with ``^``, compared with whole names only.
        unread: place of the first key that is no literal name; it may match anything.
    """

    suffixes: Keys = field(default_factory=Keys)
    anchored: Keys = field(default_factory=Keys)
    unread: int | None = None

    def lookup(self, module: str) -> tuple[float | None, bool]:
        """The value of the first key that matches a module, None when none does; and whether that is certain."""
        if _ANY in module:  # no character that a dot stands for
            return None, self.unread is None and not self.suffixes.values and not self.anchored.values
        found = list(self.anchored.matches(module))
        tail = module[-_LONGEST_KEY - 1 :].split(".")[-_MOST_COMPONENTS:]
        found += (one for start in range(len(tail)) for one in self.suffixes.matches(".".join(tail[start:])))
        place, value = min(found, default=(None, None))
        return value, self.unread is None or (place is not None and place < self.unread)


@dataclass(frozen=True, slots=True)
class Adapter:
    """The facts of an adapter that decide what its factors mean; None and false where the file does not say.

    Attributes:
        peft_type: the method, for instance ``LORA``.
        r, alpha: rank and numerator of the scale, where no pattern says otherwise.
        rslora: the scale is alpha/sqrt(r) instead of alpha/r.
        dora: a magnitude vector belongs to every pair.
        fan_in_fan_out: the base model keeps its weights as `[in, out]`.
        qalora: A looks at sums of inputs, so that B A is not what is added to the weights.
        ranks, alphas: what differs by module.
    """

    peft_type: str | None = None
    r: int | None = None
    alpha: float | None = None
    rslora: bool = False
    dora: bool = False
    fan_in_fan_out: bool = False
    qalora: bool = False
    ranks: Patterns = field(default_factory=Patterns)
    alphas: Patterns = field(default_factory=Patterns)

    def rank(self, module: str) -> int | None:
        """The rank that the pair of a module should have; None when the configuration does not tell."""
        value, certain = self.ranks.lookup(_without_wrapper(module))
        if not certain:
            return None
        return self.r if value is None else int(value)

    def scale(self, module: str, r: int) -> float | None:
        """s of Delta W = s B A for the pair of rank r of a module; None when alpha is not known."""
        alpha, certain = self.alphas.lookup(_without_wrapper(module))
        alpha = self.alpha if alpha is None else alpha
        if alpha is None or not certain:
            return None
        return alpha / math.sqrt(r) if self.rslora else alpha / r


def _without_wrapper(module: str) -> str:
    """The module as the base model calls it."""
    return module.removeprefix("base_model.model.")


def parse(document: Mapping[str, object]) -> tuple[Adapter, tuple[Finding, ...]]:
    """The facts in a decoded ``adapter_config.json``. A value of the wrong type is left out and found; null means absent.

    The base model is a finding too: it is named, never fetched.
    """
    values = _Values(document)
    base, r = values.text("base_model_name_or_path"), values.number("r", document.get("r"), _counts)
    if base:
        values.findings.append(Finding("base_model", NAME, f"an adapter of '{base}', which is not looked at"))
    adapter = Adapter(
        peft_type=values.text("peft_type"),
        r=None if r is None else int(r),
        alpha=values.number("lora_alpha", document.get("lora_alpha"), _scales),
        rslora=values.flag("use_rslora"),
        dora=values.flag("use_dora"),
        fan_in_fan_out=values.flag("fan_in_fan_out"),
        qalora=values.flag("use_qalora"),
        ranks=values.patterns("rank_pattern", _counts),
        alphas=values.patterns("alpha_pattern", _scales),
    )
    return adapter, tuple(values.findings)


class _Values:
    """The values of a document, each of the type that it must have, or left out and found."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self._document = document
        self.findings: list[Finding] = []

    def _bad(self, key: str, value: object) -> None:
        self.findings.append(Finding("bad_config", NAME, f"'{key:.60}' is {value!r:.60}"))

    def text(self, key: str) -> str | None:
        value = self._document.get(key)
        if value is None or (isinstance(value, str) and len(value) <= _LONGEST_TEXT):
            return value
        self._bad(key, value)
        return None

    def flag(self, key: str) -> bool:
        value = self._document.get(key)
        if value is not None and not isinstance(value, bool):
            self._bad(key, value)
        return value is True

    def number(self, key: str, value: object, fits: Callable[[object], bool]) -> float | None:
        if value is not None and not fits(value):
            self._bad(key, value)
        return value if isinstance(value, (int, float)) and fits(value) else None

    def patterns(self, key: str, fits: Callable[[object], bool]) -> Patterns:
        document = self._document.get(key)
        if document is None:
            return Patterns()
        if not isinstance(document, dict):
            self._bad(key, document)
            return Patterns(unread=0)
        suffixes: dict[str, tuple[int, float]] = {}
        anchored: dict[str, tuple[int, float]] = {}
        free: set[tuple[int, tuple[int, ...]]] = set()
        unread = []
        for place, (name, value) in enumerate(document.items()):
            plain = _literal(name)
            shape = len(plain or ""), tuple(at for at, letter in enumerate(plain or "") if letter == _ANY)
            if plain is None or value is None or not fits(value) or (shape not in free and len(free) == _MOST_SHAPES):
                unread.append((place, name))
                continue
            free.add(shape)
            (anchored if name.startswith("^") else suffixes).setdefault(plain, (place, value))
        if unread:
            words = f"'{key}' has keys or values that are not read: {len(unread)}, the first is '{unread[0][1]:.60}'"
            self.findings.append(Finding("bad_config", NAME, words))
        by_length: dict[int, frozenset[tuple[int, ...]]] = {}
        for length, places in free:
            by_length[length] = by_length.get(length, frozenset()) | {places}
        return Patterns(Keys(suffixes, by_length), Keys(anchored, by_length), unread[0][0] if unread else None)


def _counts(value: object) -> bool:
    return type(value) is int and 0 < value < _MOST


def _scales(value: object) -> bool:
    return type(value) in (int, float) and -_MOST < value < _MOST  # type: ignore[operator]


def _literal(key: str) -> str | None:
    """The name that a key means when it is one, a line feed for each dot that is not escaped, without marks that change nothing."""
    plain = key.replace("\\.", ".")
    if len(key) > _LONGEST_KEY or plain.count(".") >= _MOST_COMPONENTS or not _LITERAL.fullmatch(plain):
        return None
    free = key.replace("\\.", "\0").replace(".", _ANY).replace("\0", ".")
    return free.removeprefix("^").removesuffix("$")
