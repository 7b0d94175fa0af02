"""KMS's answers (CMS EnvelopedData), each sealed so that it would open if its fault were overlooked."""

from collections.abc import Iterator
from hashlib import sha1, sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ephemeral.errors import ForgedRelease
from tests.refusals.case import Case, Family
from tests.refusals.keys import rsa_key, stream

RSA = rsa_key("recipient of the data key")
PUBLIC: RSAPublicNumbers = RSA.public_key().public_numbers()
SPKI = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
STRANGER: RSAPublicNumbers = rsa_key("another recipient").public_key().public_numbers()
DATA_KEY, CONTENT_KEY, IV = stream("data key", 32), stream("content key", 32), stream("content iv", 16)
SIZE = 256  # of an RSA-2048 modulus


def tlv(tag: int, *parts: bytes) -> bytes:
    """Write one element of definite length."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def open_ended(tag: int, *parts: bytes) -> bytes:
    """Write one element of indefinite length."""
    return bytes([tag, 0x80]) + b"".join(parts) + b"\0\0"


def oid(encoded: str) -> bytes:
    """Write an object identifier."""
    return tlv(0x06, bytes.fromhex(encoded))


ENVELOPED, DATA, SIGNED = oid("2a864886f70d010703"), oid("2a864886f70d010701"), oid("2a864886f70d010702")
RSA_OAEP, RSA_PKCS1, MGF1 = oid("2a864886f70d010107"), oid("2a864886f70d010101"), oid("2a864886f70d010108")
HASH_SHA256, HASH_SHA1 = oid("608648016503040201"), oid("2b0e03021a")
AES256_CBC, AES128_CBC, AES256_GCM = oid("60864801650304012a"), oid("608648016503040102"), oid("60864801650304012e")
NULL, VERSION_0, VERSION_2 = b"\x05\0", b"\x02\1\0", b"\x02\1\2"
SHA256_ID, SHA1_ID = tlv(0x30, HASH_SHA256, NULL), tlv(0x30, HASH_SHA1, NULL)
P_SOURCE = oid("2a864886f70d010109")


def oaep(hash_id: bytes = SHA256_ID, mgf_hash: bytes = SHA256_ID, *more: bytes, mgf: bytes = MGF1) -> bytes:
    """Write the algorithm of the encrypted key."""
    return tlv(0x30, RSA_OAEP, tlv(0x30, tlv(0xA0, hash_id), tlv(0xA1, tlv(0x30, mgf, mgf_hash)), *more))


def oaep_encrypt(message: bytes, to: RSAPublicNumbers = PUBLIC, *, digest: Any = sha256, label: bytes = b"") -> bytes:
    """Encrypt with a fixed seed (RFC 8017 section 7.1.1): libraries rightly draw theirs at random."""
    hash_size = digest().digest_size
    seed = stream("OAEP seed", hash_size)
    block = digest(label).digest() + bytes(SIZE - len(message) - 2 * hash_size - 2) + b"\1" + message
    masked_block = _xor(block, _mgf1(seed, len(block), digest))
    masked_seed = _xor(seed, _mgf1(masked_block, hash_size, digest))
    return _power(b"\0" + masked_seed + masked_block, to)


def _mgf1(seed: bytes, size: int, digest: Any) -> bytes:
    blocks = [digest(seed + counter.to_bytes(4, "big")).digest() for counter in range(-(-size // digest().digest_size))]
    return b"".join(blocks)[:size]


def _xor(one: bytes, two: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, two, strict=True))


def _power(encoded: bytes, to: RSAPublicNumbers) -> bytes:
    return pow(int.from_bytes(encoded, "big"), to.e, to.n).to_bytes(SIZE, "big")


def _pkcs1(message: bytes) -> bytes:
    """Encrypt as RFC 8017 section 7.2.1 does, with fixed filling."""
    filling = bytes(byte or 1 for byte in stream("PKCS #1 filling", SIZE - 3 - len(message)))
    return _power(b"\0\2" + filling + b"\0" + message, PUBLIC)


def ciphertext(plaintext: bytes = DATA_KEY, *, key: bytes = CONTENT_KEY, pad: bool = True) -> bytes:
    """Encrypt the content."""
    padder = PKCS7(128).padder()
    padded = padder.update(plaintext) + padder.finalize() if pad else plaintext
    return Cipher(AES(key), CBC(IV)).encryptor().update(padded)


ENCRYPTED_KEY = oaep_encrypt(CONTENT_KEY)
CONTENT = open_ended(0xA0, tlv(0x04, ciphertext()))
CIPHER = tlv(0x30, AES256_CBC, tlv(0x04, IV))
IDENTIFIER = tlv(0x80, sha256(SPKI).digest())


def recipient(
    *more: bytes,
    version: bytes = VERSION_2,
    identifier: bytes = IDENTIFIER,
    algorithm: bytes = oaep(),
    key: bytes | None = None,
) -> bytes:
    """Write a KeyTransRecipientInfo."""
    return tlv(0x30, version, identifier, algorithm, tlv(0x04, ENCRYPTED_KEY) if key is None else key, *more)


def content(*more: bytes, kind: bytes = DATA, cipher: bytes = CIPHER, content: bytes = CONTENT) -> bytes:
    """Write an EncryptedContentInfo."""
    return open_ended(0x30, kind, cipher, content, *more)


def enveloped(
    *more: bytes, version: bytes = VERSION_2, recipients: bytes | None = None, content: bytes = content()
) -> bytes:
    """Write an EnvelopedData."""
    return open_ended(0x30, version, tlv(0x31, recipient()) if recipients is None else recipients, content, *more)


def answer(*more: bytes, kind: bytes = ENVELOPED, body: bytes | None = None) -> bytes:
    """Write a ContentInfo."""
    return open_ended(0x30, kind, open_ended(0xA0, enveloped() if body is None else body), *more)


def with_recipient(*more: bytes, **parts: bytes) -> bytes:
    """Write an answer whose recipient differs."""
    return answer(body=enveloped(recipients=tlv(0x31, recipient(*more, **parts))))


def with_content(*more: bytes, **parts: bytes) -> bytes:
    """Write an answer whose content differs."""
    return answer(body=enveloped(content=content(*more, **parts)))


def with_key(key: bytes) -> bytes:
    """Write an answer under another content key, the same in both places."""
    recipients = tlv(0x31, recipient(key=tlv(0x04, oaep_encrypt(key))))
    return answer(body=enveloped(recipients=recipients, content=content(content=tlv(0x80, ciphertext(key=key)))))


def padded(last: bytes) -> bytes:
    """Write an answer whose last block ends so."""
    return with_content(content=tlv(0x80, ciphertext(DATA_KEY[:16] + bytes(16 - len(last)) + last, pad=False)))


SOUND = answer()
PRIME_P, PRIME_Q = RSA.private_numbers().p, RSA.private_numbers().q


def context(*before: bytes) -> dict[str, Any]:
    """Return the recipient: an RSA key made for one answer, and the answers that it was asked to open before."""
    key = {"p": f"{PRIME_P:x}", "q": f"{PRIME_Q:x}", "e": PUBLIC.e}
    return {"public_test_recipient": key, "before": list(before)}


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    definite = tlv(0x30, VERSION_2, tlv(0x31, recipient()), tlv(0x30, DATA, CIPHER, tlv(0x80, ciphertext())))
    for name, says, raw in (
        ("control", "a sound answer as KMS writes it", SOUND),
        (
            "control-primitive",
            "a sound answer with the content in one piece",
            with_content(content=tlv(0x80, ciphertext())),
        ),
        ("control-definite", "a sound answer of definite lengths", tlv(0x30, ENVELOPED, tlv(0xA0, definite))),
    ):
        yield Case(name, "D6", says, raw, context())
    for threat, rows in (("D6", [*_envelope(), *_encrypted_key(), *_content()]), ("D5", [*_padding()])):
        for name, says, raw in rows:
            yield Case(name, threat, says, raw, context(), ForgedRelease, "FORGED_RELEASE")
    says = "a second answer for a key that is made for one"
    yield Case("key-used", "D5", says, SOUND, context(SOUND), ForgedRelease, "FORGED_RELEASE")
    says = "a sound answer after one with bad padding: an oracle's second question"
    yield Case("oracle", "D5", says, SOUND, context(padded(b"\1\2")), ForgedRelease, "FORGED_RELEASE")


def _envelope() -> Iterator[tuple[str, str, bytes]]:
    yield "empty", "no bytes at all", b""
    yield "plaintext", "the data key itself", DATA_KEY
    yield "bare", "the encrypted key without an envelope", ENCRYPTED_KEY
    yield "cut-short", "the last byte is missing", SOUND[:-1]
    yield "byte-after", "a byte follows the answer", SOUND + b"\0"
    yield "too-large", "more than 8,192 bytes", with_content(content=tlv(0x80, ciphertext(bytes(8192))))
    yield "signed-data", "says SignedData", answer(kind=SIGNED)
    yield "element-after", "an element after the body", answer(NULL)
    yield "version-0", "EnvelopedData of version 0", answer(body=enveloped(version=VERSION_0))
    yield "attributes", "unprotected attributes", answer(body=enveloped(tlv(0xA1)))
    yield "originator", "an originator's certificates", answer(body=enveloped(version=VERSION_2 + tlv(0xA0)))
    yield "no-recipient", "no recipient", answer(body=enveloped(recipients=tlv(0x31)))
    yield (
        "two-recipients",
        "the same recipient twice",
        answer(body=enveloped(recipients=tlv(0x31, recipient(), recipient()))),
    )
    other = recipient(identifier=tlv(0x80, bytes(32)))
    yield (
        "stranger-first",
        "a stranger before the recipient",
        answer(body=enveloped(recipients=tlv(0x31, other, recipient()))),
    )
    agreement = b"\xa1" + recipient()[1:]
    yield "key-agreement", "the recipient by key agreement", answer(body=enveloped(recipients=tlv(0x31, agreement)))
    sequence = answer(body=enveloped(recipients=tlv(0x30, recipient())))
    yield "recipients-sequence", "the recipients in a SEQUENCE", sequence
    unended = answer(body=enveloped(recipients=open_ended(0x31, recipient())))
    yield "recipients-indefinite", "the recipients of indefinite length", unended


def _encrypted_key() -> Iterator[tuple[str, str, bytes]]:
    yield "recipient-version", "a recipient of version 0", with_recipient(version=VERSION_0)
    yield "recipient-extra", "an element after the encrypted key", with_recipient(NULL)
    yield "identifier-other", "names another key", with_recipient(identifier=tlv(0x80, sha256(b"other").digest()))
    sha1_id = tlv(0x80, sha1(SPKI, usedforsecurity=False).digest())
    yield "identifier-sha1", "names the key by SHA-1", with_recipient(identifier=sha1_id)
    yield (
        "identifier-prefix",
        "names the key by 20 bytes of its SHA-256",
        with_recipient(identifier=IDENTIFIER[:1] + b"\x14" + IDENTIFIER[2:22]),
    )
    yield "identifier-empty", "names the key by nothing", with_recipient(identifier=tlv(0x80))
    issuer = tlv(0x30, tlv(0x30), VERSION_2)
    yield "identifier-issuer", "names the key by issuer and serial number", with_recipient(identifier=issuer)
    old = tlv(0x30, RSA_PKCS1, NULL)
    yield "pkcs1", "the key by RSA PKCS #1 v1.5", with_recipient(algorithm=old, key=tlv(0x04, _pkcs1(CONTENT_KEY)))
    weak = tlv(0x04, oaep_encrypt(CONTENT_KEY, digest=sha1))
    yield "oaep-sha1", "the key by OAEP with SHA-1", with_recipient(algorithm=oaep(SHA1_ID, SHA1_ID), key=weak)
    yield "oaep-sha1-hidden", "the key by OAEP with SHA-1 that says SHA-256", with_recipient(key=weak)
    yield "oaep-says-sha1", "says SHA-1, is SHA-256", with_recipient(algorithm=oaep(SHA1_ID, SHA1_ID))
    yield "mgf-says-sha1", "says MGF1 with SHA-1, is SHA-256", with_recipient(algorithm=oaep(SHA256_ID, SHA1_ID))
    source = tlv(0xA2, tlv(0x30, P_SOURCE, tlv(0x04, b"label")))
    labelled = tlv(0x04, oaep_encrypt(CONTENT_KEY, label=b"label"))
    yield "oaep-label", "OAEP with a label", with_recipient(algorithm=oaep(SHA256_ID, SHA256_ID, source), key=labelled)
    yield "oaep-label-hidden", "OAEP with a label that is not named", with_recipient(key=labelled)
    yield (
        "oaep-defaults",
        "OAEP without parameters, which means SHA-1",
        with_recipient(algorithm=tlv(0x30, RSA_OAEP, tlv(0x30))),
    )
    yield "oaep-no-null", "SHA-256 without its NULL", with_recipient(algorithm=oaep(tlv(0x30, HASH_SHA256)))
    yield (
        "key-other",
        "encrypted to another RSA key",
        with_recipient(key=tlv(0x04, oaep_encrypt(CONTENT_KEY, STRANGER))),
    )
    yield "key-missing", "the encrypted key is missing", with_recipient(key=b"")
    yield "key-longer", "the encrypted key has a zero byte more", with_recipient(key=tlv(0x04, b"\0" + ENCRYPTED_KEY))
    yield "key-modulus", "the encrypted key is above the modulus", with_recipient(key=tlv(0x04, b"\xff" * SIZE))
    yield "key-zero", "the encrypted key is zero", with_recipient(key=tlv(0x04, bytes(SIZE)))
    yield "key-bit-string", "the encrypted key is a BIT STRING", with_recipient(key=tlv(0x03, ENCRYPTED_KEY))
    yield "aes128-key", "a content key of AES-128", with_key(CONTENT_KEY[:16])
    yield "aes192-key", "a content key of AES-192", with_key(CONTENT_KEY[:24])
    long = tlv(0x04, oaep_encrypt(CONTENT_KEY + b"\0"))
    yield "key-33", "a content key of 33 bytes", with_recipient(key=long)


def _content() -> Iterator[tuple[str, str, bytes]]:
    yield "content-signed", "the content says SignedData", with_content(kind=SIGNED)
    yield "aes128", "says AES-128-CBC", with_content(cipher=tlv(0x30, AES128_CBC, tlv(0x04, IV)))
    yield "gcm", "says AES-256-GCM", with_content(cipher=tlv(0x30, AES256_GCM, tlv(0x30, tlv(0x04, IV[:12]))))
    yield "iv-missing", "the IV is missing", with_content(cipher=tlv(0x30, AES256_CBC))
    yield "iv-12", "an IV of 12 bytes", with_content(cipher=tlv(0x30, AES256_CBC, tlv(0x04, IV[:12])))
    yield "iv-32", "an IV of 32 bytes", with_content(cipher=tlv(0x30, AES256_CBC, tlv(0x04, IV * 2)))
    yield "content-missing", "the content is missing", with_content(content=b"")
    yield "content-empty", "the content is empty", with_content(content=tlv(0x80))
    yield "content-half", "the content ends inside a block", with_content(content=tlv(0x80, ciphertext()[:-8]))
    yield "content-twice", "the content stands twice", with_content(CONTENT)
    nested = open_ended(0xA0, tlv(0x24, tlv(0x04, ciphertext())))
    yield "content-nested", "the content in nested chunks", with_content(content=nested)
    hollow = open_ended(0xA0, tlv(0x04), tlv(0x04, ciphertext()))
    yield "chunk-empty", "a chunk of no bytes", with_content(content=hollow)
    long = b"\x80\x82\x00\x30" + ciphertext()
    yield "length-long", "a length not in its shortest form", with_content(content=long)
    yield "length-beyond", "a length beyond the end", with_content(content=b"\x80\x7f" + ciphertext())
    yield "tag-long", "a tag of several bytes", with_content(content=b"\x9f\x20\x30" + ciphertext())


def _padding() -> Iterator[tuple[str, str, bytes]]:
    yield "padding-zero", "padding that says 0", padded(b"\0")
    yield "padding-17", "padding that says 17", padded(b"\x11" * 16)
    yield "padding-uneven", "padding whose bytes differ", padded(b"\1\2")
    yield "padding-255", "padding that says 255", padded(b"\xff")


FAMILY = Family(
    "cms",
    "KMS's answers (CMS EnvelopedData), sealed to the PUBLIC TEST KEY of the context, an RSA key made for one answer. "
    "The answers under `before` are opened with the same key first. SPEC section 14.",
    cases,
)
