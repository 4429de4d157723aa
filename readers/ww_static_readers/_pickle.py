"""An interpreter of pickle opcodes that imports nothing and calls nothing: globals are names, objects are inert nodes.

Protocols 0 to 5. What a name means is asked of a `Meaning`; a name without meaning stays a placeholder, and what a
file tries to do with it becomes a finding. Source: CPython, Lib/pickle.py and Lib/pickletools.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Finding, Limits
from ww_static_readers._pickle_nodes import Global, Opaque
from ww_static_readers._pickle_operands import Operands
from ww_static_readers._source import Source

_MOST_KEY_PARTS = 16
_MOST_FINDINGS = 100
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_HIGHEST_PROTOCOL = 5
# Modules whose functions run code, read files or open connections: for the wording only, safety never depends on it.
_DANGEROUS = frozenset(
    (
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "builtins",
        "runpy",
        "pty",
        "socket",
        "shutil",
        "ctypes",
        "importlib",
        "webbrowser",
    )
)
# Attributes that the machine of CPython itself looks up on an object and calls.
_CALLED = frozenset(("__setstate__", "__reduce__", "__reduce_ex__", "__class__", "append", "extend", "add", "__setitem__"))


class Meaning(Protocol):
    """What the names of a format mean."""

    def known(self, name: Global) -> bool:
        """Whether the name has a meaning."""
        ...

    def inert(self, name: Global, called: bool) -> bool:
        """Whether an object of this class is harmless when it is made: rebuilt from its state, or also `called`."""
        ...

    def call(self, name: Global, arguments: tuple[Any, ...], machine: Machine) -> Any:
        """The value of a call of a known name: a pure function of plain data."""
        ...

    def build(self, value: Any, state: Any) -> bool:
        """Gives state to a value of this format; False when it is none."""
        ...

    def persistent(self, identifier: Any, machine: Machine) -> Any:
        """What a persistent identifier stands for."""
        ...


class Machine:
    """Runs one pickle.

    Attributes:
        unsafe: what it would have called; a finding each, kept when the pickle turns out to be broken.
    """

    def __init__(self, source: Source, meaning: Meaning, limits: Limits) -> None:
        self.where = source.where
        self.limits = limits
        self._source = source
        self._operands = Operands(source, limits)
        self.meaning = meaning
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._findings: dict[tuple[str, str], Finding] = {}
        self._frame_end = 0

    @property
    def findings(self) -> list[Finding]:
        """One finding per category and fact."""
        return list(self._findings.values())

    def run(self) -> Any:
        """The object that the pickle describes.

        Raises:
            FormatError: ``bad_header``, ``truncated``, ``unsafe_pickle``, ``unknown_dtype``.
            LimitError: ``limit``.
        """
        try:
            return self._run()
        except FormatError as error:
            raise self.blamed(error) from error

    def blamed(self, error: FormatError) -> FormatError:
        """The error to report: a call of a foreign function outranks whatever is wrong after it."""
        unsafe = next((one for one in self._findings.values() if one.category == "unsafe_pickle"), None)
        if unsafe is None or error.category == "unsafe_pickle":
            return error
        return FormatError("unsafe_pickle", self.where, f"{unsafe.problem}; then {error.category}: {error.problem}")

    def note(self, finding: Finding) -> None:
        """Keeps a finding, once; of each category at least the first."""
        key = (finding.category, finding.problem)
        if len(self._findings) < _MOST_FINDINGS or finding.category not in {kind for kind, _ in self._findings}:
            self._findings.setdefault(key, finding)

    def bad(self, problem: str) -> FormatError:
        """A pickle that is not one."""
        return self._operands.bad(problem)

    def unsafe(self, name: Global, deed: str) -> None:
        """Notes a foreign name that is called, built or handed over to be called."""
        consequence = "can run code" if name.module.split(".")[0] in _DANGEROUS else "is no tensor constructor"
        self.note(Finding("unsafe_pickle", self.where, f"{deed} '{name!s:.200}', which {consequence}"))

    def callables(self, value: Any, deed: str) -> None:
        """Notes foreign names and objects in a place where only harmless values belong."""
        values = list(value.values()) if isinstance(value, dict) else [value]
        for one in values:
            if isinstance(one, Opaque) and one.kind is not None and not self.meaning.known(one.kind):
                self.unsafe(one.kind, deed)
            elif isinstance(one, Global) and not self.meaning.known(one):
                self.unsafe(one, deed)

    def _run(self) -> Any:
        take, operations = self._source.take, _OPERATIONS
        for _ in range(self.limits.pickle_opcodes):
            if not self._source.left:
                raise FormatError("truncated", self.where, "the pickle ends without STOP")
            code = take(1)[0]
            if code == _STOP:
                return self._pop()
            operation = operations.get(code)
            if operation is None:
                raise self.bad(f"opcode {code:#04x} is not known")
            operation(self)
            if self._frame_end and self._source.left <= self._frame_end:
                self._leave_frame()
        raise LimitError("limit", self.where, f"more than {self.limits.pickle_opcodes} opcodes")

    def _leave_frame(self) -> None:
        if self._source.left < self._frame_end:
            self.note(Finding("bad_header", self.where, "an opcode crosses the end of its frame"))
        self._frame_end = 0

    # the stack

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise self.bad("takes more from the stack than there is")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise self.bad("takes more from the stack than there is")
        return self._stack[-1]

    def _group(self) -> list[Any]:
        """Everything above the last mark, which is taken too."""
        stack = self._stack
        for place in range(len(stack) - 1, -1, -1):
            if stack[place] is _MARK:
                group = stack[place + 1 :]
                del stack[place:]
                return group
        raise self.bad("has no mark on the stack")

    # containers

    def _key(self, key: Any) -> Any:
        """What stands for `key` in a dictionary, so that hashing it takes one step."""
        plain = (str, int, bytes, float, type(None), Global, Opaque)
        if isinstance(key, plain):
            return key
        if isinstance(key, tuple) and len(key) <= _MOST_KEY_PARTS and all(isinstance(part, plain) for part in key):
            return key
        return Opaque(None)

    def set_items(self, target: Any, group: list[Any]) -> None:
        """Puts keys and values, one after the other in `group`, into a dictionary or an inert object."""
        if len(group) % 2:
            raise self.bad("a key has no value")
        pairs = zip(group[::2], group[1::2], strict=True)
        if isinstance(target, dict):
            for key, value in pairs:
                target[self._key(key)] = value
        elif isinstance(target, Opaque):
            target.parts.extend(pairs)
        else:
            raise self.bad(f"puts a key into a {type(target).__name__}")

    def _append(self, target: Any, group: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(group)
        elif isinstance(target, Opaque):
            target.parts.extend((None, value) for value in group)
        else:
            raise self.bad(f"appends to a {type(target).__name__}")

    def _dict(self) -> None:
        made: dict[Any, Any] = {}
        self.set_items(made, self._group())
        self._stack.append(made)

    def _one_item(self) -> None:
        value, key = self._pop(), self._pop()
        self.set_items(self._top(), [key, value])

    def _many_items(self) -> None:
        group = self._group()
        self.set_items(self._top(), group)

    def _one_more(self) -> None:
        value = self._pop()
        self._append(self._top(), [value])

    def _many_more(self) -> None:
        group = self._group()
        self._append(self._top(), group)

    def _tuple(self, count: int) -> None:
        taken = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(taken)))

    def _discard(self) -> None:
        if not self._stack:
            raise self.bad("takes more from the stack than there is")
        self._stack.pop()

    def _discard_group(self) -> None:
        self._group()

    # the memo

    def _put(self, index: int) -> None:
        if not 0 <= index <= self.limits.pickle_memo:
            raise LimitError("limit", self.where, f"memo index {index}, limit {self.limits.pickle_memo}")
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise self.bad(f"memo index {index} was never set")
        self._stack.append(self._memo[index])

    # names and what is done with them

    def _global(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise FormatError("unsafe_pickle", self.where, "the name of a global is computed")
        made = Global(_RENAMED.get(module, module), name)
        if not self.meaning.known(made):
            words = f"mentions '{made!s:.200}'"
            odd = not (module + name).isascii() or not (module + name).isprintable() or " " in module + name
            self.note(
                Finding("unknown_global", self.where, f"{words}, a name with characters that no name has" if odd else words)
            )
        return made

    def _push_global(self) -> None:
        self._stack.append(self._global(*self._operands.names()))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._stack.append(self._global(module, name))

    def _made(self, target: Any, arguments: Any, called: bool) -> Any:
        """What a call of `target` stands for; the arguments are never looked into for a foreign one."""
        if not isinstance(target, Global):
            if isinstance(target, Opaque) and target.kind is not None:
                self.unsafe(target.kind, "calls what it made of")
                return Opaque(target.kind, arguments)
            raise self.bad(f"calls a {type(target).__name__}")
        if self.meaning.known(target):
            if not isinstance(arguments, tuple | list):  # torch's own reader takes a list, too
                raise self.bad(f"calls '{target!s:.200}' with a {type(arguments).__name__} for its arguments")
            return self.meaning.call(target, tuple(arguments), self)
        self.made_of(target, called)
        return Opaque(target, arguments)

    def made_of(self, target: Global, called: bool) -> None:
        """Grades an object of a class without meaning: worth a word when it is inert, else unsafe."""
        if not self.meaning.inert(target, called):
            self.unsafe(target, "calls" if called else "makes an object of")

    def _reduce(self) -> None:
        arguments, target = self._pop(), self._pop()
        self._stack.append(self._made(target, arguments, called=True))

    def _new_object(self) -> None:
        arguments, target = self._pop(), self._pop()
        self._stack.append(self._made(target, arguments, called=False))

    def _new_object_ex(self) -> None:
        keywords, arguments, target = self._pop(), self._pop(), self._pop()
        made = self._made(target, arguments, called=False)
        if isinstance(made, Opaque):
            made.states.append(keywords)
        self._stack.append(made)

    def _old_object(self) -> None:
        group = self._group()
        if not group:
            raise self.bad("makes an object of nothing")
        self._stack.append(self._made(group[0], tuple(group[1:]), called=True))

    def _instance(self) -> None:
        target = self._global(*self._operands.names())
        self._stack.append(self._made(target, tuple(self._group()), called=True))

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        pair = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in pair:
            if isinstance(part, dict):
                self.callables({key: value for key, value in part.items() if key in _CALLED}, "would be made to call")
        if isinstance(target, Global):
            self.unsafe(target, "changes attributes of")
        elif isinstance(target, Opaque):
            target.states.append(state)
        else:
            self.meaning.build(target, state)

    def _persistent(self) -> None:
        self._stack.append(self.meaning.persistent(self._pop(), self))

    def _persistent_line(self) -> None:
        raise self.bad("a persistent identifier is a line of text")

    def _extension(self) -> None:
        raise FormatError("unsafe_pickle", self.where, "takes a name from the extension registry")

    def _buffer(self) -> None:
        raise self.bad("wants a buffer from outside the pickle")

    def _protocol(self) -> None:
        version = self._operands.count(1)
        if version > _HIGHEST_PROTOCOL:
            raise self.bad(f"protocol {version}, the highest known is {_HIGHEST_PROTOCOL}")

    def _frame(self) -> None:
        length = self._operands.count(8)
        if length > self._source.left:
            raise FormatError("truncated", self.where, f"a frame of {length} bytes, {self._source.left} are left")
        self._frame_end = self._source.left - length


_MARK = object()  # on the stack, where a group of operands begins
_STOP = ord(".")
_Operation = Callable[[Machine], None]


def _push(value: Any) -> _Operation:
    return lambda machine: machine._stack.append(value)


def _take(operand: Callable[..., Any], *width: int) -> _Operation:
    return lambda machine: machine._stack.append(operand(machine._operands, *width))


def _table() -> dict[int, _Operation]:
    """Opcode -> what it does."""
    table: dict[bytes, _Operation] = {
        b"(": _push(_MARK), b"N": _push(None), b"\x88": _push(True), b"\x89": _push(False), b")": _push(()),
        b"]": lambda m: m._stack.append([]), b"}": lambda m: m._stack.append({}), b"\x8f": lambda m: m._stack.append([]),
        b"0": Machine._discard, b"1": Machine._discard_group, b"2": lambda m: m._stack.append(m._top()),
        b"I": _take(Operands.decimal_or_truth), b"L": _take(Operands.long_decimal), b"F": _take(Operands.real_line),
        b"G": _take(Operands.real), b"J": _take(Operands.integer, 4), b"K": _take(Operands.integer, 1),
        b"M": _take(Operands.integer, 2), b"\x8a": _take(Operands.long, 1), b"\x8b": _take(Operands.long, 4),
        b"S": _take(Operands.quoted_line), b"V": _take(Operands.unicode_line), b"T": _take(Operands.old_text, 4),
        b"U": _take(Operands.old_text, 1), b"X": _take(Operands.text, 4), b"\x8c": _take(Operands.text, 1),
        b"\x8d": _take(Operands.text, 8), b"B": _take(Operands.data, 4), b"C": _take(Operands.data, 1),
        b"\x8e": _take(Operands.data, 8), b"\x96": _take(Operands.data, 8),
        b"t": lambda m: m._stack.append(tuple(m._group())), b"l": lambda m: m._stack.append(m._group()),
        b"\x91": lambda m: m._stack.append(m._group()), b"d": Machine._dict,
        b"\x85": lambda m: m._tuple(1), b"\x86": lambda m: m._tuple(2), b"\x87": lambda m: m._tuple(3),
        b"s": Machine._one_item, b"u": Machine._many_items, b"a": Machine._one_more, b"e": Machine._many_more,
        b"\x90": Machine._many_more,
        b"p": lambda m: m._put(m._operands.decimal()), b"q": lambda m: m._put(m._operands.count(1)),
        b"r": lambda m: m._put(m._operands.count(4)), b"\x94": lambda m: m._put(len(m._memo)),
        b"g": lambda m: m._get(m._operands.decimal()), b"h": lambda m: m._get(m._operands.count(1)),
        b"j": lambda m: m._get(m._operands.count(4)),
        b"c": Machine._push_global, b"\x93": Machine._stack_global, b"R": Machine._reduce, b"\x81": Machine._new_object,
        b"\x92": Machine._new_object_ex, b"o": Machine._old_object, b"i": Machine._instance, b"b": Machine._build,
        b"P": Machine._persistent_line, b"Q": Machine._persistent, b"\x82": Machine._extension, b"\x83": Machine._extension,
        b"\x84": Machine._extension, b"\x97": Machine._buffer, b"\x98": Machine._buffer, b"\x80": Machine._protocol,
        b"\x95": Machine._frame,
    }  # fmt: skip
    return {code[0]: operation for code, operation in table.items()}


_OPERATIONS = _table()
