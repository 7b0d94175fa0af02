"""docs/threat-model.md: no row is lost, no status is vague, and every test it names exists."""

import re
from pathlib import Path

import pytest

from tests.support.named_tests import unknown

TEXT = (Path(__file__).parents[2] / "docs" / "threat-model.md").read_text()
ROWS = re.findall(r"^\| ([A-Z]\d+) \| ([^|]+) \| ([^|]+) \| (.+) \|$", TEXT[TEXT.index("## Reading") :], re.MULTILINE)
COUNTS = {"A": 28, "B": 10, "C": 13, "D": 12, "E": 12, "V": 6, "G": 9, "H": 11, "I": 8, "J": 10, "K": 7}
FOLDERS = {"att/": "ephemeral/trusted/attestation/", "trusted/": "ephemeral/trusted/"}
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def named_in(status: str) -> list[tuple[str, str]]:
    """Return (path below the root, name) of each test that a status names."""
    found = []
    for path, name in NAMED.findall(status):
        folder, _, rest = path.partition("/")
        found.append((f"tests/{FOLDERS.get(f'{folder}/', f'{folder}/')}{rest}", name))
    return found


def test_every_threat_has_exactly_one_row_and_none_of_the_first_126_is_lost() -> None:
    for letter, count in COUNTS.items():
        numbers = [int(row[0][1:]) for row in ROWS if row[0][0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= count
    assert {row[0][0] for row in ROWS} == set(COUNTS)
    assert sum(COUNTS.values()) == 126


@pytest.mark.parametrize(("threat", "status"), [(row[0], row[3]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_status_names_a_test_that_exists_or_says_why_there_is_none(threat: str, status: str) -> None:
    named = named_in(status)
    assert unknown(named) == []
    if status.startswith("tested"):
        assert named
    else:
        assert status.startswith(("partly: ", "not mitigated, because ", "not applicable yet, because "))
        assert len(status) > len("not applicable yet, because ")


def test_whole_files_are_not_named_in_place_of_tests() -> None:
    assert [row[0] for row in ROWS if re.search(r"`[\w/]+\.py`", row[3])] == []


def test_a_test_that_does_not_exist_would_be_noticed() -> None:
    assert unknown(named_in("tested: `att/test_verify.py::test_that_nobody_wrote`")) == [
        "tests/ephemeral/trusted/attestation/test_verify.py::test_that_nobody_wrote"
    ]
    assert unknown(named_in("tested: `att/test_none.py::test_x`"))
