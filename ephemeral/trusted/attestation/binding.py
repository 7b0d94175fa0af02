"""What `user_data` binds to a document, one format per purpose: deterministic CBOR, `{0: purpose, 1: …}`.

A document made for one purpose never verifies as the other's: the purpose is the first thing compared.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from ephemeral.errors import BindingMismatch
from ephemeral.protocol import PURPOSE_KMS, PURPOSE_SESSION, SHA256_BYTES
from ephemeral.trusted.cbor import CborError, decode, encode
from ephemeral.trusted.ed25519 import KeyRejected, VerifyingKey

_MAX_BYTES: Final = 1024
_PURPOSE: Final = 0


@dataclass(frozen=True, slots=True)
class SessionBinding:
    """What a session document vouches for; the digests are SHA-256, 32 bytes each."""

    identity_key: VerifyingKey
    boot_config_digest: bytes
    model_set_digest: bytes
    build_digest: bytes

    def encode(self) -> bytes:
        """Return `{0: "ephemeralml/session/v1", 1: identity key, 2, 3, 4: digests}` for `user_data`."""
        digests = {2: self.boot_config_digest, 3: self.model_set_digest, 4: self.build_digest}
        return _encode(PURPOSE_SESSION, {1: self.identity_key.raw, **digests})

    @classmethod
    def parse(cls, user_data: bytes) -> Self:
        """Parse the `user_data` of a session document.

        Raises:
            BindingMismatch: another purpose (WRONG_PURPOSE), or not exactly this format (MALFORMED_BINDING).
        """
        identity, *digests = _parse(user_data, PURPOSE_SESSION, count=4)
        try:
            return cls(VerifyingKey(identity), *digests)
        except KeyRejected as error:
            raise BindingMismatch(f"identity key: {error}", code="KEY_REJECTED") from None


@dataclass(frozen=True, slots=True)
class KmsBinding:
    """What a document for KMS vouches for: the SHA-256 of the manifest whose data key is asked for."""

    manifest_digest: bytes

    def encode(self) -> bytes:
        """Return `{0: "ephemeralml/kms/v1", 1: manifest digest}` for `user_data`."""
        return _encode(PURPOSE_KMS, {1: self.manifest_digest})

    @classmethod
    def parse(cls, user_data: bytes) -> Self:
        """Parse the `user_data` of a document for KMS.

        Raises:
            BindingMismatch: another purpose (WRONG_PURPOSE), or not exactly this format (MALFORMED_BINDING).
        """
        return cls(*_parse(user_data, PURPOSE_KMS, count=1))


def build_digest(protocol_version: str, enclave_version: str, libraries: bytes, configuration: bytes) -> bytes:
    """Return what a session document attests of a build, 32 bytes.

    `libraries` is the fingerprint of the computing libraries' versions, `configuration` the SHA-256 of the file in the
    image that configures the enclave.
    """
    return sha256(encode([protocol_version, enclave_version, libraries, configuration])).digest()


def _encode(purpose: str, strings: dict[int, bytes]) -> bytes:
    if any(len(value) != SHA256_BYTES for value in strings.values()):
        raise ValueError(f"every key and digest of a binding has {SHA256_BYTES} bytes")
    return encode({_PURPOSE: purpose, **strings})


def _parse(user_data: bytes, purpose: str, count: int) -> list[bytes]:
    """Return the 32-byte strings labelled 1 to `count`."""
    try:
        content = decode(user_data, max_bytes=_MAX_BYTES, max_depth=1)
    except CborError as error:
        raise BindingMismatch(f"user_data: {error}", code="MALFORMED_BINDING") from None
    if not isinstance(content, dict) or content.get(_PURPOSE) != purpose:
        raise BindingMismatch(f"the document was not made for {purpose}", code="WRONG_PURPOSE")
    strings = {label: content.get(label) for label in range(1, count + 1)}
    sound = all(type(value) is bytes and len(value) == SHA256_BYTES for value in strings.values())
    # No other label, and none that only equals 0 to 4, as true equals 1.
    closed = len(content) == 1 + count and all(type(label) is int for label in content)
    if not sound or not closed:
        raise BindingMismatch(f"user_data is not that of {purpose}", code="MALFORMED_BINDING")
    return [value for value in strings.values() if value is not None]
