"""Both ends of a handshake in one process: a simulated security module, an enclave's keys, and a client's policy."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from ephemeral.trusted.attestation import SessionBinding
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.handshake import Accepted, ClientSession, Greeting, Identity, Offer
from ephemeral.trusted.manifest import model_set_digest
from ephemeral.trusted.policy import Measurements, RootOfTrust, TrustPolicy
from ephemeral.wire import ClientHello, ServedModel, SessionLimits
from ephemeral_devstack.nsm import SimulatedNsm

BUILD = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, label="test build")
LIMITS = SessionLimits(
    lifetime_seconds=3600,
    idle_seconds=600,
    max_requests=2**20,
    max_frame_bytes=2**22,
    max_texts=64,
    max_text_bytes=65_536,
)
MODELS = (ServedModel(model_id="m", version=1, manifest_digest=b"\x05" * 32),)


@dataclass
class Enclave:
    """The enclave's half: attests, offers, opens."""

    nsm: SimulatedNsm = field(default_factory=lambda: SimulatedNsm(BUILD.pinned))
    identity_key: SigningKey = field(default_factory=SigningKey.generate)
    receipt_key: SigningKey = field(default_factory=SigningKey.generate)
    models: tuple[ServedModel, ...] = MODELS

    @property
    def identity(self) -> Identity:
        return Identity(self.identity_key, LIMITS, self.models)

    @property
    def binding(self) -> SessionBinding:
        served = model_set_digest((m.model_id, m.version, m.manifest_digest) for m in MODELS)
        return SessionBinding(self.identity_key.verifying_key, b"\x06" * 32, served, b"\x07" * 32)

    def document(self, nonce: bytes | None) -> bytes:
        return self.nsm.attest(self.receipt_key.verifying_key.raw, self.binding.encode(), nonce)

    def answer(self, greeting: Greeting) -> Offer:
        hello = greeting.request.client_hello
        return Offer.answer(hello, self.document(nonce_of(greeting)), self.identity)

    def policy(self) -> TrustPolicy:
        return TrustPolicy((RootOfTrust("test root", self.nsm.root_sha256, evaluation=True),), (BUILD,))


def nonce_of(greeting: Greeting) -> bytes:
    return ClientHello.FromString(greeting.request.client_hello).nonce


def now() -> datetime:
    return datetime.now(UTC)


def open_session(enclave: Enclave | None = None) -> tuple[ClientSession, Accepted]:
    """Run an honest handshake; return both ends."""
    enclave = enclave or Enclave()
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    pending = greeting.verify(offer.response, now()).open()
    accepted = offer.open(pending.request.encapsulated_key, None)
    return pending.confirm(accepted.response), accepted
