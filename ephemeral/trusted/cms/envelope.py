"""The one shape of CMS EnvelopedData (RFC 5652 section 6.1) that KMS sends.

::

    ContentInfo { id-envelopedData, [0] EnvelopedData { version 2,
        SET of exactly one KeyTransRecipientInfo { version 2, [0] subjectKeyIdentifier (32),
            RSAES-OAEP { SHA-256, MGF1 with SHA-256, no label }, encryptedKey },
        EncryptedContentInfo { id-data, AES-256-CBC { IV (16) },
            [0] content: constructed of OCTET STRINGs, or one primitive value } } }

The five structures that KMS writes with indefinite length (ContentInfo, its [0], EnvelopedData, EncryptedContentInfo,
the constructed content) may have either length form; everything else is DER. Both content shapes occur in AWS's own
samples.
"""

from dataclasses import dataclass
from typing import Final

from ephemeral.protocol import MAX_CMS_BYTES
from ephemeral.trusted.cms.ber import BerCursor, BerError

_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_NULL: Final = 0x05
_OID: Final = 0x06
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_PRIMITIVE_0: Final = 0x80
_CONSTRUCTED_0: Final = 0xA0
_CONSTRUCTED_1: Final = 0xA1
_VERSION_2: Final = b"\x02"
_ENVELOPED_DATA: Final = bytes.fromhex("2a864886f70d010703")  # 1.2.840.113549.1.7.3
_DATA: Final = bytes.fromhex("2a864886f70d010701")  # 1.2.840.113549.1.7.1
_RSAES_OAEP: Final = bytes.fromhex("2a864886f70d010107")  # 1.2.840.113549.1.1.7 (RFC 8017 appendix A.2.1)
_MGF1: Final = bytes.fromhex("2a864886f70d010108")  # 1.2.840.113549.1.1.8
_SHA256: Final = bytes.fromhex("608648016503040201")  # 2.16.840.1.101.3.4.2.1
_AES256_CBC: Final = bytes.fromhex("60864801650304012a")  # 2.16.840.1.101.3.4.1.42
_BLOCK_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Envelope:
    """What has to be decrypted, and the SHA-256 of the SubjectPublicKeyInfo it says it is for."""

    key_identifier: bytes
    encrypted_key: bytes
    iv: bytes
    content: bytes


def parse_envelope(raw: bytes) -> Envelope:
    """Parse KMS's CiphertextForRecipient, consuming every byte.

    Raises:
        BerError: too large, or anything but the one shape.
    """
    if len(raw) > MAX_CMS_BYTES:
        raise BerError("too large")
    cursor = BerCursor(raw)
    cursor.enter(_SEQUENCE, indefinite=True)
    cursor.expect(_OID, _ENVELOPED_DATA)
    cursor.enter(_CONSTRUCTED_0, indefinite=True)
    cursor.enter(_SEQUENCE, indefinite=True)
    cursor.expect(_INTEGER, _VERSION_2)
    key_identifier, encrypted_key = _recipient(cursor)
    iv, content = _encrypted_content(cursor)
    for _ in range(3):
        cursor.leave()
    cursor.finish()
    return Envelope(key_identifier, encrypted_key, iv, content)


def _recipient(cursor: BerCursor) -> tuple[bytes, bytes]:
    cursor.enter(_SET)
    cursor.enter(_SEQUENCE)
    cursor.expect(_INTEGER, _VERSION_2)
    key_identifier = cursor.value(_PRIMITIVE_0)
    _oaep_sha256(cursor)
    encrypted_key = cursor.value(_OCTETS)
    cursor.leave()
    cursor.leave()
    return key_identifier, encrypted_key


def _oaep_sha256(cursor: BerCursor) -> None:
    cursor.enter(_SEQUENCE)
    cursor.expect(_OID, _RSAES_OAEP)
    cursor.enter(_SEQUENCE)
    cursor.enter(_CONSTRUCTED_0)
    _sha256(cursor)
    cursor.leave()
    cursor.enter(_CONSTRUCTED_1)
    cursor.enter(_SEQUENCE)
    cursor.expect(_OID, _MGF1)
    _sha256(cursor)
    for _ in range(4):
        cursor.leave()


def _sha256(cursor: BerCursor) -> None:
    cursor.enter(_SEQUENCE)
    cursor.expect(_OID, _SHA256)
    cursor.expect(_NULL, b"")
    cursor.leave()


def _encrypted_content(cursor: BerCursor) -> tuple[bytes, bytes]:
    cursor.enter(_SEQUENCE, indefinite=True)
    cursor.expect(_OID, _DATA)
    cursor.enter(_SEQUENCE)
    cursor.expect(_OID, _AES256_CBC)
    iv = cursor.value(_OCTETS)
    cursor.leave()
    content = cursor.value(_PRIMITIVE_0) if cursor.next_is(_PRIMITIVE_0) else _chunks(cursor)
    cursor.leave()
    if len(iv) != _BLOCK_BYTES or not content or len(content) % _BLOCK_BYTES:
        raise BerError("the content is not AES-CBC blocks")
    return iv, content


def _chunks(cursor: BerCursor) -> bytes:
    cursor.enter(_CONSTRUCTED_0, indefinite=True)
    chunks = []
    while not cursor.at_end():
        chunk = cursor.value(_OCTETS)
        if not chunk:
            raise BerError("an empty chunk")
        chunks.append(chunk)
    cursor.leave()
    return b"".join(chunks)
