"""CMS EnvelopedData exactly as AWS KMS lays out `CiphertextForRecipient`; the product itself only ever opens CMS.

KMS mixes two encodings (measured on its published answers): the outer SEQUENCEs and the encrypted content have
indefinite length (BER, X.690 section 8.1.3.6), the recipient is definite, and the content is a run of 1000-byte OCTET
STRINGs.

::

    ContentInfo*          { id-envelopedData, [0]* EnvelopedData }                     * = indefinite length
      EnvelopedData*      { 2, SET OF KeyTransRecipientInfo, EncryptedContentInfo* }   RFC 5652 section 6.1
        recipient         { 2, [0] SHA-256(SPKI), RSAES-OAEP(SHA-256, MGF1-SHA-256), encrypted key }
        content*          { id-data, { aes256-CBC, IV }, [0]* OCTET STRING ... }
"""

import os
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import load_der_public_key

CHUNK_BYTES: Final = 1000
_AES_BLOCK_BITS: Final = 128
_CONTENT_KEY_BYTES: Final = 32
_IV_BYTES: Final = 16

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_OID: Final = 0x06
_OCTETS: Final = 0x04
_CONTEXT_0: Final = 0xA0
_CONTEXT_1: Final = 0xA1
_IMPLICIT_0: Final = 0x80
_VERSION_2: Final = b"\x02\x01\x02"
_NULL: Final = b"\x05\x00"
_END_OF_CONTENTS: Final = b"\x00\x00"


def _definite(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _indefinite(tag: int, *parts: bytes) -> bytes:
    return bytes([tag, 0x80]) + b"".join(parts) + _END_OF_CONTENTS


def _oid(encoded: str) -> bytes:
    return _definite(_OID, bytes.fromhex(encoded))


_ENVELOPED_DATA: Final = _oid("2a864886f70d010703")  # 1.2.840.113549.1.7.3
_DATA: Final = _oid("2a864886f70d010701")  # 1.2.840.113549.1.7.1
_RSAES_OAEP: Final = _oid("2a864886f70d010107")  # 1.2.840.113549.1.1.7
_MGF1: Final = _oid("2a864886f70d010108")  # 1.2.840.113549.1.1.8
_AES256_CBC: Final = _oid("60864801650304012a")  # 2.16.840.1.101.3.4.1.42
_SHA256: Final = _definite(_SEQUENCE, _oid("608648016503040201"), _NULL)
# RFC 4055 section 4.1: hash and mask generation function named, pSource left at its default.
_OAEP_SHA256: Final = _definite(
    _SEQUENCE,
    _RSAES_OAEP,
    _definite(_SEQUENCE, _definite(_CONTEXT_0, _SHA256), _definite(_CONTEXT_1, _definite(_SEQUENCE, _MGF1, _SHA256))),
)


def seal_for_recipient(plaintext: bytes, spki_der: bytes) -> bytes:
    """Encrypt `plaintext` to the RSA key of an attestation document, as KMS does.

    `spki_der` is a SubjectPublicKeyInfo; 32 bytes of plaintext become 493 bytes for RSA-2048.

    Raises:
        ValueError: `spki_der` is not an RSA public key.
    """
    key = load_der_public_key(spki_der)
    if not isinstance(key, RSAPublicKey):
        raise ValueError("recipient key is not RSA")  # noqa: TRY004 - a wrong value inside bytes, not a wrong Python type
    content_key, iv = os.urandom(_CONTENT_KEY_BYTES), os.urandom(_IV_BYTES)
    enveloped = _indefinite(
        _SEQUENCE,
        _VERSION_2,
        _definite(_SET, _recipient(key, spki_der, content_key)),
        _content(content_key, iv, plaintext),
    )
    return _indefinite(_SEQUENCE, _ENVELOPED_DATA, _indefinite(_CONTEXT_0, enveloped))


def _recipient(key: RSAPublicKey, spki_der: bytes, content_key: bytes) -> bytes:
    # KMS names the recipient by SHA-256 of the whole SubjectPublicKeyInfo, not by RFC 5280's SHA-1 key identifier.
    identifier = _definite(_IMPLICIT_0, sha256(spki_der).digest())
    oaep = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)
    encrypted_key = _definite(_OCTETS, key.encrypt(content_key, oaep))
    return _definite(_SEQUENCE, _VERSION_2, identifier, _OAEP_SHA256, encrypted_key)


def _content(content_key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    padder = PKCS7(_AES_BLOCK_BITS).padder()
    encryptor = Cipher(AES(content_key), CBC(iv)).encryptor()
    ciphertext = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
    chunks = [_definite(_OCTETS, ciphertext[at : at + CHUNK_BYTES]) for at in range(0, len(ciphertext), CHUNK_BYTES)]
    algorithm = _definite(_SEQUENCE, _AES256_CBC, _definite(_OCTETS, iv))
    return _indefinite(_SEQUENCE, _DATA, algorithm, _indefinite(_CONTEXT_0, *chunks))
