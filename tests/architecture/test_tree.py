"""The shape of the tree: small modules named after one thing, real doubles only, nothing of one developer's machine."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("ephemeral", "clients", "services", "infra", "tools", "benchmarks", "tests", "docs", "proto", ".ci")
PRODUCT = ("ephemeral/", "clients/", "services/")
VAGUE = {"util", "utils", "helper", "helpers", "common", "manager", "misc", "base"}
MAX_LINES, MAX_TEST_LINES = 300, 450  # a test module tells one module's whole story
TEXT = {".py", ".md", ".toml", ".sh", ".yaml", ".yml", ".proto", ".tf", ".json", ""}
# A test double that answers by script proves only the script.
MOCK = re.compile(r"^\s*(from|import) (unittest(\.mock| import mock)|mock|pytest_mock)\b", re.MULTILINE)
# Absolute paths that exist on one machine only.
PERSONAL = re.compile(r"(?<![\w.\-$}])/(?:work|Users)/\w")


def files(*suffixes: str) -> Iterator[Path]:
    roots = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".coverage")]
    for path in [*roots, *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())]:
        if path.suffix in suffixes and "__pycache__" not in path.parts:
            yield path.relative_to(ROOT)


def modules() -> list[Path]:
    return [path for path in files(".py") if "generated" not in path.parts]


def test_the_walk_sees_the_whole_tree() -> None:
    assert {path.parts[0] for path in modules()} >= {"ephemeral", "clients", "services", "infra", "tools", "tests"}


def test_no_module_has_a_vague_name() -> None:
    assert [str(path) for path in modules() if VAGUE & {path.stem, *path.parts}] == []


def test_no_module_is_longer_than_its_reader_bears() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in modules()}
    limits = {path: MAX_TEST_LINES if path.parts[0] == "tests" else MAX_LINES for path in lengths}
    assert {str(path): length for path, length in lengths.items() if length > limits[path]} == {}


def test_nothing_is_mocked() -> None:
    assert [str(path) for path in modules() if MOCK.search((ROOT / path).read_text())] == []


@pytest.mark.parametrize("word", ["pytest", "unittest", "moto", "ephemeral_devstack"])
def test_product_code_never_names_its_test_doubles(word: str) -> None:
    product = [path for path in modules() if path.as_posix().startswith(PRODUCT)]
    assert [str(path) for path in product if re.search(rf"\b{word}\b", (ROOT / path).read_text())] == []


def test_nothing_names_a_path_of_one_machine() -> None:
    assert [str(path) for path in files(*TEXT) if PERSONAL.search((ROOT / path).read_text(errors="replace"))] == []
