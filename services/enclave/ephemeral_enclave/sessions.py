"""Offers and open sessions: bounded in number, in age and in idleness. Keys live here and nowhere else."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from ephemeral.errors import HandshakeRejected, Overloaded, SessionUnknown
from ephemeral.protocol import OFFER_LIFETIME, SESSION_IDLE, SESSION_LIFETIME
from ephemeral.trusted.attestation import parse_document
from ephemeral.trusted.channel import EnclaveChannel
from ephemeral.trusted.handshake import Identity, Offer
from ephemeral.wire import OpenRequest, OpenResponse

_SWEEP_SECONDS: Final = 1.0


@dataclass(slots=True)
class Session:
    """One open session; `opened` and `used` are seconds of the monotonic clock.

    `document_digest` is SHA-256 of its attestation document's signed payload: the signature beside it is malleable.
    """

    channel: EnclaveChannel
    nonce: bytes
    document_digest: bytes
    opened: float
    used: float


class Sessions:
    """Every offer and session of this enclave. A new client never evicts an active one: it is refused."""

    def __init__(
        self, identity: Identity, *, most_sessions: int, most_offers: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._identity = identity
        self._most_sessions = most_sessions
        self._most_offers = most_offers
        self._clock = clock
        self._offers: dict[bytes, tuple[float, Offer]] = {}
        self._sessions: dict[bytes, Session] = {}

    def offer(self, client_hello: bytes, document: bytes) -> Offer:
        """Answer a hello; the offer waits 60 s for its Open.

        Raises:
            HandshakeRejected: the hello is malformed.
            Overloaded: too many offers are open.
        """
        self._expire()
        self.require_room()
        offer = Offer.answer(client_hello, document, self._identity)
        self._offers[offer.offer_id] = (self._clock(), offer)
        return offer

    def require_room(self) -> None:
        """Return if another offer may be made; asked before the security module is put to work.

        Raises:
            Overloaded: too many offers or sessions are open.
        """
        self._expire()
        if len(self._offers) >= self._most_offers or len(self._sessions) >= self._most_sessions:
            raise _full()

    def open(self, request: OpenRequest) -> OpenResponse:
        """Turn an offer into a session.

        Raises:
            HandshakeRejected: no such offer, expired, spent, or a bad encapsulated key.
            Overloaded: the table filled up since the offer was made.
        """
        self._expire()
        if len(self._sessions) >= self._most_sessions:
            raise _full()
        _, offer = self._offers.pop(request.offer_id, (0.0, None))
        if offer is None:
            raise HandshakeRejected("the handshake was refused", code="BAD_OPEN")
        client_auth = request.client_auth if request.HasField("client_auth") else None
        accepted = offer.open(request.encapsulated_key, client_auth)
        now = self._clock()
        session = Session(accepted.channel, accepted.nonce, _payload_digest(accepted.document), now, now)
        self._sessions[accepted.channel.session_id] = session
        return accepted.response

    def get(self, session_id: bytes) -> Session:
        """Return a live session; only an authentic frame, which touch() notes, keeps it from idling away.

        Raises:
            SessionUnknown: expired, closed or never there.
        """
        self._expire()
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionUnknown("the enclave does not know this session; open another")
        return session

    def touch(self, session: Session) -> None:
        """Note that the session was used."""
        session.used = self._clock()

    def close(self, session_id: bytes) -> None:
        """Forget a session and its keys."""
        self._sessions.pop(session_id, None)

    async def keep_expiring(self) -> NoReturn:
        """Forget what is over soon after it is, also when nobody calls."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._expire()

    def _expire(self) -> None:
        now = self._clock()
        lifetime, idle, wait = (t.total_seconds() for t in (SESSION_LIFETIME, SESSION_IDLE, OFFER_LIFETIME))
        stale = [key for key, s in self._sessions.items() if now - s.opened > lifetime or now - s.used > idle]
        for key in stale:
            del self._sessions[key]
        for key in [key for key, (made, _) in self._offers.items() if now - made > wait]:
            del self._offers[key]


def _full() -> Overloaded:
    return Overloaded("the enclave has no room for another session; try again", code="SESSIONS_FULL")


def _payload_digest(document: bytes) -> bytes:
    return hashlib.sha256(parse_document(document).payload).digest()
