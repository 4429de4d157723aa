"""The documentation says what the code does: generated pages, names, words, links, examples."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import ww_static
from support import ROOT, load_module
from ww_static import cli
from ww_static.measuring.codes import CODES

CODE = sorted([*(ROOT / "ww_static").rglob("*.py"), *(ROOT / "readers").rglob("*.py")])
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "tests").rglob("README.md")])
# Modules whose module-level tables and whose returned words are kinds, reasons, categories or model types.
WORDY = ("kinds", "layers", "geometry", "findings", "plan")
# Calls whose first argument is a category or a reason.
FIRST = frozenset(("FormatError", "LimitError", "UnsafeFileError", "UnknownFormatError", "ReaderError", "Finding", "Missing"))
# Calls all of whose texts are words: Kind(name, source, confidence, reason).
EVERY = frozenset(("Kind",))
KEYWORDS = frozenset(("reason", "category"))
# Calls with a reason at a place: blanks.skipped(reader, view, survey, options, reason), and failed.
PLACED = {"skipped": 4, "failed": 4}
WORD = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
# What a call of FIRST may have in place of a literal: the category of an error that is passed on.
PASSED_ON = frozenset(("category", "reason"))


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def documented(text: str) -> set[str]:
    """Everything that stands in backticks."""
    return {word for quoted in re.findall(r"`([^`\n]+)`", text) for word in [quoted, *quoted.split()]}


def texts(node: ast.AST) -> Iterator[str]:
    """Literal words in an expression, on every branch of it; not inside calls."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from texts(value)
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for element in node.elts:
            yield from texts(element)
    elif isinstance(node, ast.Dict):
        for part in (*node.keys, *node.values):
            if part is not None:
                yield from texts(part)
    elif isinstance(node, ast.Call) and called(node) == "frozenset":
        for argument in node.args:
            yield from texts(argument)


def called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def words_of_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        if name in FIRST and node.args:
            yield from texts(node.args[0])
        if name in EVERY:
            for argument in node.args:
                yield from texts(argument)
        if name in PLACED and len(node.args) > PLACED[name]:
            yield from texts(node.args[PLACED[name]])
        for keyword in node.keywords:
            if keyword.arg in KEYWORDS or (name in EVERY and keyword.arg):
                yield from texts(keyword.value)


def words_of_tables(tree: ast.Module) -> Iterator[str]:
    """Module-level tables, and what functions return or assign to a category."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            yield from texts(statement.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Return) and node.value is not None:
            yield from texts(node.value)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["category"]:
            yield from texts(node.value)


def emitted() -> set[str]:
    """Every category, reason, kind and model type that the code can emit or knows."""
    found: set[str] = set()
    for path in CODE:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found.update(words_of_calls(tree))
        if path.parent.name in ("ww_static", "layout") and path.stem in WORDY:
            found.update(word for word in words_of_tables(tree) if WORD.fullmatch(word))
        if path.name == "gathering.py":
            functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "failure"]
            assert functions, "the reasons of failed rows are made elsewhere: tell this test where"
            returns = [node.value for node in ast.walk(functions[0]) if isinstance(node, ast.Return)]
            found.update(text for value in returns if isinstance(value, ast.Tuple) for text in texts(value.elts[0]))
    return {word for word in found if WORD.fullmatch(word)}


def test_the_generated_pages_are_current() -> None:
    generate = load_module(ROOT / "docs" / "generate.py", "docs_generate")
    assert generate.stale() == [], "run `python3 dev.py docs`"


def test_the_check_of_the_generated_pages_names_a_stale_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = load_module(ROOT / "docs" / "generate.py", "docs_generate")
    monkeypatch.setattr(generate, "pages", lambda: {ROOT / "docs" / "columns.md": "something else"})
    assert generate.main(["--check"]) == 1
    assert "docs/columns.md is stale" in capsys.readouterr().err
    assert generate.main(["--no-such-option"]) == 2


def test_every_public_name_is_documented() -> None:
    words = set(re.findall(r"\w+", "\n".join(page(f"docs/{name}.md") for name in ("guide", "formats", "readers", "threats"))))
    assert set(ww_static.__all__) - words == set()


def test_every_category_reason_and_kind_is_documented() -> None:
    words = emitted()
    assert {"truncated", "too_few_evals", "depthwise", "memory_limit", "conv_transpose", "nothing_to_analyse"} <= words
    assert words - documented(page("docs/formats.md")) == set()


def test_every_warning_code_is_documented() -> None:
    assert set(CODES) - documented(page("docs/formats.md").partition("## Warning codes")[2]) == set()


def test_every_error_category_is_a_literal_that_can_be_collected() -> None:
    unclear = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and called(node) in FIRST and node.args and not any(texts(node.args[0])):
                first = node.args[0]
                if not (isinstance(first, ast.Attribute) and first.attr in PASSED_ON):
                    unclear.append(f"{path.name}:{node.lineno}")
    assert unclear == [], "a category or reason is computed; the test above cannot see it"


def test_every_storage_dtype_is_documented() -> None:
    from ww_static.dtypes import DTYPES

    assert set(DTYPES) - documented(page("docs/formats.md")) == set()


def test_every_metric_has_its_formula() -> None:
    from ww_static.measuring.metrics import METRICS

    assert set(METRICS) - documented(page("docs/mathematics.md").replace(",", " ")) == set()


def commands(command: object, name: str = "ww-static") -> Iterator[tuple[str, object]]:
    yield name, command
    for inner, one in sorted(getattr(command, "commands", {}).items()):
        yield from commands(one, f"{name} {inner}")


def test_every_command_and_option_is_on_the_command_page() -> None:
    text = page("docs/cli.md")
    sections = dict(re.findall(r"(?ms)^## (.+?)$(.*?)(?=^## |\Z)", text))
    for name, command in commands(typer.main.get_command(cli.app)):
        assert name in sections, f"docs/generate.py does not know the command {name}"
        for parameter in getattr(command, "params", []):
            for option in [*parameter.opts, *parameter.secondary_opts]:
                assert not option.startswith("-") or option in sections[name], f"{name} {option}"


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a page, as they are commonly made."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^ *```.*?^ *```", "", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_resolves(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    plain = re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^ *```.*?^ *```", "", text))
    for target in re.findall(r"\]\(([^)\s]+)\)", plain):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("path", [*PAGES, ROOT / "docs" / "generate.py"], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_machine_or_a_package_index(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.])/(?:home|root|work|Users|opt|mnt|tmp/\w)[\w./-]*", text) == []
    assert re.findall(r"\b[\w.-]*(?:pypi|pythonhosted|artifactory|devpi)[\w.-]*", text, re.IGNORECASE) == []


def test_the_reader_of_the_documentation_passes_the_suite(tmp_path: Path) -> None:
    blocks = re.findall(r"(?ms)^`(\w+\.py)`:\n\n```python\n(.*?)^```", page("docs/readers.md"))
    assert [name for name, _ in blocks] == ["tiny_reader.py", "test_tiny_reader.py"]
    for name, code in blocks:
        (tmp_path / name).write_text(code, encoding="utf-8")
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_tiny_reader.py"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
