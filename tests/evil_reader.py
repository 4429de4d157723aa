"""A reader for the tests of isolation: its files name a deed, and opening or reading them does it.

The file is one line, ``EVIL <when> <deed>``; `when` is ``open`` or ``read``. Every file has two tensors, ``good`` and
``bad``; only reading ``bad`` does the deed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ww_static.protocol import Finding, Limits, TensorSpec, Window

SHAPE = (24, 16)


def sniff(path: Path, head: bytes) -> bool:
    return head.startswith(b"EVIL ")


def open(path: Path, limits: Limits) -> Evil:
    _, when, deed = path.read_text().split()[:3]
    if when == "open":
        do(deed, path)
    return Evil(path, deed if when == "read" else "nothing")


class Evil:
    """Its two tensors, one of which does the deed."""

    findings: Sequence[Finding] = ()

    def __init__(self, path: Path, deed: str) -> None:
        self.path, self.deed = path, deed
        self.tensors = tuple(TensorSpec(f"{name}.weight", "F32", SHAPE, path.name) for name in ("good", "bad"))

    def read(self, spec: TensorSpec, window: Window = ()) -> Any:
        if spec.name == "bad.weight":
            do(self.deed, self.path)
        seed = 1 if spec.name == "good.weight" else 2
        return np.random.default_rng(seed).standard_t(3, SHAPE).astype(np.float32)[window]

    def close(self) -> None:
        pass


def do(deed: str, path: Path) -> None:
    """One of the things that a broken reader, or the library it calls, does."""
    DEEDS[deed](path)


def loop(path: Path) -> None:
    while True:
        pass


def stuck(path: Path) -> None:
    re.match("(a+)+$", "a" * 64 + "b")  # years in C, without a look at signals


def creep(path: Path) -> None:
    pieces = []
    while True:
        pieces.append(bytearray(2**24))


def chat(path: Path) -> None:
    os.write(1, b"written by a hostile file\n")
    os.write(2, b"written by a hostile file\n")


def cut_under_a_map(path: Path) -> None:
    """What happens when somebody else cuts a file short while it is mapped."""
    descriptor = os.open(path, os.O_RDWR)
    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    os.truncate(descriptor, 0)
    _ = mapped[-1]


DEEDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "segv": lambda path: ctypes.string_at(0),
    "abort": lambda path: os.abort(),
    "kill": lambda path: os.kill(os.getpid(), signal.SIGKILL),
    "leave": lambda path: os._exit(0),  # what a C library does that calls exit()
    "exit": lambda path: sys.exit("bye"),
    "loop": loop,
    "stuck": stuck,
    "sleep": lambda path: time.sleep(10**6),
    "hog": lambda path: bytearray(50 * 2**30),
    "creep": creep,
    "chat": chat,
    "write": lambda path: (path.parent / "WRITTEN").write_bytes(bytes(4096)),
    "cut": cut_under_a_map,
}
