"""The corpus of key policies: real files, each naming in its Id what the linter must find, if anything."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark import ParameterSet

from ephemeral_devstack.kms.policy import KeyPolicy
from ephemeral_devstack.kms.refusal import Refusal

_FOLDER: Final = Path(__file__).parents[1] / "client" / "kms" / "corpus"
_ID: Final = re.compile(r'"Id": "(?P<rules>(?:KMS-[0-9]{3} ?)+): ')


@dataclass(frozen=True, slots=True)
class KeyPolicyCase:
    """One file of the corpus."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    @property
    def expected(self) -> list[str]:
        """The rules that its Id names."""
        match = _ID.search(self.text)
        return match["rules"].split() if match else []

    @property
    def stored(self) -> bool:
        """Tell whether the simulated KMS knows everything in it."""
        try:
            KeyPolicy.parse(self.text)
        except Refusal:
            return False
        return True


def corpus(kind: str) -> list[KeyPolicyCase]:
    """Return the policies that are `good` or `bad`."""
    return [KeyPolicyCase(path, path.read_text()) for path in sorted((_FOLDER / kind).glob("*.json"))]


def parameters(kind: str, prefix: str = "", *, evaluable: bool = False) -> list[ParameterSet]:
    """Return the policies whose names begin with `prefix` as parameters of a test; perhaps only the evaluable ones."""
    cases = [case for case in corpus(kind) if case.name.startswith(prefix)]
    return [pytest.param(case, id=case.name) for case in cases if not evaluable or case.stored]
