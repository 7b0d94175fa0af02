"""AIR v1 receipts, each signed by the key that it is verified with, wrong in one way."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha512
from typing import Any

import cbor2

from ephemeral.errors import ReceiptError
from ephemeral.trusted.cbor import encode
from tests.refusals.case import Case, Family
from tests.refusals.keys import raw_ed25519, signer, stream

KEY = signer("receipt key")
ISSUED = 1_768_478_400
NOW = datetime.fromtimestamp(ISSUED, UTC) + timedelta(seconds=60)
PROTECTED = bytes.fromhex("a2012703183d")
MEASUREMENTS: dict[str, Any] = {
    "pcr0": b"\xa0" * 48,
    "pcr1": b"\xa1" * 48,
    "pcr2": b"\xa2" * 48,
    "pcr8": b"\xa8" * 48,
    "measurement_type": "nitro-pcr",
}
CLAIMS: dict[Any, Any] = {
    1: "ephemeralml",
    6: ISSUED,
    7: bytes(range(1, 17)),
    10: bytes(range(32)),
    265: "https://spec.cyntrisec.com/air/v1",
    -65537: "all-MiniLM-L6-v2",
    -65538: "1",
    -65539: b"\xb1" * 32,
    -65540: b"\xb2" * 32,
    -65541: b"\xb3" * 32,
    -65542: b"\xb4" * 32,
    -65543: MEASUREMENTS,
    -65544: "enclave-config sha256:" + "0c" * 32,
    -65545: 42,
    -65546: 116,
    -65547: 512,
    -65548: "production",
    -65549: "sha256-manifest",
}
NAMES = {
    1: "iss",
    6: "iat",
    7: "cti",
    265: "eat_profile",
    -65537: "model_id",
    -65538: "model_version",
    -65539: "model_hash",
    -65540: "request_hash",
    -65541: "response_hash",
    -65542: "attestation_doc_hash",
    -65543: "enclave_measurements",
    -65544: "policy_version",
    -65545: "sequence_number",
    -65546: "execution_time_ms",
    -65547: "memory_peak_mb",
    -65548: "security_mode",
}
# What a client demands of a receipt (SPEC section 11.4).
EXPECTED: dict[str, Any] = {
    "model_id": CLAIMS[-65537],
    "model_hash": CLAIMS[-65539],
    "request_hash": CLAIMS[-65540],
    "response_hash": CLAIMS[-65541],
    "attestation_doc_hash": CLAIMS[-65542],
    "measurements": MEASUREMENTS,
    "nonce": CLAIMS[10],
    "sequence_number": CLAIMS[-65545],
    "security_mode": "production",
    "platform": "nitro-pcr",
    "max_age_seconds": 300,
    "seen_cti": [b"\xff" * 16],
    "accept_evaluation": False,
}
OTHER = b"\xee" * 32
Row = tuple[str, str, str, str, bytes]


def context(key: bytes = KEY.verifying_key.raw, now: datetime = NOW, **expected: Any) -> dict[str, Any]:
    """Return how a receipt is verified; `expected` replaces what the client demands, None leaves it out."""
    demands = {name: value for name, value in {**EXPECTED, **expected}.items() if value is not None}
    return {"key": key, "now": now, "expected": demands}


def sealed(payload: Any, *, protected: bytes = PROTECTED, unprotected: bytes = b"\xa0", head: bytes = b"\xd2") -> bytes:
    """Sign a payload: a map is encoded first, bytes are taken as they are."""
    body = payload if isinstance(payload, bytes) else encode(payload)
    signature = KEY.sign(cbor2.dumps(["Signature1", protected, b"", body]))
    return _envelope(cbor2.dumps(protected), unprotected, cbor2.dumps(body), signature, head)


def _envelope(protected: bytes, unprotected: bytes, payload: bytes, signature: bytes, head: bytes = b"\xd2") -> bytes:
    return head + b"\x84" + protected + unprotected + payload + cbor2.dumps(signature)


def changed(label: Any, value: Any) -> bytes:
    """Return a receipt with one claim changed or added."""
    return sealed({**CLAIMS, label: value})


def measured(**registers: Any) -> bytes:
    """Return a receipt with measurements changed, added, or left out (None)."""
    merged = {**MEASUREMENTS, **registers}
    return changed(-65543, {name: value for name, value in merged.items() if value is not None})


RAW = sealed(CLAIMS)
PAYLOAD = encode(CLAIMS)


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    yield Case("control", "H4", "a sound receipt that is all the client demands", RAW, context())
    says = "a sound evaluation receipt where evaluation is accepted"
    evaluation = changed(-65548, "evaluation")
    yield Case(
        "control-evaluation", "H4", says, evaluation, context(security_mode="evaluation", accept_evaluation=True)
    )
    optional = {label: value for label, value in CLAIMS.items() if label not in (10, -65549)}
    yield Case(
        "control-optional", "H4", "a sound receipt without optional claims", sealed(optional), context(nonce=None)
    )
    for name, threat, says, code, raw in [*_form(), *_signature(), *_values(), *_demanded()]:
        yield Case(name, threat, says, raw, context(), ReceiptError, code)
    says = "a receipt of another key"
    stranger = context(signer("another receipt key").verifying_key.raw)
    yield Case("key-other", "H1", says, RAW, stranger, ReceiptError, "SIG_FAILED")
    low, key = _low_order_nonce()
    says = "a signature whose nonce point has low order: its signer could deny it later"
    yield Case("signature-low-order", "H1", says, low, context(key), ReceiptError, "SIG_FAILED")
    seen = context(seen_cti=[CLAIMS[7]])
    yield Case("replayed", "H2", "a receipt that was accepted before", RAW, seen, ReceiptError, "REPLAY_CTI")


def _form() -> Iterator[Row]:
    decode, not_map = "COSE_DECODE_FAILED", "PAYLOAD_NOT_MAP"
    yield "too-large", "H11", "more than 65,536 bytes", "RECEIPT_TOO_LARGE", RAW + bytes(65_537 - len(RAW))
    yield "empty", "H11", "no bytes at all", decode, b""
    yield "untagged", "H11", "without tag 18", decode, sealed(CLAIMS, head=b"")
    yield "tag-98", "H11", "tagged as a COSE_Sign of many signers", decode, sealed(CLAIMS, head=b"\xd8\x62")
    yield "byte-after", "H11", "a byte follows the receipt", decode, RAW + b"\0"
    yield "cut-short", "H11", "the last byte is missing", decode, RAW[:-1]
    long = RAW.replace(b"\x46" + PROTECTED, b"\x58\x06" + PROTECTED, 1)
    yield "long-head", "H11", "a length not in its shortest form", decode, long
    yield (
        "header-order",
        "H11",
        "the header's labels in another order",
        decode,
        sealed(CLAIMS, protected=bytes.fromhex("a203183d0127")),
    )
    extra = encode({1: -8, 3: 61, 4: b"k"})
    yield "header-key-id", "H11", "a key id in the protected header", decode, sealed(CLAIMS, protected=extra)
    twice = bytes.fromhex("a30127012603183d")
    yield "alg-twice", "H11", "the header names two algorithms", decode, sealed(CLAIMS, protected=twice)
    es256, no_alg, json = encode({1: -7, 3: 61}), encode({3: 61}), encode({1: -8, 3: 50})
    yield "alg-es256", "H11", "the header names ES256", "BAD_ALG", sealed(CLAIMS, protected=es256)
    yield "alg-none", "H11", "the header names no algorithm", "BAD_ALG", sealed(CLAIMS, protected=no_alg)
    yield "type-json", "H11", "the header says JSON", "BAD_CONTENT_TYPE", sealed(CLAIMS, protected=json)
    kid = sealed(CLAIMS, unprotected=b"\xa1\4\x41k")
    yield "unprotected", "H11", "a key id in the unprotected header", "NON_EMPTY_UNPROTECTED", kid
    detached = _envelope(cbor2.dumps(PROTECTED), b"\xa0", b"\xf6", KEY.sign(b""))
    yield "detached", "H11", "the payload is null", "MISSING_PAYLOAD", detached
    yield "payload-array", "H11", "the payload is an array", not_map, sealed(b"\x80")
    yield "payload-empty", "H11", "the payload has no bytes", not_map, sealed(b"")
    yield "payload-byte-after", "H11", "a byte follows the claims", not_map, sealed(PAYLOAD + b"\0")
    reverse = cbor2.dumps(dict(reversed(CLAIMS.items())))
    yield "payload-order", "H11", "the claims in another order", not_map, sealed(reverse)
    yield "claim-twice", "H11", "the claim iss stands twice", not_map, sealed(b"\xb3" + PAYLOAD[1:14] + PAYLOAD[1:])
    yield "payload-indefinite", "H11", "a map of indefinite length", not_map, sealed(b"\xbf" + PAYLOAD[1:] + b"\xff")
    stretched = PAYLOAD.replace(encode(-65546) + b"\x18\x74", encode(-65546) + b"\x19\x00\x74")
    yield "long-integer", "H11", "an integer not in its shortest form", not_map, sealed(stretched)
    yield "profile-v2", "H11", "another version of the profile", "WRONG_PROFILE", changed(265, CLAIMS[265][:-1] + "2")
    yield "claim-unknown", "H11", "a claim that the profile does not have", "UNKNOWN_CLAIM:-65560", changed(-65560, 1)
    yield "claim-text", "H11", "a claim named by text", "UNKNOWN_CLAIM:iss", changed("iss", 1)
    yield "pcr5", "H11", "a register that the profile does not have", "UNKNOWN_CLAIM:pcr5", measured(pcr5=b"\1" * 48)
    yield "pcr0-missing", "H11", "PCR0 is missing", "MISSING_CLAIM:pcr0", measured(pcr0=None)
    yield "pcr0-text", "H11", "PCR0 is a text", "WRONG_TYPE:pcr0", measured(pcr0="1" * 48)
    mtype = "MISSING_CLAIM:measurement_type"
    yield (
        "measurement-type-missing",
        "H11",
        "the type of the measurements is missing",
        mtype,
        measured(measurement_type=None),
    )
    for label, name in NAMES.items():
        rest = {key: value for key, value in CLAIMS.items() if key != label}
        yield f"{name}-missing", "H11", f"the claim {name} is missing", f"MISSING_CLAIM:{name}", sealed(rest)
    for label, says, value in (
        (6, "is zero", 0),
        (6, "is true", True),
        (7, "is zero", bytes(16)),
        (10, "has 7 bytes", bytes(7)),
        (-65537, "is bytes", b"m"),
        (-65544, "is empty", ""),
        (-65545, "is negative", -1),
        (-65548, "is null", None),
    ):
        name = NAMES.get(label, "eat_nonce")
        yield (
            f"{name}-{says.split()[-1]}",
            "H11",
            f"the claim {name} {says}",
            f"WRONG_TYPE:{name}",
            changed(label, value),
        )


def _signature() -> Iterator[Row]:
    signature = RAW[-64:]
    parts = (cbor2.dumps(PROTECTED), b"\xa0", cbor2.dumps(PAYLOAD))
    short, padded = _envelope(*parts, signature[:-1]), _envelope(*parts, signature + b"\0")
    yield "signature-63", "H1", "the signature lacks its last byte", "BAD_SIG_LENGTH", short
    yield "signature-65", "H1", "the signature has a byte more", "BAD_SIG_LENGTH", padded
    damaged = signature[:-1] + bytes([signature[-1] ^ 1])
    yield "signature-damaged", "H1", "one bit of the signature is changed", "SIG_FAILED", _envelope(*parts, damaged)
    yield "signature-zero", "H1", "the signature is zeros", "SIG_FAILED", _envelope(*parts, bytes(64))
    bare = _envelope(*parts, KEY.sign(PAYLOAD))
    yield "signature-bare", "H1", "a signature over the payload alone", "SIG_FAILED", bare
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    other = signature[:32] + s.to_bytes(32, "little")
    yield (
        "signature-large-s",
        "H1",
        "a second form of the signature, with s above the order",
        "SIG_FAILED",
        _envelope(*parts, other),
    )
    altered = PAYLOAD.replace(b"\xb3" * 32, OTHER)
    says = "the response hash was changed after signing"
    yield "claims-changed", "H4", says, "SIG_FAILED", _envelope(parts[0], parts[1], cbor2.dumps(altered), signature)


def _low_order_nonce() -> tuple[bytes, bytes]:
    """Return a receipt and its key: plain RFC 8032 verification accepts it."""
    name = "receipt key that denies"
    public = raw_ed25519(name).public_key()
    secret = int.from_bytes(sha512(stream(name, 32)).digest()[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    identity = (1).to_bytes(32, "little")
    message = cbor2.dumps(["Signature1", PROTECTED, b"", PAYLOAD])
    challenge = int.from_bytes(sha512(identity + public.public_bytes_raw() + message).digest(), "little")
    order = 2**252 + 27742317777372353535851937790883648493
    signature = identity + (challenge * secret % order).to_bytes(32, "little")
    public.verify(signature, message)
    raw = _envelope(cbor2.dumps(PROTECTED), b"\xa0", cbor2.dumps(PAYLOAD), signature)
    return raw, public.public_bytes_raw()


def _values() -> Iterator[Row]:
    yield "cti-15", "H11", "the receipt's id has 15 bytes", "BAD_CTI_LENGTH", changed(7, b"\1" * 15)
    for label in (-65539, -65540, -65541, -65542):
        name = NAMES[label]
        yield f"{name}-31", "H11", f"{name} has 31 bytes", f"BAD_HASH_LENGTH:{name}", changed(label, b"\1" * 31)
    yield "model_hash-zero", "H4", "the model hash is zeros", "ZERO_MODEL_HASH", changed(-65539, bytes(32))
    yield "pcr1-32", "H11", "PCR1 has 32 bytes", "BAD_MEASUREMENT_LENGTH", measured(pcr1=b"\xa1" * 32)
    yield "pcr8-47", "H11", "PCR8 has 47 bytes", "BAD_MEASUREMENT_LENGTH", measured(pcr8=b"\xa8" * 47)
    yield (
        "platform-unknown",
        "H4",
        "measurements of an unknown type",
        "UNKNOWN_MTYPE:sgx",
        measured(measurement_type="sgx"),
    )
    yield "scheme-md5", "H4", "the model hash is MD5", "UNKNOWN_MODEL_HASH_SCHEME:md5", changed(-65549, "md5")
    yield "mode-unknown", "H4", "an unknown security mode", "UNKNOWN_SECURITY_MODE:trusted", changed(-65548, "trusted")


def _demanded() -> Iterator[Row]:
    yield "future", "H10", "issued 61 s in the future", "TIMESTAMP_FUTURE", changed(6, ISSUED + 121)
    yield "stale", "H2", "issued 301 s ago, the client demands 300", "TIMESTAMP_STALE", changed(6, ISSUED - 241)
    yield "model-name", "H4", "another model's name", "MODEL_ID_MISMATCH", changed(-65537, "other")
    yield "model-other", "H4", "another model", "MODEL_HASH_MISMATCH", changed(-65539, OTHER)
    yield "request-other", "H4", "the answer to another request", "REQUEST_HASH_MISMATCH", changed(-65540, OTHER)
    yield "response-other", "H4", "another answer", "RESPONSE_HASH_MISMATCH", changed(-65541, OTHER)
    yield "document-other", "H4", "another enclave's document", "ATTESTATION_DOC_HASH_MISMATCH", changed(-65542, OTHER)
    yield "pcr0-other", "H4", "PCR0 is another's", "MEASUREMENTS_MISMATCH", measured(pcr0=b"\xee" * 48)
    yield "pcr8-left-out", "H4", "PCR8 is left out", "MEASUREMENTS_MISMATCH", measured(pcr8=None)
    yield "sequence-other", "H2", "the receipt of the request before", "SEQUENCE_MISMATCH", changed(-65545, 41)
    yield (
        "evaluation",
        "H4",
        "an evaluation receipt, production is demanded",
        "SECURITY_MODE_MISMATCH",
        changed(-65548, "evaluation"),
    )
    yield "nonce-other", "H2", "another client's nonce", "NONCE_MISMATCH", changed(10, OTHER)
    rest = {label: value for label, value in CLAIMS.items() if label != 10}
    yield "nonce-missing", "H2", "no nonce, one is demanded", "NONCE_MISSING", sealed(rest)


FAMILY = Family(
    "receipts",
    "AIR v1 receipts (COSE_Sign1, Ed25519), each signed as it stands by the key in its context, unless the signature "
    "or the key is what is wrong. SPEC section 11.",
    cases,
)
