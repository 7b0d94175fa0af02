"""Signed manifests: only the publisher's exact words, within bounds, become a manifest."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ephemeral.errors import ManifestError
from ephemeral.protocol import LABEL_DEK_COMMITMENT, MAX_MANIFEST_BYTES
from ephemeral.trusted.artifact import container_size
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.cose import encode_sign1, parse_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import (
    ContainerInfo,
    KmsKeyInfo,
    ModelFile,
    ModelManifest,
    content_digest,
    dek_commitment,
    encryption_context,
    key_id,
    model_set_digest,
    sign_manifest,
    verify_manifest,
)
from ephemeral.trusted.secrets import SecretBytes

KEY = SigningKey.from_seed(b"\x07" * 32)
STRANGER = SigningKey.from_seed(b"\x08" * 32)
PUBLISHERS = [STRANGER.verifying_key, KEY.verifying_key]
CHUNK = 1 << 20
FILES = (
    ModelFile("model.safetensors", b"\1" * 32, 5_000_000),
    ModelFile("1_Pooling/config.json", b"\2" * 32, 190),
    ModelFile("vocab.txt", b"\3" * 32, 0),
)
MANIFEST = ModelManifest(
    model_id="sentence-transformers/all-MiniLM-L6-v2",
    version=3,
    architecture="bert-mean-pooling",
    files=FILES,
    container=ContainerInfo("models/m.bin", b"\4" * 32, container_size(5_000_190, CHUNK), CHUNK, b"\5" * 16),
    kms=KmsKeyInfo("arn:aws:kms:eu-west-1:111122223333:key/mrk-0a1b2c", b"wrapped", b"\6" * 32),
    created_at=1_760_000_000,
    publisher_key_id=key_id(KEY.verifying_key),
)
RAW = sign_manifest(MANIFEST, KEY)
PROTECTED = parse_sign1(RAW, max_bytes=MAX_MANIFEST_BYTES).protected
PAYLOAD = parse_sign1(RAW, max_bytes=MAX_MANIFEST_BYTES).payload or b""

Values = dict[Any, Any]


def signed(
    payload: Values | bytes, *, key: SigningKey = KEY, protected: bytes = PROTECTED, tagged: bool = True
) -> bytes:
    body = payload if isinstance(payload, bytes) else encode(payload)
    return encode_sign1(protected, body, key.sign(sig_structure(protected, body)), tagged=tagged)


def refused(raw: bytes) -> str:
    with pytest.raises(ManifestError) as caught:
        verify_manifest(raw, PUBLISHERS)
    return caught.value.code


def payload() -> Values:
    values = cbor2.loads(PAYLOAD)
    assert isinstance(values, dict)
    return values


def test_a_manifest_comes_back_as_signed() -> None:
    verified = verify_manifest(RAW, PUBLISHERS)
    assert (verified.manifest, verified.raw) == (MANIFEST, RAW)
    assert verified.digest == sha256(PAYLOAD).digest()
    assert verified.manifest.plaintext_size == 5_000_190


def test_the_publisher_key_id_is_the_digest_of_the_raw_public_key() -> None:
    assert payload()[5] == sha256(KEY.verifying_key.raw).digest()


# --- who signed


def test_a_strangers_manifest_is_refused_even_with_a_sound_signature() -> None:
    theirs = replace(MANIFEST, publisher_key_id=key_id(STRANGER.verifying_key))
    with pytest.raises(ManifestError) as caught:
        verify_manifest(sign_manifest(theirs, STRANGER), [KEY.verifying_key])
    assert caught.value.code == "MANIFEST_UNKNOWN_PUBLISHER"


def test_one_publisher_cannot_sign_for_another() -> None:
    assert refused(signed(PAYLOAD, key=STRANGER)) == "MANIFEST_FORGED"


def test_a_signature_over_the_bare_payload_is_no_cose_signature() -> None:
    assert refused(encode_sign1(PROTECTED, PAYLOAD, KEY.sign(PAYLOAD), tagged=True)) == "MANIFEST_FORGED"


def test_trusting_nobody_is_the_callers_bug_not_an_open_door() -> None:
    with pytest.raises(ValueError):
        verify_manifest(RAW, [])


def test_a_publisher_key_id_is_a_digest() -> None:
    with pytest.raises(ValueError):
        replace(MANIFEST, publisher_key_id=b"short")


def test_signing_for_another_publisher_is_refused() -> None:
    with pytest.raises(ValueError):
        sign_manifest(MANIFEST, STRANGER)


@given(st.integers(0, len(RAW) * 8 - 1))
def test_no_bit_of_a_manifest_can_be_changed(bit: int) -> None:
    raw = bytearray(RAW)
    raw[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(raw)).startswith("MANIFEST_")


@given(st.binary(max_size=300))
def test_bytes_that_are_no_manifest_raise_nothing_else(raw: bytes) -> None:
    assert refused(raw) == "MANIFEST_MALFORMED"


@pytest.mark.parametrize("size", range(0, len(RAW), 7))
def test_a_manifest_cut_short_is_malformed(size: int) -> None:
    assert refused(RAW[:size]) == "MANIFEST_MALFORMED"


# --- the form, all of it signed by a trusted publisher

FORMS: dict[str, bytes] = {
    "too large": RAW + bytes(MAX_MANIFEST_BYTES),
    "bytes after it": RAW + b"\0",
    "untagged": signed(PAYLOAD, tagged=False),
    "another content type": signed(PAYLOAD, protected=encode({1: -8, 3: 61})),
    "another algorithm": signed(PAYLOAD, protected=PROTECTED.replace(b"\1\x27", b"\1\x26")),
    "unprotected header": RAW.replace(PROTECTED + b"\xa0", PROTECTED + b"\xa1\4\x40", 1),
    "envelope in another encoding": RAW.replace(b"\xd2\x84", b"\xd2\x9f", 1) + b"\xff",
    "detached payload": b"\xd2" + cbor2.dumps([PROTECTED, {}, None, bytes(64)]),
    "payload an array": signed(b"\x80"),
    "payload with bytes after it": signed(PAYLOAD + b"\0"),
    "payload in another order": signed(cbor2.dumps(dict(reversed(payload().items())))),
    "key true for one": signed(encode({True if key == 1 else key: value for key, value in payload().items()})),
}


@pytest.mark.parametrize("case", FORMS)
def test_only_one_encoding_is_a_manifest(case: str) -> None:
    assert refused(FORMS[case]) == "MANIFEST_MALFORMED"


def at(*path: int, value: object = None) -> Callable[[Values], None]:
    """Replace the field at `path` of a payload; without a value, remove it."""

    def change(values: Values) -> None:
        place: Any = values
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return change


FIELDS: dict[str, Callable[[Values], None]] = {
    "another schema": at(0, value=2),
    "no schema": at(0),
    "unknown field": at(6, value=0),
    "unknown content field": at(1, 5, value=0),
    "unknown container field": at(2, 6, value=0),
    "unknown kms field": at(3, 4, value=0),
    "unknown file field": at(1, 4, 0, 4, value=0),
    "content missing": at(1),
    "container missing": at(2),
    "kms missing": at(3),
    "created_at missing": at(4),
    "created_at zero": at(4, value=0),
    "created_at in milliseconds": at(4, value=1_760_000_000_000),
    "created_at true": at(4, value=True),
    "publisher missing": at(5),
    "publisher a text": at(5, value="key"),
    "model id a byte string": at(1, 1, value=b"m"),
    "model id empty": at(1, 1, value=""),
    "model id long": at(1, 1, value="m" * 129),
    "model id with a line break": at(1, 1, value="m\n"),
    "model id not ASCII": at(1, 1, value="modèle"),
    "version zero": at(1, 2, value=0),
    "version negative": at(1, 2, value=-1),
    "version true": at(1, 2, value=True),
    "version huge": at(1, 2, value=2**53),
    "architecture a path": at(1, 3, value="../bert"),
    "no files": at(1, 4, value=[]),
    "file not a map": at(1, 4, 0, value=[]),
    "file size negative": at(1, 4, 2, 3, value=-1),
    "file size changed": at(1, 4, 0, 3, value=5_000_001),
    "file size beyond the total": at(1, 4, 0, 3, value=64 * 1024**3),
    "file digest short": at(1, 4, 0, 2, value=b"\1" * 31),
    "container key absolute": at(2, 1, value="/models/m"),
    "container key long": at(2, 1, value="k" * 1025),
    "container digest short": at(2, 2, value=b"\1" * 31),
    "container size changed": at(2, 3, value=MANIFEST.container.size + 1),
    "container size zero": at(2, 3, value=0),
    "chunk size zero": at(2, 4, value=0),
    "chunk size huge": at(2, 4, value=2**40),
    "container id short": at(2, 5, value=b"\1" * 15),
    "container id zero": at(2, 5, value=bytes(16)),
    "a key alias": at(3, 1, value="arn:aws:kms:eu-west-1:111122223333:alias/models"),
    "not a key ARN": at(3, 1, value="1234"),
    "wrapped key empty": at(3, 2, value=b""),
    "wrapped key long": at(3, 2, value=bytes(6145)),
    "commitment short": at(3, 3, value=b"\1" * 16),
}


@pytest.mark.parametrize("case", FIELDS)
def test_every_field_is_bounded_even_for_a_trusted_publisher(case: str) -> None:
    values = payload()
    FIELDS[case](values)
    assert refused(signed(values)) == "MANIFEST_MALFORMED"


NAMES = [
    "",
    "/etc/passwd",
    "..",
    ".",
    ".hidden",
    "../model",
    "a/..",
    "a/../b",
    "a//b",
    "a/",
    "a/b/c",
    "a\\b",
    "C:model",
    "a\0b",
    "a\nb",
    "a b",
    "-rf",
    "é",
    "a/.b",
    "m" * 201,
]


@pytest.mark.parametrize("name", NAMES)
def test_file_names_cannot_leave_their_folder_or_hide(name: str) -> None:
    values = payload()
    values[1][4][0][1] = name
    assert refused(signed(values)) == "MANIFEST_MALFORMED"


@pytest.mark.parametrize("name", ["vocab.txt", "VOCAB.TXT", "1_pooling/CONFIG.json", "1_Pooling"])
def test_no_two_files_can_land_on_one_name(name: str) -> None:
    values = payload()
    values[1][4][0][1] = name
    assert refused(signed(values)) == "MANIFEST_MALFORMED"


def test_a_negative_size_cannot_be_made_up_for_by_another_file() -> None:
    values = payload()
    values[1][4][0][3] += 1
    values[1][4][2][3] -= 1
    assert refused(signed(values)) == "MANIFEST_MALFORMED"


def test_the_number_of_files_is_bounded() -> None:
    values = payload()
    values[1][4] = [{1: f"f{index}", 2: bytes(32), 3: 1} for index in range(257)]
    values[2][3] = container_size(257, CHUNK)
    assert refused(signed(values)) == "MANIFEST_MALFORMED"


def test_total_size_is_bounded() -> None:
    values = payload()
    values[1][4] = [{1: f"f{index}", 2: bytes(32), 3: 2**35} for index in range(3)]
    assert refused(signed(values)) == "MANIFEST_MALFORMED"


def test_the_largest_manifest_the_schema_admits_can_be_read_back() -> None:
    files = tuple(ModelFile(f"{index:03}" + "n" * 197, bytes(32), 1) for index in range(256))
    container = replace(MANIFEST.container, size=container_size(256, CHUNK))
    manifest = replace(MANIFEST, files=files, container=container)
    assert verify_manifest(sign_manifest(manifest, KEY), PUBLISHERS).manifest == manifest
    assert len(sign_manifest(manifest, KEY)) < MAX_MANIFEST_BYTES


# --- digests


def test_content_digest_covers_the_content_and_nothing_that_comes_later() -> None:
    later = replace(MANIFEST, kms=replace(MANIFEST.kms, wrapped_data_key=b"other"), created_at=1)
    assert later.content_digest == MANIFEST.content_digest == sha256(encode(payload()[1])).digest()
    others = [
        replace(MANIFEST, model_id="other"),
        replace(MANIFEST, version=4),
        replace(MANIFEST, architecture="other"),
        replace(MANIFEST, files=FILES[::-1]),
        replace(MANIFEST, files=(replace(FILES[0], sha256=b"\7" * 32), *FILES[1:])),
    ]
    assert len({MANIFEST.content_digest, *(other.content_digest for other in others)}) == 6


def test_encryption_context_is_known_before_there_is_a_data_key() -> None:
    digest = content_digest(MANIFEST.model_id, MANIFEST.version, MANIFEST.architecture, FILES)
    context = encryption_context(MANIFEST.model_id, MANIFEST.version, digest)
    assert context == MANIFEST.encryption_context
    assert context == {"model_id": MANIFEST.model_id, "version": "3", "content_sha256": digest.hex()}


def test_content_that_no_manifest_may_have_has_no_digest() -> None:
    with pytest.raises(ValueError):
        content_digest("m", 0, "bert", FILES)


def test_commitment_to_the_data_key_is_labelled() -> None:
    dek = b"\x11" * 32
    assert dek_commitment(SecretBytes(dek)) == sha256(LABEL_DEK_COMMITMENT + dek).digest()


def test_model_set_digest_does_not_depend_on_order_and_covers_every_part() -> None:
    one, two = ("a", 1, b"\1" * 32), ("b", 1, b"\2" * 32)
    assert model_set_digest([one, two]) == model_set_digest([two, one])
    sets = [[one], [one, two], [("a", 2, b"\1" * 32)], [("a", 1, b"\2" * 32)], [("c", 1, b"\1" * 32)], []]
    assert len({model_set_digest(served) for served in sets}) == len(sets)
