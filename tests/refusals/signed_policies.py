"""Signed trust policies, each signed as it stands by the signer that is pinned for it, wrong in one way."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import cbor2

from ephemeral.errors import PolicyError
from ephemeral.trusted.cbor import encode
from tests.refusals.case import Case, Family
from tests.refusals.keys import signer
from tests.refusals.policies import BUILD, PCR, ZERO
from tests.support.minting import AT

KEY, STRANGER = signer("policy signer"), signer("another policy signer")
PROTECTED = encode({1: -8, 3: "application/vnd.ephemeralml.policy+toml"})
NAME, SERIAL, UNTIL = 'name = "production"\n', "serial = 7\n", "not_after = 2026-02-01T00:00:00Z\n"
TOML = ("version = 1\n" + NAME + SERIAL + UNTIL + BUILD).encode()
Row = tuple[str, str, str, str, bytes]


def signed(toml: bytes = TOML, *, protected: bytes = PROTECTED, unprotected: bytes = b"\xa0") -> bytes:
    """Sign a text as it is."""
    return _envelope(toml, KEY.sign(_message(toml, protected)), protected, unprotected)


def _message(toml: bytes, protected: bytes = PROTECTED) -> bytes:
    return cbor2.dumps(["Signature1", protected, b"", toml])


def _envelope(toml: bytes, signature: bytes, protected: bytes = PROTECTED, unprotected: bytes = b"\xa0") -> bytes:
    return b"\xd2\x84" + cbor2.dumps(protected) + unprotected + cbor2.dumps(toml) + cbor2.dumps(signature)


RAW = signed()
CONTEXT: dict[str, Any] = {"signer": KEY.verifying_key.raw, "now": AT}


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    yield Case("control", "A19", "a sound signed policy", RAW, CONTEXT)
    for name, threat, says, code, raw in [*_form(), *_forged(), *_rules()]:
        yield Case(name, threat, says, raw, CONTEXT, PolicyError, code)
    late = {**CONTEXT, "now": AT + timedelta(days=30)}
    yield Case("expired", "A19", "a policy that has expired", RAW, late, PolicyError, "POLICY_EXPIRED")


def _form() -> Iterator[Row]:
    malformed = "POLICY_MALFORMED"
    yield "unsigned", "A19", "the text of the policy without a signature", malformed, TOML
    yield "untagged", "A3", "without tag 18", malformed, RAW[1:]
    yield "byte-after", "A2", "a byte follows the policy", malformed, RAW + b"\0"
    yield (
        "alg-es256",
        "A4",
        "the header names ES256",
        malformed,
        signed(protected=PROTECTED.replace(b"\1\x27", b"\1\x26")),
    )
    manifest = encode({1: -8, 3: "application/vnd.ephemeralml.manifest+cbor"})
    yield "type-manifest", "A26", "the header says manifest", malformed, signed(protected=manifest)
    yield "unprotected", "A5", "a key id in the unprotected header", malformed, signed(unprotected=b"\xa1\4\x41k")
    detached = b"\xd2\x84" + cbor2.dumps(PROTECTED) + b"\xa0\xf6" + cbor2.dumps(KEY.sign(_message(b"")))
    yield "detached", "A27", "the text is left out", malformed, detached


def _forged() -> Iterator[Row]:
    forged, signature = "POLICY_FORGED", RAW[-64:]
    yield "stranger", "A19", "signed by somebody else", forged, _envelope(TOML, STRANGER.sign(_message(TOML)))
    yield "bare", "A19", "a signature over the text alone", forged, _envelope(TOML, KEY.sign(TOML))
    yield "signature-63", "A7", "the signature lacks its last byte", forged, _envelope(TOML, signature[:-1])
    damaged = signature[:-1] + bytes([signature[-1] ^ 1])
    yield "signature-damaged", "A7", "one bit of the signature is changed", forged, _envelope(TOML, damaged)
    other = TOML.replace(PCR[0].encode(), b"e" * 96)
    yield "build-changed", "A19", "PCR0 was changed after signing", forged, _envelope(other, signature)
    later = TOML.replace(b"2026-02-01", b"2036-02-01")
    yield "expiry-changed", "A19", "the expiry was changed after signing", forged, _envelope(later, signature)


def _rules() -> Iterator[Row]:
    for name, line in (("name", NAME), ("serial", SERIAL), ("not_after", UNTIL)):
        rest = signed(TOML.replace(line.encode(), b""))
        yield f"no-{name}", "A19", f"a signed policy without {name}", "POLICY_UNVERSIONED", rest
    yield "serial-zero", "A19", "the serial is zero", "POLICY_SERIAL", signed(TOML.replace(b"= 7", b"= 0"))
    yield (
        "debug",
        "A18",
        "signed, and accepts debug enclaves",
        "POLICY_DEBUG",
        signed(TOML.replace(PCR[0].encode(), ZERO.encode())),
    )
    yield "no-build", "A19", "signed, and names no build", "POLICY_EMPTY", signed(TOML[: -len(BUILD)])
    unknown = b"allow_debug = true\n" + TOML
    yield "key-unknown", "A19", "signed, with a key the format does not have", "POLICY_UNKNOWN_KEY", signed(unknown)
    yield "not-utf8", "A27", "signed, and not UTF-8", "POLICY_UNREADABLE", signed(TOML + b"# \xff\n")


FAMILY = Family(
    "signed-policies",
    "Trust policies signed as they stand by the signer that is pinned for them, unless the signature is what is wrong; "
    "that an older serial is refused needs memory and is no case. SPEC section 6.",
    cases,
)
