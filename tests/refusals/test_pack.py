"""The refusal pack: made again byte for byte, complete, and refused by the verifiers of this tree."""

import re
from collections import Counter
from pathlib import Path

import pytest

from ephemeralml.selftest import FAMILIES, load, run_case
from tests.refusals.case import plain
from tests.refusals.writing import DATA, pack
from tests.refusals.writing import FAMILIES as WRITTEN

THREATS = Path(__file__).parents[2] / "docs" / "threat-model.md"
CASES = [case for family in FAMILIES for case in load(family)]


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return pack()


@pytest.mark.parametrize("name", [*(f"{family}.json" for family in WRITTEN), "pack.json"])
def test_the_generator_writes_the_committed_file_byte_for_byte(name: str, made: dict[str, bytes]) -> None:
    committed = (DATA / name).read_bytes()
    assert made[name] == committed, f"{name} differs: run python -m tests.refusals, and look at what changed"


def test_nothing_else_lies_beside_the_generated_files(made: dict[str, bytes]) -> None:
    assert {path.name for path in DATA.iterdir()} == set(made)


def test_every_family_that_is_written_is_run() -> None:
    assert set(FAMILIES) == set(WRITTEN)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_case_is_refused_with_exactly_its_code_and_every_control_is_accepted(family: str) -> None:
    outcomes = [run_case(case) for case in load(family)]
    assert [(o.case.name, o.case.expected, o.refusal) for o in outcomes if not o.as_expected] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_control_and_refusals(family: str) -> None:
    kinds = Counter(case.expected is None for case in load(family))
    assert kinds[True] >= 1
    assert kinds[False] >= 8


def test_the_pack_has_at_least_150_refusals_of_documents_receipts_manifests_answers_and_frames() -> None:
    named = [case for case in CASES if case.expected and case.family not in ("containers", "policies")]
    assert len(named) >= 150


def test_no_two_cases_try_the_same_input_in_the_same_way() -> None:
    tried = Counter((case.family, case.raw, str(case.context)) for case in CASES)
    assert [key[0] for key, count in tried.items() if count > 1] == []


def test_every_case_names_a_threat_of_the_threat_model_and_says_what_is_wrong_on_one_line() -> None:
    known = set(re.findall(r"^\| ([A-Z]\d+) \|", THREATS.read_text(), re.MULTILINE))
    assert known
    assert {case.threat for case in CASES} - known == set()
    assert [case.name for case in CASES if not case.says.isprintable() or not 8 <= len(case.says) <= 100] == []


def test_names_fit_a_command_line() -> None:
    assert [case.name for case in CASES if not re.fullmatch(r"[a-z0-9][a-zA-Z0-9_-]*", case.name)] == []


def test_a_context_is_written_as_json_holds_it() -> None:
    assert plain({"a": [b"\x01", ("x", None)]}) == {"a": ["01", ["x", None]]}
