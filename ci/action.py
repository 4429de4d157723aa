"""What action.yml runs: `install` makes an environment, `audit` runs the audit there and writes outputs and the step summary.

Inputs come as environment variables (``WW_PATH`` and so on) and become words of a command, never text of a shell. It needs
the standard library only, and runs with ``-I``, so that nothing is imported from the workspace.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
USAGE = 2  # the exit code
_OPTIONS = {"profile": "--profile", "policy": "--policy", "baseline": "--baseline", "fail-on": "--fail-on", "sarif": "--output"}
_KNOWN = ("unchanged", "fixed")  # what a baseline says of findings that are not news


def given(name: str) -> str:
    """An input of the action; empty when it was not given."""
    return os.environ.get("WW_" + name.upper().replace("-", "_"), "")


def refused(problem: str) -> int:
    """Says what is wrong with the inputs; the exit code."""
    print(f"ww-static: {problem}", file=sys.stderr)
    return USAGE


def workspace() -> Path:
    """The folder for what only this job needs."""
    return Path(os.environ.get("RUNNER_TEMP") or tempfile.gettempdir())


def put(**outputs: object) -> None:
    """Sets outputs of the step; no value has a line break."""
    with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as stream:
        stream.writelines(f"{name.replace('_', '-')}={value}\n" for name, value in outputs.items())


def install() -> int:
    """An environment with the action's own code, or with a release of the package index."""
    version = given("version")
    if version and not re.fullmatch(r"[0-9][0-9A-Za-z.+!]*", version):
        return refused(f"version {version!r} is none; write it like 0.1.0, or leave it out for the code of the action")
    folder = workspace() / "ww-static-environment"
    try:
        venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError:
        return refused(f"no environment could be made in {folder}: does {sys.executable} have ensurepip (python3-venv)?")
    python = folder / "bin" / "python"
    wanted = f"ww-static=={version}" if version else str(ROOT)
    done = subprocess.run([python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted], check=False)
    if done.returncode:
        return refused("the packages could not be installed; is a package index reachable?")
    put(python=python)
    return 0


def command(folder: Path) -> list[str]:
    """The words of the audit: results into `folder`, then the user's own options, then the one path.

    Raises:
        ValueError: a quotation in `args` does not end.
    """
    words = [str(Path(sys.executable).with_name("ww-static")), "audit", "--quiet"]
    words += [f"{option}={given(name)}" for name, option in _OPTIONS.items() if given(name)]
    words += [f"--output={folder / name}" for name in ("result.json", "summary.md", "table.txt")]
    return [*words, *shlex.split(given("args")), "--", given("path")]


def audit() -> int:
    """Runs the audit; its exit code."""
    if not given("path"):
        return refused("the input `path` is empty; name a file, a folder or a glob pattern")
    folder = Path(tempfile.mkdtemp(prefix="ww-static-", dir=workspace()))
    try:
        words = command(folder)
    except ValueError as error:
        return refused(f"the input `args` cannot be split into words: {error}")
    token = secrets.token_hex(16)
    print(
        f"::stop-commands::{token}", flush=True
    )  # names in files are hostile text, and the runner obeys what it finds in a log
    code = subprocess.run(words, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, check=False).returncode
    table, summary, result = folder / "table.txt", folder / "summary.md", folder / "result.json"
    if table.exists():
        print(table.read_text(encoding="utf-8"), flush=True)
    print(f"::{token}::", flush=True)
    if code == 0 and not result.exists():
        code = refused("the audit left no result; does the input `args` ask for help, or for another command?")
    put(exit_code=code, findings=counted(result) if result.exists() else "", result=result if result.exists() else "")
    nothing = f"## ww-static audit: exit code {code}\n\nNothing was audited; the log says why.\n"
    with open(os.environ["GITHUB_STEP_SUMMARY"], "a", encoding="utf-8") as stream:
        stream.write((summary.read_text(encoding="utf-8") if summary.exists() else nothing) + "\n")
    return code


def counted(result: Path) -> int:
    """Errors and warnings of a result that are neither suppressed nor in the baseline."""
    findings = json.loads(result.read_text(encoding="utf-8"))["findings"]
    return sum(
        one["severity"] in ("error", "warn") and one["suppressed"] is None and one["baseline"] not in _KNOWN for one in findings
    )


if __name__ == "__main__":
    sys.exit(install() if sys.argv[1:] == ["install"] else audit())
