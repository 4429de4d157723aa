"""A seed: a small valid file of one format, in parts that can be damaged before the file is put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Parts = Mapping[str, bytes]


def alone(parts: Parts) -> dict[str, bytes]:
    """The parts are the files."""
    return dict(parts)


@dataclass(frozen=True, slots=True)
class Seed:
    """A valid file, or a folder with one.

    Attributes:
        name: what is special about it.
        main: name of the file to open.
        parts: what is damaged by itself: the files, or what they are made of.
        build: parts -> files of the folder by name. Lengths and checksums are those of the damaged parts, so that damage
            inside a container gets past the container.
        forms: name of a part -> how its bytes are built (``json``, ``pickle``, ``protobuf``), so that whole tokens,
            opcodes and fields can be damaged.
        also: outcomes that are right beside ``opened``, for a file with a tensor that is listed and not read.
    """

    name: str
    main: str
    parts: Parts
    build: Callable[[Parts], Mapping[str, bytes]] = alone
    forms: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    def files(self) -> Mapping[str, bytes]:
        """The undamaged files."""
        return self.build(self.parts)
