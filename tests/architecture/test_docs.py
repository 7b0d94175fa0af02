"""Documents cannot rot unnoticed: the checker that lint runs finds each kind of fault."""

from pathlib import Path

import pytest

from tools.check_docs import Quoted, anchors, faults, quoted

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "Makefile").write_text("setup: ## make it\n\t@true\ntest: setup\n\t@true\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Other page\n\n## Second `part`, twice\n\n## Second part twice\n")
    return tmp_path


def faults_of(text: str, tree: Path) -> list[str]:
    page = tree / "README.md"
    page.write_text(text)
    return [fault.removeprefix("README.md: ") for fault in faults(page, tree)]


def test_this_checkouts_documents_have_no_fault() -> None:
    assert [fault for page in ROOT.glob("*.md") for fault in faults(page, ROOT)] == []


def test_good_page_has_no_fault(tree: Path) -> None:
    text = "[x](docs/other.md#second-part-twice-1) [y](https://example.com/none)\n```sh\nmake test ARGS=-x\n```\n"
    assert faults_of(text, tree) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a](docs/none.md)", "link docs/none.md: no such file"),
        ("[`a`](../outside.md)", "link ../outside.md: no such file"),
        ("![a](docs/none.png)", "link docs/none.png: no such file"),
        ("[a](docs/other.md#third)", "link docs/other.md#third: no such heading"),
        ("```sh\nmake tset\n```\n", "`make tset`: make has no target tset"),
        ("```console\n$ make setup deploy\nok\n```\n", "`make setup deploy`: make has no target deploy"),
        ("```sh\n.venv/bin/python -m ephemeral.nothing\n```\n", None),
        ("```sh\ntools/none.sh --check\n```\n", "`tools/none.sh --check`: no executable tools/none.sh"),
        ("```console\n$ python -m calendar --help\nusage: something else\n```\n", None),
    ],
)
def test_fault_is_reported(text: str, fault: str | None, tree: Path) -> None:
    (found,) = faults_of(text, tree)
    assert fault is None or found == fault


def test_quoted_command_keeps_its_own_output() -> None:
    text = "```console\n$ one \\\n  --two\nprinted\n$ three\n```\n```sh\n# comment\nfour\n```\n```python\nfive\n```\n"
    one, three, four = quoted(text)
    assert (one.command.split(), one.output) == (["one", "--two"], "printed\n")
    assert (three, four) == (Quoted("three", ""), Quoted("four"))


def test_anchors_leave_out_headings_inside_code() -> None:
    assert anchors("# A `b` c\n```sh\n# not a heading\n```\n") == {"a-b-c"}
