"""The honest ends of a schedule, with the product's own code, and what the oracle remembers of each."""

from dataclasses import dataclass, field

from ephemeral.trusted.channel import ClientChannel, EnclaveChannel, lanes
from ephemeral.trusted.handshake import Greeting, PendingSession, parse_client_hello
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.wire import HelloResponse, OpenResponse
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeral_enclave.sessions import Session, Sessions
from tests.adversary.oracle import Channels
from tests.adversary.tampering import other_spelling
from tests.support.generations import empty_generation
from tests.support.peers import Enclave, nonce_of

OTHER_BUILD = {index: bytes([0x20 + index]) * 48 for index in range(3)}


@dataclass
class Offered:
    """An enclave's answer to a hello, as it gave it."""

    server: "Server"
    client_hello: bytes
    response: HelloResponse


@dataclass
class Opened:
    """An enclave's answer to an Open, as it gave it."""

    offered: Offered
    encapsulated_key: bytes
    response: OpenResponse
    channels: Channels


@dataclass
class Caller:
    """A client that has said hello, and the text it may send to nobody but a verified enclave."""

    greeting: Greeting
    fresh: bool
    text: bytes
    believed: HelloResponse | None = None
    pending: PendingSession | None = None
    done: bool = False

    @property
    def hello(self) -> bytes:
        return self.greeting.request.client_hello


@dataclass
class Line:
    """A client's end of an open session."""

    channel: ClientChannel
    channels: Channels


class Server:
    """One enclave: its keys for good, its sessions until the host restarts it."""

    def __init__(self, enclave: Enclave, *, accepted: bool) -> None:
        self.enclave = enclave
        self.accepted = accepted  # whether the clients' policy accepts its build
        self.shared_document = enclave.document(None)
        self.generation = empty_generation(enclave.identity)
        self.restart()

    def restart(self) -> None:
        """Lose every offer and session, as a process does."""
        self.sessions = Sessions(most_sessions=256, most_offers=256)
        self.offers: dict[bytes, Offered] = {}
        self.live: dict[bytes, Channels] = {}

    def answer(self, client_hello: bytes) -> tuple[HelloResponse, bytes | None]:
        """Do what the enclave's service does for Hello; return the answer and the nonce its document carries."""
        hello = parse_client_hello(client_hello)
        nonce = hello.nonce if hello.fresh_attestation else None
        document = self.enclave.document(nonce) if nonce is not None else self.shared_document
        offer = self.sessions.offer(client_hello, document, self.generation)
        self.offers[offer.offer_id] = Offered(self, client_hello, offer.response)
        return offer.response, nonce

    def establish(self, secrets: bytes) -> Line:
        """Put both ends of a session in place that was opened before the schedule begins; `secrets` are 80 bytes."""
        parts = secrets[:32], secrets[32:64], secrets[64:80]
        (outgoing, incoming), theirs = lanes(*parts), lanes(*parts)
        channels = Channels(parts[2])
        now = self.sessions._clock()
        self.sessions._sessions[parts[2]] = Session(
            EnclaveChannel(*theirs), bytes(32), bytes(32), self.generation, now, now
        )
        self.live[parts[2]] = channels
        return Line(ClientChannel(outgoing, incoming), channels)


@dataclass
class Cast:
    """Two enclaves of the accepted build under one root, one that the host built itself, and the clients' policy.

    Made once: they outlive schedules.
    """

    policy: TrustPolicy = field(init=False)
    servers: tuple[Server, ...] = field(init=False)
    documents: dict[bytes, tuple[Server, bytes | None]] = field(default_factory=dict)  # both spellings of each

    def __post_init__(self) -> None:
        first = Enclave()
        second = Enclave(nsm=SimulatedNsm(first.nsm._pcrs, root=first.nsm._root))
        hosts_own = Enclave(nsm=SimulatedNsm(OTHER_BUILD, root=first.nsm._root))
        self.policy = first.policy()
        self.servers = (
            Server(first, accepted=True),
            Server(second, accepted=True),
            Server(hosts_own, accepted=False),
        )
        self.reset()

    def reset(self) -> None:
        """Begin another schedule."""
        self.documents.clear()
        for server in self.servers:
            server.restart()
            self.know(server, server.shared_document, None)

    def know(self, server: Server, document: bytes, nonce: bytes | None) -> None:
        """Remember a document that an enclave's security module made."""
        self.documents[document] = self.documents[other_spelling(document)] = (server, nonce)

    def greet(self, *, fresh: bool, text: bytes) -> Caller:
        """Return a client that has made its hello."""
        return Caller(Greeting(self.policy, fresh=fresh), fresh, text)


def nonce(caller: Caller) -> bytes:
    """Return the nonce of a client's hello."""
    return nonce_of(caller.greeting)
