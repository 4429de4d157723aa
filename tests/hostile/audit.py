"""The audited process: reads files with every installed reader while a hook of the interpreter writes down what happens.

`python audit.py CLEAN FILE...`: readers are imported and warmed up on the files below the folder CLEAN; from then on
every event of the interpreter counts that reading a model has no reason to raise. One JSON line per file,
`{"file", "tensors", "error", "events"}`, and at the end `{"frameworks"}`.
"""

from __future__ import annotations

import ast
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from ww_static import registry, seam
from ww_static.errors import FormatError

FRAMEWORKS = {"torch", "tensorflow", "keras", "jax"}
_WHOLE = 2**22  # elements up to which a tensor is read whole
# What reading may raise: maps and arrays in memory, identities, and attributes and frames that the hook itself looks at.
_HARMLESS = {"array.__new__", "builtins.id", "mmap.__new__", "object.__getattr__", "sys._getframe"}
_LISTING = {"os.listdir", "os.scandir"}


class Watch:
    """What happened since the hook was set, that should not have happened; nothing is written down before it is armed."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.armed = False
        self._folders: tuple[str, ...] = ()

    def on(self, path: Path) -> None:
        """From now on `path` is the model: its folder may be read, and the blobs beside it in the Hugging Face cache."""
        folder = os.path.abspath(path if path.is_dir() else path.parent)
        self._folders = (folder,)
        snapshots = Path(folder).parent
        if snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--"):
            self._folders += (str(snapshots.parent / "blobs"),)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook. It raises nothing: a reader could catch that, and what it did would go unseen."""
        if not self.armed or event in _HARMLESS:
            return
        self.armed = False  # what the judgement itself raises does not count
        try:
            if not self._allowed(event, arguments):
                self.events.append(f"{event} {arguments!r:.300}")
        finally:
            self.armed = True

    def _allowed(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            return self._may_open(arguments[0], arguments[1], arguments[2])
        if event in _LISTING:
            return self._inside(arguments[0])
        if event == "os.putenv":  # no plugin is looked for: said anew at every file, for anybody may change it between
            return tuple(map(os.fsdecode, arguments)) == ("HDF5_PLUGIN_PRELOAD", "::")
        if event == "compile":  # a literal is parsed into a tree, which is never made into code
            return sys._getframe(2).f_code is ast.parse.__code__
        return False

    def _may_open(self, path: Any, mode: Any, flags: Any) -> bool:
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
            return False
        if isinstance(path, int):  # a descriptor that is open already
            return True
        text = os.fsdecode(path)
        if "/" not in text and text not in ("", ".", "..") and flags & os.O_NOFOLLOW:
            return True  # one step below a folder that was opened before; the folder this runs in is empty
        return self._inside(text)

    def _inside(self, path: Any) -> bool:
        if isinstance(path, int):
            return True
        real = os.path.abspath(os.fsdecode(path))
        return any(real == folder or real.startswith(folder + os.sep) for folder in self._folders)


def read(path: Path) -> tuple[int, str | None]:
    """Opens a file and reads all of its tensors; how many there are, and the category when it is refused."""
    try:
        with seam.open_checkpoint(path) as checkpoint:
            for spec in checkpoint.tensors:
                whole = math.prod(spec.shape) <= _WHOLE
                try:
                    checkpoint.read(spec, () if whole else (slice(0, 1),) * len(spec.shape))
                except FormatError as error:
                    str(error)
            return len(checkpoint.tensors), None
    except FormatError as error:
        str(error)
        return 0, error.category


def main(clean: Path, paths: list[Path]) -> None:
    """Warms up, sets the hook, reads the files."""
    entries = registry.installed()
    for entry in entries:
        entry.load()
    registry.installed = lambda allowed=None: entries  # the search for installed packages is not part of reading
    for path in sorted(clean.rglob("*")):
        if path.is_file():
            read(path)
    watch = Watch()
    sys.addaudithook(watch.hook)
    for path in paths:
        watch.on(path)
        watch.events.clear()
        watch.armed = True
        try:
            tensors, error = read(path)
        except MemoryError:
            tensors, error = 0, "memory"
        watch.armed = False
        line = {"file": os.fsencode(path).hex(), "tensors": tensors, "error": error, "events": watch.events}
        print(json.dumps(line), flush=True)
    print(json.dumps({"frameworks": sorted(FRAMEWORKS & set(sys.modules))}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(os.fsdecode(bytes.fromhex(word))) for word in sys.argv[2:]])
