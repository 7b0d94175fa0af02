"""Signed policies: one tagged COSE_Sign1 over the exact bytes of a TOML policy, and the only way back to a policy.

What is signed is the text people read and review, not a re-encoding of it. A signature alone does not stop an older
policy from being shown again: who accepts one also remembers its serial.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple

from ephemeral.errors import PolicyError
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.cose import TAG_SIGN1, CoseError, encode_sign1, parse_sign1, sig_structure
from ephemeral.trusted.ed25519 import SignatureRejected, SigningKey, VerifyingKey
from ephemeral.trusted.policy.file import MAX_POLICY_BYTES
from ephemeral.trusted.policy.trust import TrustPolicy

MAX_SIGNED_POLICY_BYTES: Final = MAX_POLICY_BYTES + 256  # the envelope takes fewer
_PROTECTED: Final = encode({1: -8, 3: "application/vnd.ephemeralml.policy+toml"})


class PolicyVersion(NamedTuple):
    """Which policy this is, and which version of it."""

    name: str
    serial: int


@dataclass(frozen=True, slots=True)
class VerifiedPolicy:
    """A policy that its pinned signer signed and that has not expired; `digest` is the SHA-256 of the TOML bytes."""

    policy: TrustPolicy
    version: PolicyVersion
    signer: VerifyingKey
    toml: bytes
    digest: bytes


def is_signed(raw: bytes) -> bool:
    """Say whether these bytes claim to be a signed policy: no TOML text starts like one."""
    return raw[:1] == bytes([TAG_SIGN1])


def sign_policy(toml: bytes, key: SigningKey, *, now: datetime) -> bytes:
    """Sign the TOML bytes of a policy that has a name, a serial and an expiry after `now`.

    Raises:
        PolicyError: the policy would not load, is not fit to be signed, or has expired.
    """
    _parse(toml, now)
    return encode_sign1(_PROTECTED, toml, key.sign(sig_structure(_PROTECTED, toml)), tagged=True)


def verify_policy(raw: bytes, signer: VerifyingKey, *, now: datetime) -> VerifiedPolicy:
    """Verify a signed policy under the one key that is pinned for it.

    1. form: size, one tagged COSE_Sign1 in its one encoding, our header, nothing unprotected
    2. signature: the pinned signer's, over the bytes as received
    3. rules: TOML of the policy format, with a name, a serial and an expiry
    4. expiry: not before `now`

    The caller compares the serial with the one it remembers: that is no property of the bytes.

    Raises:
        PolicyError: POLICY_MALFORMED, POLICY_FORGED, as for `TrustPolicy.parse`, POLICY_UNVERSIONED, POLICY_EXPIRED.
    """
    toml, signature = _parse_envelope(raw)  # 1
    try:
        signer.verify(signature, sig_structure(_PROTECTED, toml))  # 2
    except SignatureRejected:
        text = f"the policy is not signed by the pinned signer {signer.raw.hex()[:16]}…, or was altered since"
        raise PolicyError(text, code="POLICY_FORGED") from None
    policy, version = _parse(toml, now)  # 3, 4
    return VerifiedPolicy(policy, version, signer, toml, sha256(toml).digest())


def _parse_envelope(raw: bytes) -> tuple[bytes, bytes]:
    try:
        envelope = parse_sign1(raw, max_bytes=MAX_SIGNED_POLICY_BYTES)
    except CoseError as error:
        raise PolicyError(f"not a signed policy: {error}", code="POLICY_MALFORMED") from None
    ours = envelope.tagged and envelope.protected == _PROTECTED and not envelope.unprotected
    if not ours or envelope.payload is None:
        raise PolicyError("not a signed policy: another tag, header or no payload", code="POLICY_MALFORMED")
    return envelope.payload, envelope.signature


def _parse(toml: bytes, now: datetime) -> tuple[TrustPolicy, PolicyVersion]:
    if len(toml) > MAX_POLICY_BYTES:
        raise PolicyError(f"the policy is longer than {MAX_POLICY_BYTES} bytes", code="POLICY_SYNTAX")
    try:
        policy = TrustPolicy.parse(toml.decode())
    except UnicodeDecodeError:
        raise PolicyError("the policy is not UTF-8 text", code="POLICY_UNREADABLE") from None
    if not policy.name or policy.serial is None or policy.not_after is None:
        raise PolicyError(
            "a signed policy needs name, serial and not_after at its top: without them an older version of it, or "
            "another policy of the same signer, could be put in its place",
            code="POLICY_UNVERSIONED",
        )
    policy.refuse_expired(now)
    return policy, PolicyVersion(policy.name, policy.serial)
