"""Tests that a document names as `path::name`, and whether they exist: read from the sources, nothing is collected."""

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"`(tests/[\w./-]+\.py)(?:::(\w+))?`")


def named_tests(text: str) -> list[tuple[str, str]]:
    """Return (path, name) for every test that `text` names; the name is empty where a whole file is named."""
    return _NAMED.findall(text)


@cache
def tests_in(path: str) -> frozenset[str]:
    """Return the names of the test functions of a file below the root; empty if there is no such file."""
    file = ROOT / path
    tree = ast.parse(file.read_text()) if file.is_file() else ast.Module([], [])
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def unknown(named: Iterable[tuple[str, str]]) -> list[str]:
    """Return what is named and does not exist."""
    return [f"{path}::{name}" for path, name in named if not tests_in(path) or (name and name not in tests_in(path))]
