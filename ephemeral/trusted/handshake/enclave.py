"""The enclave's side of the handshake: one Offer per hello, opened at most once."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from google.protobuf.message import DecodeError

from ephemeral.errors import HandshakeRejected
from ephemeral.protocol import (
    MAX_HELLO_BYTES,
    NONCE_BYTES,
    OFFER_ID_BYTES,
    VERSION,
    X25519_KEY_BYTES,
    Method,
    Suite,
)
from ephemeral.trusted.channel import EnclaveChannel, Position
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.handshake.hpke import KemKey
from ephemeral.trusted.handshake.schedule import Transcript, decapsulate, generate_kem_key
from ephemeral.wire import (
    ClientHello,
    Finished,
    HelloResponse,
    OpenResponse,
    SealedFrame,
    ServedModel,
    ServerHello,
    SessionLimits,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the enclave says of itself in every Finished, and the key that signs its hellos."""

    key: SigningKey
    limits: SessionLimits
    models: Sequence[ServedModel]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A session both ends agree on."""

    response: OpenResponse
    channel: EnclaveChannel
    nonce: bytes
    document: bytes


def parse_client_hello(raw: bytes) -> ClientHello:
    """Parse the client's first message.

    Raises:
        HandshakeRejected: malformed, another version, or no suite in common.
    """
    try:
        hello = ClientHello.FromString(raw) if len(raw) <= MAX_HELLO_BYTES else ClientHello()
    except DecodeError:
        hello = ClientHello()
    if len(hello.nonce) != NONCE_BYTES:
        raise HandshakeRejected("the client's hello is malformed", code="BAD_CLIENT_HELLO")
    if hello.version != VERSION or Suite.X25519_HKDF_SHA256_CHACHA20POLY1305 not in hello.suites:
        text = f"this enclave speaks protocol {VERSION} with suite {int(Suite.X25519_HKDF_SHA256_CHACHA20POLY1305)}"
        raise HandshakeRejected(text, code="NO_COMMON_SUITE")
    return hello


class Offer:
    """A fresh KEM key offered to one client; its private half dies with the first Open."""

    __slots__ = ("_identity", "_key", "_nonce", "_transcript", "offer_id", "response")

    def __init__(self, identity: Identity, nonce: bytes, key: KemKey, offer_id: bytes, transcript: Transcript) -> None:
        self._identity = identity
        self._nonce = nonce
        self._key: KemKey | None = key
        self._transcript = transcript
        self.offer_id = offer_id
        self.response = HelloResponse(
            server_hello=transcript.server_hello,
            signature=identity.key.sign(transcript.signed),
            attestation_document=transcript.document,
        )

    @classmethod
    def answer(cls, client_hello: bytes, document: bytes, identity: Identity) -> Self:
        """Answer a hello with the attestation document obtained for it.

        Raises:
            HandshakeRejected: the hello is malformed or has nothing in common with us.
        """
        hello = parse_client_hello(client_hello)
        key = generate_kem_key()
        offer_id = secrets.token_bytes(OFFER_ID_BYTES)
        server_hello = ServerHello(
            suite=Suite.X25519_HKDF_SHA256_CHACHA20POLY1305,
            nonce=secrets.token_bytes(NONCE_BYTES),
            offer_id=offer_id,
            kem_public_key=key.public,
        ).SerializeToString(deterministic=True)
        return cls(identity, hello.nonce, key, offer_id, Transcript(client_hello, server_hello, document))

    def open(self, encapsulated_key: bytes, client_auth: SealedFrame | None) -> Accepted:
        """Take the client's encapsulated key up; whatever happens, the offer is spent.

        Raises:
            HandshakeRejected: the offer is spent, or the encapsulated key is unusable.
        """
        key, self._key = self._key, None
        if key is None or len(encapsulated_key) != X25519_KEY_BYTES or client_auth is not None:
            # client_auth is reserved: until access lists exist, nobody may believe that it was checked.
            raise HandshakeRejected("the handshake was refused", code="BAD_OPEN")
        before = self._transcript
        transcript = Transcript(before.client_hello, before.server_hello, before.document, encapsulated_key)
        keys = decapsulate(key, transcript)
        finished = Finished(
            verify_data=keys.finished, limits=self._identity.limits, models=self._identity.models
        ).SerializeToString(deterministic=True)
        frame = keys.enclave_to_client.seal(finished, Position(Method.OPEN, 0))
        channel = EnclaveChannel(keys.client_to_enclave, keys.enclave_to_client)
        return Accepted(OpenResponse(finished=frame), channel, self._nonce, before.document)
