"""Model manifests, each signed by a trusted publisher as it stands, wrong in one way."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import cbor2

from ephemeral.errors import ManifestError
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import key_id
from tests.refusals.case import Case, Family
from tests.refusals.keys import signer

KEY, SECOND, STRANGER = signer("publisher"), signer("second publisher"), signer("stranger")
PROTECTED = encode({1: -8, 3: "application/vnd.ephemeralml.manifest+cbor"})
CHUNK = 1 << 20
VALUES: dict[Any, Any] = {
    0: 1,
    1: {
        1: "all-MiniLM-L6-v2",
        2: 3,
        3: "sentence-transformers",
        4: [
            {1: "model.safetensors", 2: b"\1" * 32, 3: 5_000_000},
            {1: "1_Pooling/config.json", 2: b"\2" * 32, 3: 190},
            {1: "vocab.txt", 2: b"\3" * 32, 3: 0},
        ],
    },
    2: {1: "models/m.bin", 2: b"\4" * 32, 3: 34 + 5_000_190 + 5 * 16, 4: CHUNK, 5: b"\5" * 16},
    3: {1: "arn:aws:kms:eu-west-1:111122223333:key/mrk-0a1b2c", 2: b"wrapped", 3: b"\6" * 32},
    4: 1_768_478_400,
    5: key_id(KEY.verifying_key),
}
PAYLOAD = encode(VALUES)
CONTEXT = {"publishers": [KEY.verifying_key.raw, SECOND.verifying_key.raw]}
Row = tuple[str, str, str, bytes]


def signed(
    payload: bytes, *, key: SigningKey = KEY, protected: bytes = PROTECTED, unprotected: bytes = b"\xa0"
) -> bytes:
    """Sign a payload as it is."""
    signature = key.sign(cbor2.dumps(["Signature1", protected, b"", payload]))
    return _envelope(protected, payload, signature, unprotected)


def _envelope(protected: bytes, payload: bytes, signature: bytes, unprotected: bytes = b"\xa0") -> bytes:
    return b"\xd2\x84" + cbor2.dumps(protected) + unprotected + cbor2.dumps(payload) + cbor2.dumps(signature)


def at(*path: int, value: Any = None) -> bytes:
    """Return a manifest with the field at `path` replaced; without a value, removed."""
    values = deepcopy(VALUES)
    place: Any = values
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return signed(encode(values))


RAW = signed(PAYLOAD)
SIGNATURE = RAW[-64:]


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    yield Case("control", "E1", "a sound manifest", RAW, CONTEXT)
    theirs = encode({**VALUES, 5: key_id(SECOND.verifying_key)})
    yield Case("control-second", "E4", "a sound manifest of the second publisher", signed(theirs, key=SECOND), CONTEXT)
    for code, rows in (
        ("MANIFEST_MALFORMED", [*_form(), *_fields(), *_names()]),
        ("MANIFEST_UNKNOWN_PUBLISHER", [*_strangers()]),
        ("MANIFEST_FORGED", [*_forged()]),
    ):
        for name, threat, says, raw in rows:
            yield Case(name, threat, says, raw, CONTEXT, ManifestError, code)


def _form() -> Iterator[Row]:
    yield "empty", "E3", "no bytes at all", b""
    yield "byte-after", "E3", "a byte follows the manifest", RAW + b"\0"
    yield "untagged", "E3", "without tag 18", RAW[1:]
    yield "indefinite", "E3", "an array of indefinite length", b"\xd2\x9f" + RAW[2:] + b"\xff"
    yield "type-receipt", "E3", "the header says receipt", signed(PAYLOAD, protected=bytes.fromhex("a2012703183d"))
    yield (
        "alg-es256",
        "E3",
        "the header names ES256",
        signed(PAYLOAD, protected=PROTECTED.replace(b"\1\x27", b"\1\x26")),
    )
    yield "unprotected", "E3", "a key id in the unprotected header", signed(PAYLOAD, unprotected=b"\xa1\4\x41k")
    yield "payload-array", "E3", "the payload is an array", signed(b"\x80")
    yield "payload-byte-after", "E3", "a byte follows the payload's map", signed(PAYLOAD + b"\0")
    yield "payload-order", "E3", "the fields in another order", signed(cbor2.dumps(dict(reversed(VALUES.items()))))
    twice = b"\xa7" + PAYLOAD[1:] + encode(5) + encode(key_id(STRANGER.verifying_key))
    yield "publisher-twice", "E3", "the publisher's key id stands twice", signed(twice)
    yield (
        "label-true",
        "E3",
        "a label is true, which equals 1",
        signed(PAYLOAD.replace(b"\x01\xa4\x01", b"\xf5\xa4\x01", 1)),
    )


def _fields() -> Iterator[Row]:
    yield "schema-2", "E3", "another schema", at(0, value=2)
    yield "field-unknown", "E3", "a field that the schema does not have", at(6, value=0)
    yield "content-unknown", "E3", "a field more in the content part", at(1, 5, value=0)
    yield "file-unknown", "E3", "a field more in a file", at(1, 4, 0, 4, value=0)
    yield "container-missing", "E3", "the container is missing", at(2)
    yield "key-missing", "E3", "the key is missing", at(3)
    yield "publisher-missing", "E4", "the publisher's key id is missing", at(5)
    yield "created-zero", "E3", "created_at is zero", at(4, value=0)
    yield "created-milliseconds", "E3", "created_at is in milliseconds", at(4, value=1_768_478_400_000)
    yield "model-id-empty", "E3", "the model id is empty", at(1, 1, value="")
    yield "model-id-line", "E3", "the model id holds a line break", at(1, 1, value="m\n")
    yield "version-zero", "E2", "the version is zero", at(1, 2, value=0)
    yield "version-true", "E2", "the version is true", at(1, 2, value=True)
    yield "version-huge", "E2", "the version is 2^53", at(1, 2, value=2**53)
    yield "architecture-path", "E5", "the architecture is a path", at(1, 3, value="../bert")
    yield "no-files", "E12", "there are no files", at(1, 4, value=[])
    yield "file-size-negative", "E12", "a file has a negative size", at(1, 4, 2, 3, value=-1)
    yield "file-size-changed", "E12", "the files do not fill the container", at(1, 4, 0, 3, value=5_000_001)
    yield "file-digest-short", "E12", "a file's digest has 31 bytes", at(1, 4, 0, 2, value=b"\1" * 31)
    yield "object-absolute", "E1", "the object key starts with a slash", at(2, 1, value="/models/m")
    yield "container-digest-short", "E1", "the container's digest has 31 bytes", at(2, 2, value=b"\1" * 31)
    yield "container-size", "E1", "the container's size is one byte more", at(2, 3, value=VALUES[2][3] + 1)
    yield "chunk-huge", "D10", "a chunk holds 2^40 bytes", at(2, 4, value=2**40)
    yield "container-id-zero", "D11", "the container id is zeros", at(2, 5, value=bytes(16))
    alias = "arn:aws:kms:eu-west-1:111122223333:alias/models"
    yield "key-alias", "D8", "the KMS key is an alias, which can be moved", at(3, 1, value=alias)
    yield "wrapped-empty", "D4", "the wrapped data key is empty", at(3, 2, value=b"")
    yield "commitment-short", "D4", "the commitment to the data key has 16 bytes", at(3, 3, value=b"\6" * 16)


def _names() -> Iterator[Row]:
    for name, says, value in (
        ("parent", "leaves its folder", "../model"),
        ("absolute", "is absolute", "/etc/passwd"),
        ("hidden", "is hidden", ".bashrc"),
        ("deep", "lies two folders deep", "a/b/c"),
        ("backslash", "has a backslash", "a\\b"),
        ("zero", "holds a zero byte", "a\0b"),
        ("option", "starts like an option", "-rf"),
        ("long", "has 201 characters", "m" * 201),
        ("twice", "is another file's", "vocab.txt"),
        ("case", "is another file's but for case", "VOCAB.txt"),
        ("folder", "is another file's folder", "1_Pooling"),
    ):
        yield f"name-{name}", "E9", f"a file's name {says}", at(1, 4, 0, 1, value=value)


def _strangers() -> Iterator[Row]:
    theirs = encode({**VALUES, 5: key_id(STRANGER.verifying_key)})
    yield "publisher-unknown", "E4", "a sound manifest of a stranger", signed(theirs, key=STRANGER)
    raw_key = encode({**VALUES, 5: KEY.verifying_key.raw})
    yield "publisher-raw-key", "E4", "the publisher's key in the place of its id", signed(raw_key)


def _forged() -> Iterator[Row]:
    yield "signed-by-stranger", "E4", "names the publisher, signed by a stranger", signed(PAYLOAD, key=STRANGER)
    yield "signed-by-second", "E4", "names one publisher, signed by the other", signed(PAYLOAD, key=SECOND)
    yield "signature-bare", "E3", "a signature over the payload alone", _envelope(PROTECTED, PAYLOAD, KEY.sign(PAYLOAD))
    damaged = SIGNATURE[:-1] + bytes([SIGNATURE[-1] ^ 1])
    yield "signature-damaged", "E4", "one bit of the signature is changed", _envelope(PROTECTED, PAYLOAD, damaged)
    yield "signature-63", "E4", "the signature lacks its last byte", _envelope(PROTECTED, PAYLOAD, SIGNATURE[:-1])
    receipt = KEY.sign(cbor2.dumps(["Signature1", bytes.fromhex("a2012703183d"), b"", PAYLOAD]))
    yield "signed-as-receipt", "E3", "signed under a receipt's header", _envelope(PROTECTED, PAYLOAD, receipt)
    older = encode({**VALUES, 1: {**VALUES[1], 2: 4}})
    yield "version-changed", "E2", "the version was changed after signing", _envelope(PROTECTED, older, SIGNATURE)


FAMILY = Family(
    "manifests",
    "Model manifests (COSE_Sign1, Ed25519), each signed as it stands by a publisher its context trusts, unless the "
    "publisher or the signature is what is wrong. SPEC section 12.",
    cases,
)
