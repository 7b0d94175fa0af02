"""A policy that a test signs: its text with a few knobs, and the key that signs it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import sign_policy

SIGNER = SigningKey.from_seed(b"policy signer".ljust(32))
FAR = timedelta(days=1)


def policy_text(
    serial: int = 1,
    *,
    name: str = "production",
    pcr: str = "a",
    expires: datetime | None = None,
    extra: str = "",
) -> str:
    """Return a policy of one build whose PCRs start with `pcr`, a hex digit."""
    return f"""
version = 1
name = "{name}"
serial = {serial}
not_after = {(expires or datetime.now(UTC) + FAR).isoformat()}
{extra}
[[measurements]]
label = "build {pcr}"
pcr0 = "{pcr}0{"0" * 94}"
pcr1 = "{pcr}1{"0" * 94}"
pcr2 = "{pcr}2{"0" * 94}"
"""


def signed(text: str, key: SigningKey = SIGNER, *, at: datetime | None = None) -> bytes:
    """Return `text` signed, as of the time `at`."""
    return sign_policy(text.encode(), key, now=at or datetime.now(UTC))


def replace(path: Path, content: bytes | str) -> None:
    """Put new bytes in a file's place in one step."""
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content if isinstance(content, bytes) else content.encode())
    fresh.replace(path)
