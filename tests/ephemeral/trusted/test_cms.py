"""KMS's CiphertextForRecipient: genuine answers open once, everything else is one and the same refusal."""

import os
import pickle
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1, sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given
from hypothesis import strategies as st

from ephemeral.errors import ForgedRelease
from ephemeral.protocol import MAX_CMS_BYTES
from ephemeral.trusted.cms import RecipientKey
from ephemeral.trusted.cms.envelope import parse_envelope
from ephemeral.trusted.secrets import SecretBytes
from ephemeral_devstack.cms import seal_for_recipient
from tests.support.invariants import tally
from tests.support.vectors import vector_json, vector_path

RSA = rsa.generate_private_key(65537, 2048)
SPKI = RecipientKey(RSA).spki_der
DEK = b"\x5a" * 32
CONTENT_KEY, IV = b"\x11" * 32, b"\x22" * 16

# --- a writer that can be told to write each element differently


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    length = bytes([size]) if size < 0x80 else long_length(size)
    return bytes([tag]) + length + content


def long_length(size: int, octets: int = 0) -> bytes:
    octets = octets or (size.bit_length() + 7) // 8
    return bytes([0x80 | octets]) + size.to_bytes(octets, "big")


def open_ended(tag: int, *parts: bytes) -> bytes:
    return bytes([tag, 0x80]) + b"".join(parts) + b"\0\0"


def oid(encoded: str) -> bytes:
    return tlv(0x06, bytes.fromhex(encoded))


ENVELOPED, DATA, SIGNED = oid("2a864886f70d010703"), oid("2a864886f70d010701"), oid("2a864886f70d010702")
RSA_OAEP, RSA_PKCS1, MGF1 = oid("2a864886f70d010107"), oid("2a864886f70d010101"), oid("2a864886f70d010108")
HASH_SHA256, HASH_SHA1 = oid("608648016503040201"), oid("2b0e03021a")
AES256_CBC, AES128_CBC, AES256_GCM = oid("60864801650304012a"), oid("608648016503040102"), oid("60864801650304012e")
NULL, VERSION_0, VERSION_2 = b"\x05\0", b"\x02\1\0", b"\x02\1\2"
SHA256_ID, SHA1_ID = tlv(0x30, HASH_SHA256, NULL), tlv(0x30, HASH_SHA1, NULL)


def oaep(
    hash_id: bytes = SHA256_ID,
    mgf_hash: bytes = SHA256_ID,
    *more: bytes,
    mgf: bytes = MGF1,
    algorithm: bytes = RSA_OAEP,
) -> bytes:
    return tlv(0x30, algorithm, tlv(0x30, tlv(0xA0, hash_id), tlv(0xA1, tlv(0x30, mgf, mgf_hash)), *more))


def encrypted_key(key: bytes = CONTENT_KEY, *, weak: bool = False) -> bytes:
    algorithm = SHA1() if weak else SHA256()
    return RSA.public_key().encrypt(key, padding.OAEP(padding.MGF1(algorithm), algorithm, None))


def ciphertext(plaintext: bytes = DEK, *, key: bytes = CONTENT_KEY, pad: bool = True) -> bytes:
    padder = PKCS7(128).padder()
    padded = padder.update(plaintext) + padder.finalize() if pad else plaintext
    return Cipher(AES(key), CBC(IV)).encryptor().update(padded)


CONTENT = open_ended(0xA0, tlv(0x04, ciphertext()))
CIPHER = tlv(0x30, AES256_CBC, tlv(0x04, IV))


def recipient(
    *more: bytes,
    version: bytes = VERSION_2,
    identifier: bytes = tlv(0x80, sha256(SPKI).digest()),
    algorithm: bytes = oaep(),
    key: bytes | None = None,
) -> bytes:
    return tlv(0x30, version, identifier, algorithm, tlv(0x04, encrypted_key()) if key is None else key, *more)


def content(*more: bytes, kind: bytes = DATA, cipher: bytes = CIPHER, content: bytes = CONTENT) -> bytes:
    return open_ended(0x30, kind, cipher, content, *more)


def enveloped(
    *more: bytes, version: bytes = VERSION_2, recipients: bytes | None = None, content: bytes = content()
) -> bytes:
    return open_ended(0x30, version, tlv(0x31, recipient()) if recipients is None else recipients, content, *more)


def answer(*more: bytes, kind: bytes = ENVELOPED, body: bytes | None = None) -> bytes:
    return open_ended(0x30, kind, open_ended(0xA0, enveloped() if body is None else body), *more)


def with_recipient(*more: bytes, **parts: bytes) -> bytes:
    return answer(body=enveloped(recipients=tlv(0x31, recipient(*more, **parts))))


def with_content(*more: bytes, **parts: bytes) -> bytes:
    return answer(body=enveloped(content=content(*more, **parts)))


def opened(raw: bytes) -> bytes:
    return bytes(RecipientKey(RSA).open(raw).reveal())


def refusal(raw: bytes, key: RecipientKey | None = None) -> ForgedRelease:
    with pytest.raises(ForgedRelease) as caught:
        (key or RecipientKey(RSA)).open(raw)
    return caught.value


def assert_uniform(error: ForgedRelease) -> None:
    assert (str(error), error.code, error.args) == ("KMS's answer was refused", "FORGED_RELEASE", (error.detail,))
    assert error.__cause__ is None
    assert error.__context__ is None


# --- genuine answers


@pytest.mark.vectors
def test_a_genuine_answer_of_kms_opens_with_its_published_key() -> None:
    published = vector_json("kms/edgebit_public_test_key.json")
    expected = next(row for row in vector_json("kms/manifest.json") if row["file"] == "edgebit.ber")
    key = load_der_private_key(b64decode(published["pkcs1_der_b64"]), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    secret = RecipientKey(key).open(vector_path("kms/edgebit.ber").read_bytes())
    assert isinstance(secret, SecretBytes)
    assert bytes(secret.reveal()).hex() == expected["plaintext"]


@pytest.mark.vectors
@pytest.mark.parametrize("name", ["edgebit.ber", "aws_sdk_c_input_ber.ber", "aws_sdk_c_input_ber_w_ctx.ber"])
def test_every_genuine_answer_has_the_one_shape(name: str) -> None:
    expected = next(row for row in vector_json("kms/manifest.json") if row["file"] == name)
    envelope = parse_envelope(vector_path(f"kms/{name}").read_bytes())
    assert (envelope.iv.hex(), envelope.key_identifier.hex()) == (expected["iv"], expected["ski"])
    assert (len(envelope.content), len(envelope.encrypted_key)) == (expected["encrypted_content_len"], 256)


@pytest.mark.vectors
def test_a_genuine_answer_for_another_enclave_is_refused() -> None:
    assert_uniform(refusal(vector_path("kms/edgebit.ber").read_bytes()))


@pytest.mark.parametrize("size", [1, 15, 16, 32, 999, 1000, 4096])
def test_answers_in_the_layout_of_kms_open(size: int) -> None:
    plaintext = os.urandom(size)
    assert opened(seal_for_recipient(plaintext, SPKI)) == plaintext


ACCEPTED: dict[str, Callable[[], bytes]] = {
    "as KMS writes it": answer,
    "primitive content": lambda: with_content(content=tlv(0x80, ciphertext())),
    "content in many chunks": lambda: with_content(
        content=open_ended(0xA0, *(tlv(0x04, ciphertext()[at : at + 5]) for at in range(0, 48, 5)))
    ),
    "content of definite length": lambda: with_content(content=tlv(0xA0, tlv(0x04, ciphertext()))),
    "all of definite length": lambda: tlv(
        0x30,
        ENVELOPED,
        tlv(0xA0, tlv(0x30, VERSION_2, tlv(0x31, recipient()), tlv(0x30, DATA, CIPHER, tlv(0x80, ciphertext())))),
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_the_shapes_that_are_admitted(case: str) -> None:
    assert opened(ACCEPTED[case]()) == DEK


# --- forgeries: each would decrypt to the same data key if its fault were overlooked


def long_form(element: bytes, octets: int) -> bytes:
    """Write the length of an element in more octets than it needs."""
    assert element[1] < 0x80
    return element[:1] + long_length(element[1], octets) + element[2:]


def with_key(key: bytes, **options: bool) -> bytes:
    """Encrypt both halves consistently under another content key."""
    return answer(
        body=enveloped(
            recipients=tlv(0x31, recipient(key=tlv(0x04, encrypted_key(key, **options)))),
            content=content(content=tlv(0x80, ciphertext(key=key))),
        )
    )


def padded(last: bytes) -> bytes:
    return with_content(content=tlv(0x80, ciphertext(DEK[:16] + bytes(16 - len(last)) + last, pad=False)))


FORGERIES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "too large": lambda: with_content(content=tlv(0x80, ciphertext(bytes(MAX_CMS_BYTES)))),
    "bytes after it": lambda: answer() + b"\0",
    "an end of contents after it": lambda: answer() + b"\0\0",
    "two answers": lambda: answer() + answer(),
    "the plaintext itself": lambda: DEK,
    "bare OAEP": encrypted_key,
    "signed data": lambda: answer(kind=SIGNED),
    "outer set": lambda: b"\x31" + answer()[1:],
    "content tag 1": lambda: answer().replace(ENVELOPED + b"\xa0", ENVELOPED + b"\xa1"),
    "element after the body": lambda: answer(NULL),
    "no body": lambda: open_ended(0x30, ENVELOPED),
    "two bodies": lambda: open_ended(0x30, ENVELOPED, open_ended(0xA0, enveloped(), enveloped())),
    "envelope version 0": lambda: answer(body=enveloped(version=VERSION_0)),
    "envelope version long": lambda: answer(body=enveloped(version=b"\x02\2\0\2")),
    "originator info": lambda: answer(body=enveloped(version=VERSION_2 + tlv(0xA0))),
    "unprotected attributes": lambda: answer(body=enveloped(tlv(0xA1))),
    "no recipient": lambda: answer(body=enveloped(recipients=tlv(0x31))),
    "two recipients": lambda: answer(body=enveloped(recipients=tlv(0x31, recipient(), recipient()))),
    "a stranger's recipient first": lambda: answer(
        body=enveloped(recipients=tlv(0x31, recipient(identifier=tlv(0x80, bytes(32))), recipient()))
    ),
    "recipients that swallow the content": lambda: answer(
        body=enveloped(recipients=tlv(0x31, recipient(), content()), content=b"")
    ),
    "recipients a sequence": lambda: answer(body=enveloped(recipients=tlv(0x30, recipient()))),
    "recipients of indefinite length": lambda: answer(body=enveloped(recipients=open_ended(0x31, recipient()))),
    "recipient by key agreement": lambda: answer(body=enveloped(recipients=tlv(0x31, b"\xa1" + recipient()[1:]))),
    "recipient of indefinite length": lambda: answer(
        body=enveloped(recipients=tlv(0x31, open_ended(0x30, recipient()[4:])))
    ),
    "recipient version 0": lambda: with_recipient(version=VERSION_0),
    "element after the encrypted key": lambda: with_recipient(NULL),
    "identifier of another key": lambda: with_recipient(identifier=tlv(0x80, sha256(b"other").digest())),
    "identifier by SHA-1": lambda: with_recipient(identifier=tlv(0x80, sha1(SPKI, usedforsecurity=False).digest())),
    "identifier cut short": lambda: with_recipient(identifier=tlv(0x80, sha256(SPKI).digest()[:20])),
    "identifier empty": lambda: with_recipient(identifier=tlv(0x80)),
    "identifier constructed": lambda: with_recipient(identifier=tlv(0xA0, tlv(0x04, sha256(SPKI).digest()))),
    "identifier issuer and serial": lambda: with_recipient(identifier=tlv(0x30, tlv(0x30), VERSION_2)),
    "another algorithm with the parameters of OAEP": lambda: with_recipient(algorithm=oaep(algorithm=RSA_PKCS1)),
    "RSA PKCS #1 v1.5": lambda: with_recipient(
        algorithm=tlv(0x30, RSA_PKCS1, NULL), key=tlv(0x04, RSA.public_key().encrypt(CONTENT_KEY, padding.PKCS1v15()))
    ),
    "OAEP with SHA-1": lambda: with_recipient(
        algorithm=oaep(SHA1_ID, SHA1_ID), key=tlv(0x04, encrypted_key(weak=True))
    ),
    "OAEP with SHA-1 that says SHA-256": lambda: with_recipient(key=tlv(0x04, encrypted_key(weak=True))),
    "OAEP that says SHA-1": lambda: with_recipient(algorithm=oaep(SHA1_ID)),
    "MGF1 that says SHA-1": lambda: with_recipient(algorithm=oaep(SHA256_ID, SHA1_ID)),
    "another mask generation function": lambda: with_recipient(algorithm=oaep(mgf=RSA_OAEP)),
    "OAEP with a label": lambda: with_recipient(
        algorithm=oaep(SHA256_ID, SHA256_ID, tlv(0xA2, tlv(0x30, oid("2a864886f70d010109"), tlv(0x04, b"label"))))
    ),
    "OAEP with an empty label": lambda: with_recipient(
        algorithm=oaep(SHA256_ID, SHA256_ID, tlv(0xA2, tlv(0x30, oid("2a864886f70d010109"), tlv(0x04))))
    ),
    "OAEP parameters at their defaults": lambda: with_recipient(algorithm=tlv(0x30, RSA_OAEP, tlv(0x30))),
    "hash without its NULL": lambda: with_recipient(algorithm=oaep(tlv(0x30, HASH_SHA256))),
    "NULL with content": lambda: with_recipient(algorithm=oaep(tlv(0x30, HASH_SHA256, b"\x05\1\0"))),
    "encrypted key missing": lambda: with_recipient(key=b""),
    "encrypted key empty": lambda: with_recipient(key=tlv(0x04)),
    "encrypted key constructed": lambda: with_recipient(key=tlv(0x24, tlv(0x04, encrypted_key()))),
    "encrypted key a bit string": lambda: with_recipient(key=tlv(0x03, encrypted_key())),
    "encrypted key one byte longer": lambda: with_recipient(key=tlv(0x04, b"\0" + encrypted_key())),
    "encrypted key one byte shorter": lambda: with_recipient(key=tlv(0x04, encrypted_key()[:-1])),
    "encrypted key above the modulus": lambda: with_recipient(key=tlv(0x04, b"\xff" * 256)),
    "encrypted key zero": lambda: with_recipient(key=tlv(0x04, bytes(256))),
    "content key of AES-128": lambda: with_key(bytes(16)),
    "content key of AES-192": lambda: with_key(bytes(24)),
    "content key of 33 bytes": lambda: with_recipient(key=tlv(0x04, encrypted_key(bytes(33)))),
    "content type signed data": lambda: with_content(kind=SIGNED),
    "AES-128-CBC": lambda: with_content(cipher=tlv(0x30, AES128_CBC, tlv(0x04, IV))),
    "AES-256-GCM": lambda: with_content(cipher=tlv(0x30, AES256_GCM, tlv(0x30, tlv(0x04, IV[:12])))),
    "a structure marked primitive": lambda: with_content(cipher=b"\x10" + CIPHER[1:]),
    "IV missing": lambda: with_content(cipher=tlv(0x30, AES256_CBC)),
    "IV of 12 bytes": lambda: with_content(cipher=tlv(0x30, AES256_CBC, tlv(0x04, IV[:12]))),
    "IV of 32 bytes": lambda: with_content(cipher=tlv(0x30, AES256_CBC, tlv(0x04, IV * 2))),
    "IV and something": lambda: with_content(cipher=tlv(0x30, AES256_CBC, tlv(0x04, IV), NULL)),
    "content missing": lambda: with_content(content=b""),
    "content empty": lambda: with_content(content=tlv(0x80)),
    "content without a chunk": lambda: with_content(content=open_ended(0xA0)),
    "content with an empty chunk": lambda: with_content(content=open_ended(0xA0, tlv(0x04), tlv(0x04, ciphertext()))),
    "content in nested chunks": lambda: with_content(content=open_ended(0xA0, tlv(0x24, tlv(0x04, ciphertext())))),
    "content in bit strings": lambda: with_content(content=open_ended(0xA0, tlv(0x03, ciphertext()))),
    "content an octet string": lambda: with_content(content=tlv(0x04, ciphertext())),
    "content twice": lambda: with_content(CONTENT),
    "content of half a block": lambda: with_content(content=tlv(0x80, ciphertext()[:-8])),
    "content without its end": lambda: with_content(content=b"\xa0\x80" + tlv(0x04, ciphertext())),
    "primitive of indefinite length": lambda: with_content(content=open_ended(0x80, ciphertext())),
    "length longer than needed": lambda: with_content(cipher=tlv(0x30, AES256_CBC, long_form(tlv(0x04, IV), 1))),
    "length of two octets for one": lambda: with_content(content=long_form(tlv(0x80, ciphertext()), 2)),
    "length of four octets": lambda: with_content(content=long_form(tlv(0x80, ciphertext()), 4)),
    "length reserved": lambda: with_content(content=b"\x80\xff" + ciphertext()),
    "length beyond the end": lambda: with_content(content=tlv(0x80, ciphertext())[:1] + b"\x7f" + ciphertext()),
    "tag of several octets": lambda: with_content(content=b"\x9f\x20\x30" + ciphertext()),
    "no padding": lambda: padded(b"\0"),
    "padding of 17": lambda: padded(b"\x11" * 16),
    "padding uneven": lambda: padded(b"\1\2"),
    "padding of 255": lambda: padded(b"\xff"),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_every_forgery_gets_the_same_refusal(case: str) -> None:
    with tally("INV-7", 1):
        assert_uniform(refusal(FORGERIES[case]()))


def test_every_truncation_gets_the_same_refusal() -> None:
    whole = answer()
    with tally("INV-7") as tried:
        for size in range(len(whole)):
            tried.case()
            assert_uniform(refusal(whole[:size]))


@given(st.data())
def test_mutations_are_refused_or_change_nothing_but_the_unauthenticated_content(data: st.DataObject) -> None:
    raw = bytearray(answer())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        RecipientKey(RSA).open(bytes(raw))  # CBC has no integrity: the commitment in the manifest catches what opens
    except ForgedRelease as error:
        assert_uniform(error)


@given(st.binary(max_size=600))
def test_bytes_that_are_no_answer_get_the_same_refusal(raw: bytes) -> None:
    assert_uniform(refusal(raw))


def test_deep_nesting_gets_the_same_refusal() -> None:
    assert_uniform(refusal(b"\x30\x80" * (MAX_CMS_BYTES // 2)))


# --- one use


def test_a_key_opens_one_answer_and_no_second_not_even_the_same() -> None:
    key, raw = RecipientKey(RSA), seal_for_recipient(DEK, SPKI)
    key.open(raw)
    assert_uniform(refusal(raw, key))


@pytest.mark.parametrize("case", ["nothing", "identifier of another key", "padding uneven"])
def test_a_padding_oracle_has_one_question(case: str) -> None:
    key = RecipientKey(RSA)
    refusal(FORGERIES[case](), key)
    assert_uniform(refusal(seal_for_recipient(DEK, SPKI), key))


def test_of_many_threads_one_opens() -> None:
    key, raw = RecipientKey(RSA), seal_for_recipient(DEK, SPKI)

    def attempt(_: int) -> bool:
        try:
            key.open(raw)
        except ForgedRelease:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(32))) == 1


def test_generated_keys_are_fresh_and_fit_the_document() -> None:
    one, two = RecipientKey.generate(), RecipientKey.generate()
    assert one.spki_der != two.spki_der
    assert len(one.spki_der) == 294
    assert bytes(one.open(seal_for_recipient(DEK, one.spki_der)).reveal()) == DEK


def test_a_key_of_another_size_is_the_callers_bug() -> None:
    with pytest.raises(ValueError):
        RecipientKey(rsa.generate_private_key(65537, 1024))


def test_a_key_neither_prints_nor_pickles() -> None:
    key = RecipientKey(RSA)
    assert repr(key) == "RecipientKey(<redacted>)"
    with pytest.raises(TypeError):
        pickle.dumps(key)
