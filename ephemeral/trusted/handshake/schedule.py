"""The key schedule: what both ends compute from the bytes they sent and received.

::

    LP(x)      = u32 big-endian length || x
    hellos     = SHA-256(LP(client_hello) || LP(server_hello))
    info       = "ephemeralml/1 session" || u16 suite || SHA-256(LP(client_hello) || LP(server_hello) || LP(document))
    th         = SHA-256(LP(client_hello) || LP(server_hello) || LP(document) || LP(enc))
    c2s, s2c   = Export("ephemeralml/1 c2s" || th, 32), Export("ephemeralml/1 s2c" || th, 32)
    session_id = Export("ephemeralml/1 session id" || th, 16)
    finished   = HMAC-SHA256(HKDF-Expand(s2c, "finished", 32), th)
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pyhpke import AEADId, CipherSuite, ContextInterface, KDFId, KEMId, KEMKey, KEMKeyInterface, PyHPKEError

from ephemeral.errors import HandshakeRejected
from ephemeral.protocol import (
    LABEL_C2S,
    LABEL_FINISHED,
    LABEL_HELLO,
    LABEL_S2C,
    LABEL_SESSION,
    LABEL_SESSION_ID,
    SESSION_ID_BYTES,
    Suite,
)
from ephemeral.trusted.channel import Lane, expand, lanes

# RFC 9180 section 7: KEM 0x0020, KDF 0x0001, AEAD 0x0003. Only set-up and export are used: pyhpke's own sequence
# counter advances on a failed open, which RFC 9180 section 5.2 forbids.
_HPKE: Final = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The handshake so far, as bytes."""

    client_hello: bytes
    server_hello: bytes
    document: bytes = b""
    encapsulated_key: bytes = b""

    @property
    def signed(self) -> bytes:
        """What the identity key signs: both hellos."""
        return LABEL_HELLO + _digest(self.client_hello, self.server_hello)

    @property
    def info(self) -> bytes:
        """The HPKE info: everything before the encapsulated key."""
        suite = int(Suite.X25519_HKDF_SHA256_CHACHA20POLY1305).to_bytes(2, "big")
        return LABEL_SESSION + suite + _digest(self.client_hello, self.server_hello, self.document)

    @property
    def hash(self) -> bytes:
        """The transcript hash `th`: everything."""
        return _digest(self.client_hello, self.server_hello, self.document, self.encapsulated_key)


def _digest(*parts: bytes) -> bytes:
    """Hash length-prefixed parts: no two lists of parts share an encoding."""
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Both lanes of a session and the value that confirms them."""

    client_to_enclave: Lane
    enclave_to_client: Lane
    finished: bytes

    def __repr__(self) -> str:
        return "SessionKeys(<redacted>)"


def generate_kem_key() -> tuple[X25519PrivateKey, bytes]:
    """Make one X25519 key pair; return the private key and the 32-byte public key."""
    private = X25519PrivateKey.generate()
    return private, private.public_key().public_bytes_raw()


def encapsulate(kem_public_key: bytes, hellos_and_document: Transcript) -> tuple[Transcript, SessionKeys]:
    """Client side: HPKE base-mode set-up to the enclave's key (RFC 9180 section 5.1.1).

    Raises:
        HandshakeRejected: the key is not an X25519 key, or of low order.
    """
    before = hellos_and_document
    try:
        recipient = _HPKE.kem.deserialize_public_key(kem_public_key)
        encapsulated_key, context = _HPKE.create_sender_context(recipient, before.info)
    except (PyHPKEError, ValueError):
        raise HandshakeRejected("the enclave's HPKE key is unusable", code="BAD_KEM_KEY") from None
    complete = Transcript(before.client_hello, before.server_hello, before.document, encapsulated_key)
    return complete, _keys(context, complete)


def decapsulate(private: X25519PrivateKey, transcript: Transcript) -> SessionKeys:
    """Enclave side: HPKE base-mode set-up from the encapsulated key (RFC 9180 section 5.1.1).

    Raises:
        HandshakeRejected: the encapsulated key is not an X25519 key, or of low order.
    """
    key: KEMKeyInterface = KEMKey.from_pyca_cryptography_key(private)
    try:
        context = _HPKE.create_recipient_context(transcript.encapsulated_key, key, transcript.info)
    except (PyHPKEError, ValueError):
        raise HandshakeRejected("the encapsulated key is unusable", code="BAD_ENCAPSULATED_KEY") from None
    return _keys(context, transcript)


def _keys(context: ContextInterface, transcript: Transcript) -> SessionKeys:
    th = transcript.hash
    c2s, s2c = context.export(LABEL_C2S + th, 32), context.export(LABEL_S2C + th, 32)
    outgoing, incoming = lanes(c2s, s2c, context.export(LABEL_SESSION_ID + th, SESSION_ID_BYTES))
    return SessionKeys(outgoing, incoming, hmac.digest(expand(s2c, LABEL_FINISHED, 32), th, "sha256"))
