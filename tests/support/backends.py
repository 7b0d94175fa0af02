"""The libraries that can verify, as parameters of a test; one that is not installed is skipped and named."""

from collections.abc import Callable
from typing import Any

import pytest

from ephemeral.trusted import ed25519, p384

_EXTRA = "the extra `fast` is not installed"


def _or_skip(make: Callable[[], Any], name: str) -> Any:
    try:
        return pytest.param(make(), id=name)
    except RuntimeError:
        return pytest.param(None, id=name, marks=pytest.mark.skip(f"{name} is not checked: {_EXTRA}"))


P384_BACKENDS = [_or_skip(p384.OpenSsl, "cryptography"), _or_skip(p384.AwsLc, "awscrt")]
ED25519_BACKENDS = [_or_skip(ed25519.OpenSsl, "cryptography"), _or_skip(ed25519.Sodium, "PyNaCl")]
