"""The client's side of the handshake: only a VerifiedPeer can be opened, only a confirmed session can seal."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest
from threading import Lock
from typing import Final

from google.protobuf.message import DecodeError

from ephemeral.errors import BindingMismatch, EphemeralError, FrameRejected, HandshakeRejected
from ephemeral.protocol import (
    MAX_HELLO_BYTES,
    MAX_MODELS,
    NONCE_BYTES,
    OFFER_ID_BYTES,
    VERSION,
    X25519_KEY_BYTES,
    Method,
    Suite,
)
from ephemeral.trusted.attestation import VerifiedEnclave, verify_enclave
from ephemeral.trusted.channel import ClientChannel
from ephemeral.trusted.ed25519 import SignatureRejected
from ephemeral.trusted.handshake.schedule import SessionKeys, Transcript, encapsulate
from ephemeral.trusted.manifest import model_set_digest
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.verification import VerificationStep
from ephemeral.wire import (
    ClientHello,
    Finished,
    HelloRequest,
    HelloResponse,
    OpenRequest,
    OpenResponse,
    SealedFrame,
    ServedModel,
    ServerHello,
    SessionLimits,
)

_HELLO: Final = VerificationStep(
    "session.hello", "Handshake signature", "the attested identity key signed both hellos, and with them the HPKE key"
)
_CONFIRMED: Final = VerificationStep(
    "session.keys", "Key confirmation", "Finished opens, and holds the MAC of this handshake's transcript"
)


@dataclass(frozen=True, slots=True)
class ClientSession:
    """An open session with a verified enclave that has confirmed its keys."""

    enclave: VerifiedEnclave
    nonce: bytes
    channel: ClientChannel
    limits: SessionLimits
    models: tuple[ServedModel, ...]
    steps: tuple[VerificationStep, ...]


@dataclass(frozen=True, slots=True)
class PendingSession:
    """Keys are agreed with a verified enclave but not yet confirmed: nothing can be sealed."""

    request: OpenRequest
    enclave: VerifiedEnclave
    nonce: bytes
    _keys: SessionKeys
    _steps: tuple[VerificationStep, ...]
    _confirmed: Lock = field(default_factory=Lock, repr=False, compare=False)  # taken by the first, never given back

    def confirm(self, answer: OpenResponse) -> ClientSession:
        """Check the enclave's Finished and open the channel.

        Raises:
            FrameRejected: the answer is not the holder's of the attested keys.
            BindingMismatch: the models named are not the attested ones.
            RuntimeError: it was confirmed before: two channels over one set of keys would use its nonces twice.
        """
        with _after(*self._steps):
            finished = self._finished(answer.finished)
        models, limits = tuple(finished.models), finished.limits
        with _after(*self._steps, _CONFIRMED):
            compared = _check_models(models, self.enclave)
        if not self._confirmed.acquire(blocking=False):
            raise RuntimeError("confirm() after a Finished was accepted")
        channel = ClientChannel(self._keys.client_to_enclave, self._keys.enclave_to_client, int(limits.max_requests))
        steps = (*self._steps, _CONFIRMED, compared)
        return ClientSession(self.enclave, self.nonce, channel, limits, models, steps)

    def _finished(self, frame: SealedFrame) -> Finished:
        if (frame.sequence, frame.chunk, frame.final) != (0, 0, True):
            raise FrameRejected("the frame was refused")
        finished = _parse_finished(self._keys.enclave_to_client.open(frame, Method.OPEN))
        if not compare_digest(finished.verify_data, self._keys.finished):
            raise FrameRejected("the frame was refused")
        return finished


@dataclass(frozen=True, slots=True)
class VerifiedPeer:
    """An enclave whose document, policy match and hello signature were verified."""

    enclave: VerifiedEnclave
    nonce: bytes
    _offer: ServerHello
    _transcript: Transcript

    def open(self) -> PendingSession:
        """Encapsulate a key to the verified enclave.

        Raises:
            HandshakeRejected: its HPKE key is unusable.
        """
        with _after(*self.enclave.steps, _HELLO):
            transcript, keys = encapsulate(self._offer.kem_public_key, self._transcript)
        request = OpenRequest(offer_id=self._offer.offer_id, encapsulated_key=transcript.encapsulated_key)
        return PendingSession(request, self.enclave, self.nonce, keys, (*self.enclave.steps, _HELLO))


class Greeting:
    """The client's first message: a fresh nonce, and the policy its answer will be held against."""

    __slots__ = ("_fresh", "_hello", "_nonce", "_policy", "request")

    def __init__(self, policy: TrustPolicy, *, fresh: bool = True) -> None:
        """Make a hello; `fresh` asks for a document that carries its nonce."""
        self._policy = policy
        self._fresh = fresh
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._hello = ClientHello(
            version=VERSION,
            suites=[Suite.X25519_HKDF_SHA256_CHACHA20POLY1305],
            nonce=self._nonce,
            fresh_attestation=fresh,
        ).SerializeToString(deterministic=True)
        self.request = HelloRequest(client_hello=self._hello)

    def verify(self, answer: HelloResponse, now: datetime) -> VerifiedPeer:
        """Verify the enclave: the only way to get a peer to whom anything can be sealed.

        1. the server's hello is well-formed and stays within what was offered
        2. the attestation document satisfies the profile, the policy and this nonce
        3. the attested identity key signed both hellos, and with them this session's HPKE key

        Raises:
            HandshakeRejected: step 1 or 3 failed.
            AttestationError: step 2 failed; the leaf says how.
        """
        offer = _parse_server_hello(answer.server_hello)  # 1
        nonce = self._nonce if self._fresh else None
        enclave = verify_enclave(answer.attestation_document, self._policy, nonce=nonce, now=now)  # 2
        transcript = Transcript(self._hello, answer.server_hello, answer.attestation_document)
        with _after(*enclave.steps):
            _check_signature(enclave, answer.signature, transcript.signed)  # 3
        return VerifiedPeer(enclave, self._nonce, offer, transcript)


@contextmanager
def _after(*steps: VerificationStep) -> Iterator[None]:
    """An error that leaves the block says what had passed before."""
    try:
        yield
    except EphemeralError as error:
        error.steps = steps
        raise


def _check_models(models: tuple[ServedModel, ...], enclave: VerifiedEnclave) -> VerificationStep:
    served = model_set_digest((model.model_id, model.version, model.manifest_digest) for model in models)
    if served != enclave.binding.model_set_digest:
        raise BindingMismatch("the enclave names other models than it attested", code="MODEL_SET_MISMATCH")
    compared = f"the {len(models)} named hash to the attested {served.hex()[:16]}…"
    return VerificationStep("session.models", "Served models", compared)


def _check_signature(enclave: VerifiedEnclave, signature: bytes, signed: bytes) -> None:
    try:
        enclave.binding.identity_key.verify(signature, signed)
    except SignatureRejected:
        text = "the attested identity key did not sign this handshake; something in between altered it"
        raise HandshakeRejected(text, code="HELLO_SIGNATURE") from None


def _parse_server_hello(raw: bytes) -> ServerHello:
    try:
        hello = ServerHello.FromString(raw) if len(raw) <= MAX_HELLO_BYTES else ServerHello()
    except DecodeError:
        hello = ServerHello()
    well_formed = (
        hello.suite == Suite.X25519_HKDF_SHA256_CHACHA20POLY1305
        and len(hello.nonce) == NONCE_BYTES
        and len(hello.offer_id) == OFFER_ID_BYTES
        and len(hello.kem_public_key) == X25519_KEY_BYTES
    )
    if not well_formed:
        raise HandshakeRejected("the server's hello is malformed or of another suite", code="BAD_SERVER_HELLO")
    return hello


def _parse_finished(message: bytes) -> Finished:
    try:
        finished = Finished.FromString(message)
    except DecodeError:
        raise FrameRejected("the frame was refused") from None
    if len(finished.models) > MAX_MODELS:
        raise FrameRejected("the frame was refused")
    return finished
