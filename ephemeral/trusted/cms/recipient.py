"""The enclave's RSA key for one KMS answer."""

from hashlib import sha256
from hmac import compare_digest
from typing import Final, NoReturn, Self

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ephemeral.errors import ForgedRelease
from ephemeral.trusted.cms.ber import BerError
from ephemeral.trusted.cms.envelope import Envelope, parse_envelope
from ephemeral.trusted.secrets import SecretBytes

_KEY_BITS: Final = 2048
_EXPONENT: Final = 65537
_AES_KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 16
_OAEP: Final = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
_REFUSED: Final = "KMS's answer was refused"


class RecipientKey:
    """An RSA-2048 key that opens at most one answer."""

    __slots__ = ("_identifier", "_unspent", "spki_der")

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        """Take a key that nothing else uses.

        Raises:
            ValueError: not 2,048 bits, the size KMS takes and the attestation document has room for.
        """
        if key.key_size != _KEY_BITS:
            raise ValueError(f"a recipient key has {_KEY_BITS} bits")
        self.spki_der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._identifier = sha256(self.spki_der).digest()
        self._unspent = [key]

    @classmethod
    def generate(cls) -> Self:
        """Make a fresh key; takes some tens of milliseconds, so do it while something else waits."""
        return cls(rsa.generate_private_key(_EXPONENT, _KEY_BITS))

    def open(self, raw: bytes) -> SecretBytes:
        """Open the one answer this key will ever open; the first call burns the key whatever happens.

        The caller MUST check the result against the manifest's commitment before using it.

        Raises:
            ForgedRelease: for every failure the same, a second call included: an oracle needs a difference and a retry.
        """
        try:
            key = self._unspent.pop()  # atomic: two threads cannot both get it
        except IndexError:
            secret = None
        else:
            secret = self._decrypt(raw, key)
        if secret is None:
            raise ForgedRelease(_REFUSED)  # outside of every handler, so that no cause hangs on it
        return secret

    def _decrypt(self, raw: bytes, key: rsa.RSAPrivateKey) -> SecretBytes | None:
        try:
            envelope = parse_envelope(raw)
            if not compare_digest(envelope.key_identifier, self._identifier):
                return None
            content_key = key.decrypt(envelope.encrypted_key, _OAEP)
        except (BerError, ValueError):
            return None
        return _decrypt_content(content_key, envelope) if len(content_key) == _AES_KEY_BYTES else None

    def __repr__(self) -> str:
        return "RecipientKey(<redacted>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not picklable")


def _decrypt_content(content_key: bytes, envelope: Envelope) -> SecretBytes | None:
    """Decrypt AES-256-CBC in one wipeable buffer and take off the PKCS #7 padding (RFC 5652 section 6.3)."""
    size = len(envelope.content)
    buffer = bytearray(size + _BLOCK_BYTES - 1)  # what update_into asks for
    try:
        Cipher(AES(content_key), CBC(envelope.iv)).decryptor().update_into(envelope.content, buffer)
        pad = buffer[size - 1]
        if not 1 <= pad <= _BLOCK_BYTES or buffer[size - pad : size] != bytes([pad]) * pad:
            return None
        with memoryview(buffer) as view:
            return SecretBytes(view[: size - pad])
    finally:
        buffer[:] = bytes(len(buffer))
