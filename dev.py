#!/usr/bin/env python3
"""The one command of the project: sets up an environment of its own, then runs the demo, the gates, or a generator.

    python3 dev.py demo      set up, fetch MiniLM, analyze it
    python3 dev.py test      set up, run every gate: format, lint, types, tests with coverage
    python3 dev.py accept    set up, run the acceptance tests with larger counts, write what they measure into docs/
    python3 dev.py format    set up, format the code
    python3 dev.py docs      set up, write the generated pages of docs/
    python3 dev.py fuzz      set up, read damaged files for as long as it takes; --help says more

It needs Python 3.11 or later with pip, and the standard library only.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

CODE = ("dev.py", "ww_static", "readers", "tests", "fixtures", "docs", "benchmarks", "ci")
TYPED = ("ww_static", "readers", "tests", "fixtures", "benchmarks", "docs", "ci")
LEAST_COVERAGE = "90"


def run(*arguments: str, expected: int = 0) -> None:
    """Runs a command of the environment in the project's folder; ends this program with its code when that is another."""
    print("+", " ".join(arguments), file=sys.stderr, flush=True)
    code = subprocess.call([str(PYTHON), "-m", *arguments], cwd=ROOT)
    if code != expected:
        sys.exit(code or 1)


def fuzz(arguments: list[str]) -> None:
    """The long fuzz; ends this program with its code."""
    set_up("dev")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    signal.signal(signal.SIGINT, lambda number, frame: None)  # the fuzz says what there is, then it ends by itself
    sys.exit(subprocess.call([str(PYTHON), "-m", "fuzz", *arguments], cwd=ROOT, env=environment))


def set_up(extra: str) -> None:
    """A virtual environment with the project, editable, and the packages of `extra`; done once per pyproject.toml."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + extra.encode() + sys.version.encode()).hexdigest()
    stamp = VENV / f".ready-{extra or 'plain'}"
    if stamp.is_file() and stamp.read_text() == wanted and PYTHON.exists():
        return
    try:
        import ensurepip  # noqa: F401

        venv.create(VENV, with_pip=True, clear=not PYTHON.exists())
        pip = [str(PYTHON), "-m", "pip"]
    except ImportError:  # a distribution's Python without ensurepip: its pip installs into the environment
        venv.create(VENV, with_pip=False, clear=not PYTHON.exists())
        pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    target = f".[{extra}]" if extra else "."
    install = [*pip, "install", "--quiet", "--disable-pip-version-check", "--editable", target]
    print("+", "pip install", target, file=sys.stderr, flush=True)
    if subprocess.call(install, cwd=ROOT):
        sys.exit("dev.py: the packages of the project could not be installed; is a package index reachable?")
    stamp.write_text(wanted)


def demo() -> None:
    """Fetches MiniLM by exact version and checksum, analyzes it, and audits it and a damaged copy."""
    set_up("")
    sys.stdout.flush()
    path = subprocess.run(
        [str(PYTHON), "fixtures/weights.py", "minilm"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    copy = os.path.join(".cache", "demo", "damaged.safetensors")
    subprocess.run([str(PYTHON), "fixtures/damaged.py", path, copy], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    run("ww_static", "analyze", os.path.relpath(path, ROOT))
    run("ww_static", "audit", os.path.relpath(path, ROOT))
    run("ww_static", "audit", copy, expected=1)


def test(arguments: list[str]) -> None:
    """Every gate, the cheap ones first; with arguments, only pytest with these."""
    set_up("dev")
    if arguments:
        run("pytest", *arguments)
        return
    run("ruff", "format", "--check", *CODE)
    run("ruff", "check", *CODE)
    run("mypy", *TYPED)
    run(
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--cov",
        "--cov-report=term:skip-covered",
        f"--cov-fail-under={LEAST_COVERAGE}",
    )


def accept() -> None:
    """The acceptance tests in one process, those of larger counts too, and the page that says what they measured."""
    set_up("dev")
    (ROOT / "docs" / "acceptance.json").write_text("{}\n", encoding="utf-8")  # what is gone leaves no note
    run("pytest", "-m", "", "--measured=docs/acceptance.json")
    docs()


def docs() -> None:
    """The generated pages."""
    subprocess.run([str(PYTHON), "docs/generate.py"], cwd=ROOT, check=True)


def main() -> None:
    """Parses the one word and does it."""
    if sys.version_info < (3, 11):
        sys.exit(f"dev.py: Python 3.11 or later is needed, this is {sys.version.split()[0]}")
    word, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if word == "demo":
        demo()
    elif word == "test":
        test(arguments)
    elif word == "format":
        set_up("dev")
        run("ruff", "check", "--fix-only", *CODE)
        run("ruff", "format", *CODE)
    elif word == "fuzz":
        fuzz(arguments)
    elif word == "accept":
        accept()
    elif word == "docs":
        set_up("dev")
        docs()
    else:
        sys.exit((__doc__ or "").rstrip())


if __name__ == "__main__":
    main()
