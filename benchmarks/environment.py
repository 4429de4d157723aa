"""The peer's environment: a virtual environment below the cache folder with pinned torch and weightwatcher."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from benchmarks import models

_REQUIREMENTS = (
    "torch==2.13.0",
    "weightwatcher==0.7.7",
    "powerlaw==1.5",
    "safetensors",
)  # in this order: torch is never resolved unpinned


def peer_python(given: str | None) -> Path:
    """The interpreter that has weightwatcher: the given one, or one in an environment that is made on first use.

    Raises:
        subprocess.CalledProcessError: an installation failed; what pip said is on stderr.
    """
    if given is not None:
        return Path(given)
    folder = models.ROOT / ".cache" / "weightwatcher-0.7.7"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        venv.create(folder, clear=True, with_pip=True)
        for requirement in _REQUIREMENTS:
            print(f"installing {requirement} below {folder.relative_to(models.ROOT)}", file=sys.stderr)
            subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], check=True)
        complete.touch()
    return python
