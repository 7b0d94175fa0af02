"""docs/kms.md is where a finding's id leads: it must say of each rule what the linter says."""

from pathlib import Path

import pytest

from ephemeralml.kms import RULES, Rule

PAGE = (Path(__file__).parents[3] / "docs" / "kms.md").read_text()


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_page_explains_each_rule_in_the_linter_s_words(rule: Rule) -> None:
    assert f"| {rule.id} | {rule.title} | {rule.attack} | {rule.fix} |" in PAGE


def test_page_explains_no_rule_that_is_not_there() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| KMS-")]
    assert len(rows) == len(RULES)
