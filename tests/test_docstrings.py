"""What is public says what it is: every function and class without a leading underscore has a docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT

FILES = sorted([*(ROOT / "ww_static").rglob("*.py"), *(ROOT / "readers").rglob("*.py")])


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Functions and classes of a module, and methods of its public classes, whose names are public."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    inner for inner in node.body if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_")
                )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the first line of a file says its idea"
    for node in public(tree):
        overload = any(isinstance(one, ast.Name) and one.id == "overload" for one in node.decorator_list)
        abstract = isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Expr) and path.name == "protocol.py"
        sentence = node.name.startswith("test_")  # a name that is a sentence is its own docstring
        assert overload or abstract or sentence or ast.get_docstring(node), f"{path.name}:{node.lineno} {node.name}"
