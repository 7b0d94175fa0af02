"""Attestation documents with a sound chain and a sound signature, wrong in one other way."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import cbor2

from ephemeral.errors import (
    AttestationError,
    BindingMismatch,
    ForgedDocument,
    MalformedDocument,
    MeasurementMismatch,
    StaleDocument,
)
from ephemeral.trusted.attestation import KmsBinding
from tests.refusals import builds
from tests.refusals.case import Case, Family
from tests.refusals.pki import PINNED, SOUND, STRANGE, context, mint, policy
from tests.support.minting import (
    AT,
    BINDING,
    ES384,
    IDENTITY_KEY,
    LEVELS,
    NONCE,
    PCR0,
    PCR1,
    PCR2,
    RECEIPT_KEY,
    Raw,
    changed,
    head,
    raw_map,
)

SECOND = timedelta(seconds=1)
ZERO = bytes(48)
PCRS = {0: PCR0, 1: PCR1, 2: PCR2}
PAYLOAD = raw_map(SOUND.pairs())
DOCUMENT = SOUND.seal(PAYLOAD)
SIGNATURE = DOCUMENT[-96:]
P384_ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
SESSION: dict[Any, Any] = cbor2.loads(BINDING.encode())
KMS = KmsBinding(b"\x0e" * 32).encode()
LOW_ORDER, NOT_CANONICAL = bytes(32), b"\xee" + b"\xff" * 30 + b"\x7f"
NOT_A_POINT = (2).to_bytes(32, "little")
MAIN = context()
Row = tuple[str, str, str, bytes]


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    yield from _controls()
    for code, rows in MALFORMED.items():
        yield from _refused(MalformedDocument, code, rows)
    yield from _refused(ForgedDocument, "FORGED_DOCUMENT", FORGED)
    yield from _times()
    yield from builds.cases()
    yield from _bindings()
    yield from _archived()


def _refused(
    error: type[AttestationError], code: str, rows: list[Row], context: dict[str, Any] = MAIN
) -> Iterator[Case]:
    for name, threat, says, raw in rows:
        yield Case(name, threat, says, raw, context, error, code)


def _controls() -> Iterator[Case]:
    other_s = (P384_ORDER - int.from_bytes(SIGNATURE[48:], "big")).to_bytes(48, "big")
    two = policy(SOUND, PINNED, {f"pcr{index}": bytes([0xB0 + index]) * 48 for index in range(3)})
    rows = [
        ("control", "A27", "a sound document", DOCUMENT, MAIN),
        ("control-tag-18", "A3", "a sound document under tag 18", b"\xd2" + DOCUMENT, MAIN),
        ("control-other-s", "A8", "a sound document with the other form of s", DOCUMENT[:-48] + other_s, MAIN),
        (
            "control-indefinite-map",
            "A9",
            "a sound document with an indefinite outer map",
            SOUND.seal(raw_map(SOUND.pairs(), indefinite=True)),
            MAIN,
        ),
        (
            "control-second-build",
            "A19",
            "a sound document of the second accepted build",
            SOUND.document(pcrs={index: bytes([0xB0 + index]) * 48 for index in range(3)}),
            context(two),
        ),
        (
            "control-no-nonce-asked",
            "A22",
            "a sound document without nonce, none asked for",
            SOUND.document(nonce=None),
            context(nonce=None),
        ),
        ("control-archived", "A16", "a sound document at its own time", DOCUMENT, ARCHIVED),
    ]
    for name, threat, says, raw, how in rows:
        yield Case(name, threat, says, raw, how)


def _protected(protected: bytes) -> bytes:
    return SOUND.seal(PAYLOAD, protected=protected)


def _unprotected(header: dict[Any, Any]) -> bytes:
    return SOUND.seal(PAYLOAD, unprotected=cbor2.dumps(header))


def _signed(signature: bytes) -> bytes:
    return SOUND.seal(PAYLOAD, signature=lambda _: signature)


def _payload(payload: bytes) -> bytes:
    return SOUND.seal(payload)


def _with(**claims: Any) -> bytes:
    return SOUND.document(**claims)


def _extra(name: object, value: object) -> bytes:
    return _payload(raw_map([*SOUND.pairs(), (cbor2.dumps(name), cbor2.dumps(value))]))


def _chunked(kind: int, value: bytes) -> Raw:
    chunks = [head(kind, len(part)) + part for part in (value[:16], value[16:])]
    return Raw(bytes([kind << 5 | 31]) + b"".join(chunks) + b"\xff")


def _pcrs(key: bytes, value: bytes = PCR0) -> bytes:
    """Return a document with one PCR more, whose index is written as `key`."""
    pairs = [(cbor2.dumps(index), cbor2.dumps(pcr)) for index, pcr in PCRS.items()]
    return _with(pcrs=Raw(raw_map([*pairs, (key, cbor2.dumps(value))])))


MALFORMED: dict[str, list[Row]] = {
    "MALFORMED_ENVELOPE": [
        ("empty", "A27", "no bytes at all", b""),
        ("byte-after", "A2", "one byte follows the document", DOCUMENT + b"\0"),
        ("document-after", "A2", "a second document follows the first", DOCUMENT * 2),
        ("cut-short", "A2", "the last byte of the document is missing", DOCUMENT[:-1]),
        ("tag-17", "A3", "tagged as a COSE_Mac0", b"\xd1" + DOCUMENT),
        ("tag-98", "A3", "tagged as a COSE_Sign of many signers", b"\xd8\x62" + DOCUMENT),
        ("tag-18-twice", "A3", "tag 18 stands twice", b"\xd2\xd2" + DOCUMENT),
        ("tag-18-long", "A3", "tag 18 in a longer spelling", b"\xd8\x12" + DOCUMENT),
        ("tag-on-payload", "A3", "the payload is tagged", b"\x84\x44" + ES384 + b"\xa0\xd8\x18" + DOCUMENT[7:]),
        ("five-elements", "A27", "an array of five elements", b"\x85" + DOCUMENT[1:] + b"\x40"),
        ("indefinite-array", "A9", "an array of indefinite length", b"\x9f" + DOCUMENT[1:] + b"\xff"),
        ("long-head", "A9", "a length not in its shortest form", DOCUMENT[:-98] + b"\x59\x00\x60" + SIGNATURE),
        (
            "chunked-payload",
            "A9",
            "the payload is a string in chunks",
            b"\x84\x44" + ES384 + b"\xa0" + _chunked(2, PAYLOAD).cbor + b"\x58\x60" + SIGNATURE,
        ),
        ("detached-payload", "A27", "the payload is null", b"\x84\x44" + ES384 + b"\xa0\xf6\x58\x60" + SIGNATURE),
        ("payload-empty", "A27", "the payload has no bytes, and is signed", SOUND.seal(b"")),
        (
            "payload-too-large",
            "A24",
            "the payload has over 16,384 bytes, and is signed",
            SOUND.seal(PAYLOAD + bytes(16_385 - len(PAYLOAD))),
        ),
    ],
    "WRONG_ALGORITHM": [
        ("alg-es256", "A4", "the protected header names ES256", _protected(cbor2.dumps({1: -7}))),
        ("alg-es512", "A4", "the protected header names ES512", _protected(cbor2.dumps({1: -36}))),
        ("alg-eddsa", "A4", "the protected header names EdDSA", _protected(cbor2.dumps({1: -8}))),
        ("alg-hmac", "A4", "the protected header names HMAC, a symmetric algorithm", _protected(cbor2.dumps({1: 5}))),
        ("alg-text", "A4", "the algorithm is the text ES384", _protected(cbor2.dumps({1: "ES384"}))),
        ("alg-none", "A4", "the protected header names no algorithm", _protected(b"\xa0")),
        ("alg-twice", "A4", "the protected header names ES384, then ES256", _protected(bytes.fromhex("a20138220126"))),
        ("alg-long", "A4", "ES384 in a longer spelling", _protected(bytes.fromhex("a101390022"))),
        ("header-empty", "A4", "the protected header is an empty string", _protected(b"")),
        ("header-key-id", "A6", "a key id in the protected header", _protected(cbor2.dumps({1: -35, 4: b"k"}))),
        ("header-critical", "A6", "a critical header nobody reads", _protected(cbor2.dumps({1: -35, 2: [1]}))),
        ("header-byte-after", "A2", "a byte follows the protected header", _protected(ES384 + b"\0")),
    ],
    "UNPROTECTED_HEADER": [
        ("unprotected-es256", "A5", "the unprotected header names ES256", _unprotected({1: -7})),
        ("unprotected-es384", "A5", "the unprotected header repeats ES384", _unprotected({1: -35})),
        ("unprotected-chain", "A5", "the unprotected header brings a certificate", _unprotected({33: b"certificate"})),
    ],
    "MALFORMED_SIGNATURE": [
        ("signature-empty", "A7", "the signature has no bytes", _signed(b"")),
        ("signature-95", "A7", "the signature lacks its last byte", _signed(SIGNATURE[:-1])),
        ("signature-97", "A7", "the signature has a byte more", _signed(SIGNATURE + b"\0")),
        (
            "signature-padded",
            "A7",
            "both halves of the signature are padded",
            _signed(b"\0" + SIGNATURE[:48] + b"\0" + SIGNATURE[48:]),
        ),
    ],
    "MALFORMED_PAYLOAD": [
        ("nonce-twice", "A1", "the field nonce stands twice", _extra("nonce", bytes(32))),
        ("pcrs-twice", "A1", "the field pcrs stands twice", _extra("pcrs", {0: ZERO, 1: ZERO, 2: ZERO})),
        ("pcr-twice", "A1", "PCR0 stands twice", _pcrs(b"\0")),
        ("pcr-two-spellings", "A10", "PCR1 stands twice, once in a longer spelling", _pcrs(b"\x18\x01")),
        ("pcr-true", "A10", "a PCR has the index true, which equals 1", _pcrs(b"\xf5")),
        ("pcr-float", "A10", "a PCR has the index 3.0", _pcrs(cbor2.dumps(3.0))),
        ("pcr-nan", "A10", "a PCR has the index NaN", _pcrs(bytes.fromhex("f97e00"))),
        ("pcr-text", "A20", "a PCR has a text as index", _pcrs(cbor2.dumps("3"))),
        ("pcr-32", "A20", "a PCR has the index 32", _with(pcrs={**PCRS, 32: PCR0})),
        ("pcr-negative", "A20", "a PCR has the index -1", _with(pcrs={**PCRS, -1: PCR0})),
        ("pcr-short", "A20", "PCR0 has 47 bytes", _with(pcrs={**PCRS, 0: PCR0[1:]})),
        ("pcr-long", "A20", "PCR0 has 49 bytes", _with(pcrs={**PCRS, 0: PCR0 + b"\0"})),
        ("pcr-sha256", "A20", "PCR3 has 32 bytes", _with(pcrs={**PCRS, 3: bytes(32)})),
        ("pcr-text-value", "A20", "PCR3 is a text", _with(pcrs={**PCRS, 3: "a" * 48})),
        ("nonce-chunked", "A9", "the nonce is a string in chunks", _with(nonce=_chunked(2, NONCE))),
        ("nonce-text", "A27", "the nonce is a text", _with(nonce="n" * 32)),
        ("nonce-undefined", "A27", "the nonce is undefined, not null", _with(nonce=Raw(b"\xf7"))),
        ("timestamp-float", "A10", "the time is a float", _with(timestamp=AT.timestamp() * 1000)),
        ("timestamp-true", "A10", "the time is true", _with(timestamp=True)),
        ("timestamp-zero", "A27", "the time is zero", _with(timestamp=0)),
        ("timestamp-negative", "A27", "the time is before 1970", _with(timestamp=-1)),
        ("timestamp-tagged", "A3", "the time is tagged", _with(timestamp=Raw(b"\xc1" + cbor2.dumps(1)))),
        ("timestamp-bignum", "A10", "the time is an integer of 65 bits", _with(timestamp=2**65)),
        ("payload-byte-after", "A2", "a byte follows the payload's map", _payload(PAYLOAD + b"\0")),
        ("payload-array", "A27", "the payload is an array", _payload(cbor2.dumps([1]))),
        ("payload-tagged", "A3", "the payload's map is tagged", _payload(b"\xd8\x18" + PAYLOAD)),
        ("unknown-field", "A27", "a field that AWS does not define", _extra("extra", None)),
        ("field-name-bytes", "A27", "a field's name is bytes", _extra(b"nonce", None)),
        ("no-digest", "A27", "the field digest is missing", _with(digest=...)),
        ("no-pcrs", "A27", "the field pcrs is missing", _with(pcrs=...)),
        ("no-cabundle", "A27", "the field cabundle is missing", _with(cabundle=...)),
        ("digest-sha256", "A14", "the digest is SHA256", _with(digest="SHA256")),
        ("module-empty", "A27", "module_id has no characters", _with(module_id="")),
        ("module-escape", "A27", "module_id holds a terminal's escape sequence", _with(module_id="\x1b[2J")),
        ("cabundle-empty", "A25", "cabundle holds no certificate", _with(cabundle=[])),
        ("cabundle-nine", "A25", "cabundle holds nine certificates", _with(cabundle=[b"c"] * 9)),
        ("certificate-empty", "A25", "the certificate has no bytes", _with(certificate=b"")),
        ("certificate-large", "A25", "the certificate has 1,025 bytes", _with(certificate=bytes(1025))),
        ("user-data-large", "A24", "user_data has 1,025 bytes", _with(user_data=bytes(1025))),
        (
            "nested",
            "A24",
            "arrays nested deeper than any document's",
            _with(pcrs=Raw(b"\xa1\0" + b"\x81" * 64 + b"\0")),
        ),
        ("crowded", "A24", "4,097 items in one map", _with(pcrs=Raw(head(5, 2100) + b"\0\x40" * 2100))),
        ("length-lies", "A24", "a string that claims 2^63 bytes", _with(nonce=Raw(b"\x5b\x7f" + b"\xff" * 7))),
    ],
}
FORGED: list[Row] = [
    ("signature-zero", "A7", "r and s are zero", _signed(bytes(96))),
    ("signature-order", "A7", "r and s are the order of the curve", _signed(P384_ORDER.to_bytes(48, "big") * 2)),
    ("signature-swapped", "A7", "r and s have changed places", _signed(SIGNATURE[48:] + SIGNATURE[:48])),
    (
        "signature-damaged",
        "A7",
        "one bit of the signature is changed",
        _signed(SIGNATURE[:-1] + bytes([SIGNATURE[-1] ^ 1])),
    ),
    ("signature-stranger", "A7", "signed by another PKI's leaf", _signed(STRANGE.sign(PAYLOAD))),
    ("signature-other", "A7", "the signature of another document of the same leaf", _signed(_with(nonce=None)[-96:])),
    (
        "signature-es256-header",
        "A5",
        "signed under another protected header",
        _signed(SOUND.sign(PAYLOAD, b"\xa1\1\x26")),
    ),
    (
        "payload-changed",
        "A7",
        "PCR0 was changed after signing",
        DOCUMENT.replace(PCR0, bytes([PCR0[0] ^ 1]) + PCR0[1:], 1),
    ),
]


def _times() -> Iterator[Case]:
    def made(age: timedelta) -> bytes:
        return _with(timestamp=int((AT - age).timestamp() * 1000))

    rows = [
        ("stale", "A16", "made 301 s ago", made(301 * SECOND)),
        ("stale-by-a-millisecond", "A16", "made 300.001 s ago", made(300.001 * SECOND)),
    ]
    yield from _refused(StaleDocument, "STALE_DOCUMENT", rows)
    later = context(now=AT + timedelta(hours=2))
    yield from _refused(
        StaleDocument, "STALE_DOCUMENT", [("replayed", "A16", "shown two hours later", DOCUMENT)], later
    )
    strict = context(policy(max_age_seconds=10))
    rows = [("stale-for-policy", "A16", "made 11 s ago, the policy allows 10", made(11 * SECOND))]
    yield from _refused(StaleDocument, "STALE_DOCUMENT", rows, strict)
    rows = [("future", "A17", "made 61 s in the future", made(-61 * SECOND))]
    yield from _refused(StaleDocument, "FUTURE_DOCUMENT", rows)
    for name, says, leaf, age in (
        (
            "before-leaf",
            "made a minute before its certificate became valid",
            {"starts": -2 * 60 * SECOND},
            180 * SECOND,
        ),
        ("after-leaf", "made after its certificate's end", {"ends": 10 * SECOND}, -20 * SECOND),
    ):
        pki = mint(changed(len(LEVELS) - 1, **leaf))
        raw = pki.document(timestamp=int((AT - age).timestamp() * 1000))
        row = (name, "A15", says, raw)
        yield from _refused(StaleDocument, "TIMESTAMP_OUTSIDE_LEAF", [row])


def _bindings() -> Iterator[Case]:
    for field in ("nonce", "user_data", "public_key"):
        rows = [
            (f"{field.replace('_', '-')}-null", "A22", f"{field} is null", _with(**{field: None})),
            (f"{field.replace('_', '-')}-left-out", "A22", f"{field} is left out", _with(**{field: ...})),
        ]
        yield from _refused(BindingMismatch, f"MISSING_{field.upper()}", rows)
    rows = [
        ("nonce-other", "A22", "the nonce of another client", _with(nonce=b"\xff" * 32)),
        ("nonce-prefix", "A23", "the first 31 bytes of the nonce", _with(nonce=NONCE[:31])),
        ("nonce-longer", "A23", "the nonce and a byte more", _with(nonce=NONCE + b"\0")),
        ("nonce-empty", "A23", "a nonce of no bytes", _with(nonce=b"")),
        ("nonce-zero", "A23", "a nonce of zeros", _with(nonce=bytes(32))),
    ]
    yield from _refused(BindingMismatch, "NONCE_MISMATCH", rows)
    rows = [
        ("purpose-kms", "A26", "made for KMS, shown to a client", _with(user_data=KMS)),
        (
            "purpose-next",
            "A26",
            "made for session/v2",
            _with(user_data=cbor2.dumps({**SESSION, 0: "ephemeralml/session/v2"})),
        ),
        ("purpose-none", "A26", "user_data names no purpose", _with(user_data=cbor2.dumps({0: None}))),
    ]
    yield from _refused(BindingMismatch, "WRONG_PURPOSE", rows)
    rows = [
        (
            "binding-short",
            "A22",
            "user_data lacks the build digest",
            _with(user_data=cbor2.dumps({k: SESSION[k] for k in range(4)})),
        ),
        ("binding-extra", "A22", "user_data has a field more", _with(user_data=cbor2.dumps({**SESSION, 5: bytes(32)}))),
        (
            "binding-digest-31",
            "A22",
            "a digest in user_data has 31 bytes",
            _with(user_data=cbor2.dumps({**SESSION, 4: bytes(31)})),
        ),
        (
            "binding-text",
            "A22",
            "a digest in user_data is a text",
            _with(user_data=cbor2.dumps({**SESSION, 4: "0" * 32})),
        ),
        (
            "binding-order",
            "A1",
            "user_data in another order",
            _with(user_data=cbor2.dumps(dict(reversed(SESSION.items())))),
        ),
        ("binding-byte-after", "A2", "a byte follows user_data", _with(user_data=BINDING.encode() + b"\0")),
        (
            "binding-true",
            "A10",
            "a label in user_data is true, which equals 1",
            _with(
                user_data=BINDING.encode().replace(
                    b"\x01\x58\x20" + IDENTITY_KEY.raw, b"\xf5\x58\x20" + IDENTITY_KEY.raw
                )
            ),
        ),
    ]
    yield from _refused(BindingMismatch, "MALFORMED_BINDING", rows)
    rows = []
    for name, says, key in (
        ("low-order", "has low order: anyone could sign for it", LOW_ORDER),
        ("not-canonical", "is not in its canonical encoding", NOT_CANONICAL),
        ("not-a-point", "is not a point of the curve", NOT_A_POINT),
    ):
        rows.append((f"receipt-key-{name}", "H1", f"the receipt key {says}", _with(public_key=key)))
        user_data = replace(BINDING).encode().replace(IDENTITY_KEY.raw, key)
        rows.append((f"identity-key-{name}", "B1", f"the identity key {says}", _with(user_data=user_data)))
    rows.append(("receipt-key-33", "H1", "the receipt key has 33 bytes", _with(public_key=RECEIPT_KEY.raw + b"\0")))
    yield from _refused(BindingMismatch, "KEY_REJECTED", rows)


ARCHIVED = context(verify="archived", nonce=None, now=AT + timedelta(days=3650))


def _archived() -> Iterator[Case]:
    rows = [("archived-other-build", "A19", "an archived document of another build", _with(pcrs={**PCRS, 0: PCR1}))]
    yield from _refused(MeasurementMismatch, "MEASUREMENT_MISMATCH", rows, ARCHIVED)
    rows = [("archived-signature", "A7", "an archived document with a damaged signature", _signed(bytes(96)))]
    yield from _refused(ForgedDocument, "FORGED_DOCUMENT", rows, ARCHIVED)


FAMILY = Family(
    "documents",
    "Attestation documents (COSE_Sign1, ES384) under a sound chain of the public test PKI, each signed as it stands, "
    "unless the signature is what is wrong. SPEC section 5.",
    cases,
)
