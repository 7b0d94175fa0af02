"""The twelve invariants: SECURITY.md names tests that exist, and the count of a run cannot hide a violation."""

import json
from pathlib import Path

import pytest

from tests.support import invariants as support
from tests.support.named_tests import named_tests, unknown
from tools import invariants as tool

ROOT = Path(__file__).parents[2]
ROWS = "| INV-1 | **First.** text | `tests/a.py::test_a` | |\n| INV-2 | **Second.** text | | not tested |\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "SECURITY.md").write_text(ROWS)
    (tmp_path / ".invariants").mkdir()
    return tmp_path


def write(checkout: Path, invariant: str, cases: int, violations: int) -> None:
    entry = {"invariant": invariant, "test": "tests/a.py::test_a", "cases": cases, "violations": violations}
    (checkout / ".invariants" / f"{invariant}.json").write_text(json.dumps(entry))


def test_all_cases_held_is_success(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(checkout, "INV-1", 7, 0)
    assert tool.main(checkout) == 0
    assert "7 cases" in capsys.readouterr().out


def test_one_violation_fails_and_names_its_test(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(checkout, "INV-1", 7, 1)
    assert tool.main(checkout) == 1
    assert "VIOLATED by tests/a.py::test_a" in capsys.readouterr().out


def test_claim_without_a_record_fails(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(checkout) == 1
    assert "NO RECORD" in capsys.readouterr().out


def test_record_of_an_invariant_that_nobody_states_fails(checkout: Path) -> None:
    write(checkout, "INV-1", 7, 0)
    write(checkout, "INV-9", 1, 0)
    assert tool.main(checkout) == 1


def test_security_md_states_all_twelve() -> None:
    rows = tool.invariants((ROOT / "SECURITY.md").read_text())
    assert [row.id for row in rows] == [f"INV-{number}" for number in range(1, 13)]


def test_every_test_that_security_md_names_exists() -> None:
    assert unknown(named_tests((ROOT / "SECURITY.md").read_text())) == []


def broken() -> None:
    with support.tally("INV-4") as count:
        count.case(2)
        raise ZeroDivisionError


def test_tally_that_ends_in_an_exception_is_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "RECORDS", tmp_path / "records")
    with pytest.raises(ZeroDivisionError):
        broken()
    (record,) = tool.records(tmp_path / "records")
    assert (record.invariant, record.cases, record.violations) == ("INV-4", 2, 1)


def test_repeated_calls_of_one_test_add_up_in_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "RECORDS", tmp_path / "records")
    support.record("INV-4", 3)
    support.record("INV-4", 4)
    (record,) = tool.records(tmp_path / "records")
    assert (record.cases, record.violations) == (7, 0)


@pytest.mark.parametrize(("invariant", "cases", "violations"), [("INV-13", 1, 0), ("INV-1", 1, 2), ("INV-1", -1, 0)])
def test_nonsense_is_not_recorded(invariant: str, cases: int, violations: int) -> None:
    with pytest.raises(ValueError, match=r"INV-|violations"):
        support.record(invariant, cases, violations)
