"""Signed policies: only the pinned signer's exact bytes become a policy, and only while it holds."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from ephemeral.errors import PolicyError
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.cose import encode_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import verify_manifest
from ephemeral.trusted.policy import TrustPolicy, sign_policy, verify_policy

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = SigningKey.from_seed(b"signer".ljust(32))
TOML = f"""# reviewed by two people
version = 1
name = "production"
serial = 7
not_after = 2026-12-31T00:00:00Z
[[measurements]]
label = "a"
pcr0 = "{"a0" * 48}"
pcr1 = "{"a1" * 48}"
pcr2 = "{"a2" * 48}"
""".encode()
PROTECTED = encode({1: -8, 3: "application/vnd.ephemeralml.policy+toml"})


def refusal(raw: bytes, *, now: datetime = NOW, signer: SigningKey = KEY) -> str:
    with pytest.raises(PolicyError) as refused:
        verify_policy(raw, signer.verifying_key, now=now)
    assert refused.value.detail
    return refused.value.code


def sealed(toml: bytes = TOML, protected: bytes = PROTECTED, *, tagged: bool = True) -> bytes:
    """Sign whatever is given, as a careless signer would."""
    return encode_sign1(protected, toml, KEY.sign(sig_structure(protected, toml)), tagged=tagged)


def test_what_was_signed_is_what_is_loaded() -> None:
    raw = sign_policy(TOML, KEY, now=NOW)
    verified = verify_policy(raw, KEY.verifying_key, now=NOW)
    assert verified.policy == TrustPolicy.parse(TOML.decode())
    assert verified.version == ("production", 7)
    assert (verified.toml, verified.digest) == (TOML, sha256(TOML).digest())
    assert raw == sealed()


def test_another_signer_is_refused() -> None:
    assert refusal(sealed(), signer=SigningKey.from_seed(bytes(32))) == "POLICY_FORGED"


def test_every_flipped_bit_is_refused() -> None:
    raw = sealed()
    for place in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        assert refusal(bytes(flipped)) in {"POLICY_FORGED", "POLICY_MALFORMED"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        TOML,
        sealed(tagged=False),
        sealed() + b"\0",
        sealed()[:-1],
        sealed(protected=encode({1: -8})),
        sealed(protected=encode({1: -8, 3: "application/vnd.ephemeralml.manifest+cbor"})),
        sealed(protected=encode({1: -7, 3: "application/vnd.ephemeralml.policy+toml"})),
        b"\xd2\x84" + encode(PROTECTED) + b"\xa1\x01\x26" + sealed()[2 + len(encode(PROTECTED)) + 1 :],
        b"\xd2" + encode([PROTECTED, {}, None, bytes(64)]),
    ],
    ids=[
        "empty",
        "plain TOML",
        "untagged",
        "more",
        "less",
        "no type",
        "a manifest",
        "ES256",
        "unprotected",
        "detached",
    ],
)
def test_another_envelope_is_refused_though_it_is_signed(raw: bytes) -> None:
    assert refusal(raw) == "POLICY_MALFORMED"


def test_a_signed_policy_is_no_manifest() -> None:
    with pytest.raises(Exception, match="malformed manifest"):
        verify_manifest(sealed(), [KEY.verifying_key])


@pytest.mark.parametrize("missing", ['name = "production"', "serial = 7", "not_after = 2026-12-31T00:00:00Z"])
def test_a_policy_that_could_be_replaced_by_an_older_one_is_not_signed_nor_accepted(missing: str) -> None:
    toml = TOML.decode().replace(missing, "").encode()
    with pytest.raises(PolicyError) as refused:
        sign_policy(toml, KEY, now=NOW)
    assert refused.value.code == "POLICY_UNVERSIONED"
    assert refusal(sealed(toml)) == "POLICY_UNVERSIONED"


@pytest.mark.parametrize(
    ("toml", "code"),
    [
        (b"version = 1", "POLICY_EMPTY"),
        (TOML.replace(b"a0" * 48, b"00" * 48), "POLICY_DEBUG"),
        (b"allow_debug = true\n" + TOML, "POLICY_UNKNOWN_KEY"),
        (b"\xff" + TOML, "POLICY_UNREADABLE"),
        (TOML + b"#" * 262_144, "POLICY_SYNTAX"),
        (b"#" + "é".encode() * 140_000 + b"\n" + TOML, "POLICY_SYNTAX"),
    ],
)
def test_a_signature_does_not_make_a_policy_that_would_not_protect(toml: bytes, code: str) -> None:
    with pytest.raises(PolicyError) as refused:
        sign_policy(toml, KEY, now=NOW)
    assert refused.value.code == code
    assert refusal(sealed(toml)) in {code, "POLICY_MALFORMED"}  # too large is refused before it is parsed


def test_an_expired_policy_is_neither_signed_nor_accepted() -> None:
    expiry = datetime(2026, 12, 31, tzinfo=UTC)
    verify_policy(sealed(), KEY.verifying_key, now=expiry)
    late = expiry + timedelta(microseconds=1)
    assert refusal(sealed(), now=late) == "POLICY_EXPIRED"
    with pytest.raises(PolicyError):
        sign_policy(TOML, KEY, now=late)


def test_the_largest_policy_can_be_signed_and_verified() -> None:
    toml = TOML + b"#" * (262_144 - len(TOML))
    assert verify_policy(sign_policy(toml, KEY, now=NOW), KEY.verifying_key, now=NOW).toml == toml


def test_a_signed_policy_is_not_taken_for_a_plain_one(tmp_path: Path) -> None:
    (tmp_path / "policy").write_bytes(sealed())
    with pytest.raises(PolicyError) as refused:
        TrustPolicy.load(tmp_path / "policy")
    assert refused.value.code == "POLICY_SIGNED"
