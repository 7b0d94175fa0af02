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
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

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
from ephemeral.trusted.channel import Lane, lanes
from ephemeral.trusted.handshake.hpke import Exporter, KemKey, setup_recipient, setup_sender
from ephemeral.trusted.hkdf import expand, hmac_sha256

_INFO: Final = LABEL_SESSION + int(Suite.X25519_HKDF_SHA256_CHACHA20POLY1305).to_bytes(2, "big")


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
        return LABEL_HELLO + _hashed(self.client_hello, self.server_hello).digest()

    @property
    def info(self) -> bytes:
        """The HPKE info: everything before the encapsulated key."""
        return _INFO + _hashed(self.client_hello, self.server_hello, self.document).digest()

    @property
    def hash(self) -> bytes:
        """The transcript hash `th`: everything."""
        return self.info_and_hash[1]

    @property
    def info_and_hash(self) -> tuple[bytes, bytes]:
        """Both, in one pass over the document."""
        running = _hashed(self.client_hello, self.server_hello, self.document)
        return _INFO + running.digest(), _extended(running, self.encapsulated_key)

    def completed(self, encapsulated_key: bytes) -> "Transcript":
        """Return the transcript with its last message."""
        return Transcript(self.client_hello, self.server_hello, self.document, encapsulated_key)


def _hashed(*parts: bytes) -> "hashlib._Hash":
    """Hash length-prefixed parts: no two lists of parts share an encoding."""
    return hashlib.sha256(b"".join([len(part).to_bytes(4, "big") + part for part in parts]))


def _extended(running: "hashlib._Hash", part: bytes) -> bytes:
    """Return the digest with one more part."""
    running.update(len(part).to_bytes(4, "big") + part)
    return running.digest()


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Both lanes of a session and the value that confirms them."""

    client_to_enclave: Lane
    enclave_to_client: Lane
    finished: bytes

    def __repr__(self) -> str:
        return "SessionKeys(<redacted>)"


def generate_kem_key() -> KemKey:
    """Make one X25519 key pair."""
    return KemKey.of(X25519PrivateKey.generate())


def encapsulate(kem_public_key: bytes, hellos_and_document: Transcript) -> tuple[Transcript, SessionKeys]:
    """Client side: HPKE base-mode set-up to the enclave's key (RFC 9180 section 5.1.1).

    Raises:
        HandshakeRejected: the key is not an X25519 key, or of low order.
    """
    before = hellos_and_document
    running = _hashed(before.client_hello, before.server_hello, before.document)
    try:
        encapsulated_key, exporter = setup_sender(kem_public_key, _INFO + running.digest())
    except ValueError:
        raise HandshakeRejected("the enclave's HPKE key is unusable", code="BAD_KEM_KEY") from None
    return before.completed(encapsulated_key), _keys(exporter, _extended(running, encapsulated_key))


def decapsulate(key: KemKey, transcript: Transcript) -> SessionKeys:
    """Enclave side: HPKE base-mode set-up from the encapsulated key (RFC 9180 section 5.1.1).

    Raises:
        HandshakeRejected: the encapsulated key is not an X25519 key, or of low order.
    """
    info, transcript_hash = transcript.info_and_hash
    try:
        exporter = setup_recipient(transcript.encapsulated_key, key, info)
    except ValueError:
        raise HandshakeRejected("the encapsulated key is unusable", code="BAD_ENCAPSULATED_KEY") from None
    return _keys(exporter, transcript_hash)


def _keys(exporter: Exporter, th: bytes) -> SessionKeys:
    c2s, s2c = exporter.export(LABEL_C2S + th, 32), exporter.export(LABEL_S2C + th, 32)
    outgoing, incoming = lanes(c2s, s2c, exporter.export(LABEL_SESSION_ID + th, SESSION_ID_BYTES))
    return SessionKeys(outgoing, incoming, hmac_sha256(expand(s2c, LABEL_FINISHED, 32), th))
