"""docs/SPEC.md keeps up with the code: every label, code and limit is in it, and its worked example is the vectors'."""

import ast
import re
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import pytest

from ephemeral import protocol

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "docs" / "SPEC.md").read_text()
SPOKEN = ("ephemeral/trusted", "services/enclave/ephemeral_enclave")  # what a peer or an operator can be told
WORKED = SPEC[SPEC.index("\n## 20 ") :].split("\n## 21 ")[0]
NUMBERS = {
    name: value
    for name, value in vars(protocol).items()
    if name.isupper() and isinstance(value, int) and not isinstance(value, IntEnum) and value >= 1000
}


def codes() -> Iterator[tuple[str, str]]:
    for folder in SPOKEN:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                    yield str(node.value.value), path.name


def test_every_code_of_the_trusted_code_is_in_the_specification() -> None:
    assert sorted({(code, path) for code, path in codes() if f"`{code}`" not in SPEC}) == []


@pytest.mark.parametrize("name", [name for name in vars(protocol) if name.startswith(("LABEL_", "PURPOSE_"))])
def test_every_label_is_in_the_specification(name: str) -> None:
    value = getattr(protocol, name)
    text = value.decode() if isinstance(value, bytes) else value
    assert re.search(rf"`{name}`.*{re.escape(text)}", SPEC)


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_large_limit_is_in_the_specification(name: str) -> None:
    number = NUMBERS[name]
    assert f"{number:,}" in SPEC or str(number) in SPEC, f"{name} = {number:,}"


def test_every_value_of_the_worked_example_is_in_the_vectors() -> None:
    vectors = "".join(path.read_text() for path in (ROOT / "tests" / "vectors").glob("*.json"))
    quoted = re.findall(r"\b[0-9a-f]{12,}\b", WORKED)
    assert len(quoted) >= 15
    assert [value for value in quoted if value not in vectors] == []


def test_every_vector_file_is_listed() -> None:
    listed = set(re.findall(r"`([\w-]+\.json)`", WORKED))
    assert listed == {path.name for path in (ROOT / "tests" / "vectors").glob("*.json")}


def test_the_table_of_contents_names_every_section() -> None:
    sections = re.findall(r"^## (\d+) (.+)$", SPEC, re.MULTILINE)
    contents = SPEC[: SPEC.index("\n## 1 ")]
    assert [number for number, title in sections if f"[{number} {title}]" not in " ".join(contents.split())] == []
    assert [int(number) for number, _ in sections] == list(range(1, len(sections) + 1))
