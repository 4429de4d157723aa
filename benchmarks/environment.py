"""The peers' environments: virtual environments below the cache folder with pinned versions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import models

_REQUIREMENTS = (
    "torch==2.13.0",
    "weightwatcher==0.7.7",
    "powerlaw==1.5",
    "safetensors",
)  # in this order: torch is never resolved unpinned
_DIFFRACT = "diffract-core==0.3.1"
_DIFFRACT_PYTHONS = ("python3.14", "python3.13", "python3.12")  # it says that it needs 3.12, and its syntax does


def peer_python(given: str | None) -> Path:
    """The interpreter that has weightwatcher: the given one, or one in an environment that is made on first use.

    Raises:
        subprocess.CalledProcessError: an installation failed; what pip said is on stderr.
    """
    if given is not None:
        return Path(given)
    return _made("weightwatcher-0.7.7", sys.executable, _REQUIREMENTS)


def diffract_python(given: str | None) -> Path | None:
    """The interpreter of an environment with diffract-core, made on first use; None without Python 3.12 or later.

    Args:
        given: interpreter that makes it; otherwise one that the path has.

    Raises:
        subprocess.CalledProcessError: an installation failed; what pip said is on stderr.
    """
    base = given or next((found for name in _DIFFRACT_PYTHONS if (found := shutil.which(name)) and _runs(found)), None)
    if base is None:
        print(f"no {_DIFFRACT}: it needs Python 3.12 or later, and none is on the path", file=sys.stderr)
        return None
    return _made("diffract-core-0.3.1", base, (_DIFFRACT,))


def _runs(python: str) -> bool:
    """Whether it is an interpreter, and not the stand-in of a version manager for one that is not chosen."""
    return subprocess.run([python, "-c", "pass"], check=False, stderr=subprocess.DEVNULL).returncode == 0


def _made(name: str, base: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment below the cache folder, with these packages installed one after another."""
    folder = models.ROOT / ".cache" / name
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
        for requirement in requirements:
            print(f"installing {requirement} below {folder.relative_to(models.ROOT)}", file=sys.stderr)
            subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], check=True)
        complete.touch()
    return python
