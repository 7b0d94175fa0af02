"""Offers and open sessions: bounded in number, in age and in idleness. Keys live here and nowhere else."""

import asyncio
import hashlib
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from ephemeral.errors import HandshakeRejected, Overloaded, SessionUnknown
from ephemeral.protocol import OFFER_LIFETIME, SESSION_IDLE, SESSION_LIFETIME
from ephemeral.trusted.attestation import parse_document
from ephemeral.trusted.channel import EnclaveChannel
from ephemeral.trusted.handshake import Offer
from ephemeral.trusted.receipt import ReceiptDraft
from ephemeral.wire import OpenRequest, OpenResponse
from ephemeral_enclave.generation import Generation

_SWEEP_SECONDS: Final = 1.0
_LIFETIME: Final = SESSION_LIFETIME.total_seconds()
_WAIT: Final = OFFER_LIFETIME.total_seconds()
_IDLE: Final = SESSION_IDLE.total_seconds()


@dataclass(slots=True)
class Session:
    """One open session; `opened`, `used` and `ends` are seconds of the monotonic clock.

    `document_digest` is SHA-256 of its attestation document's signed payload: the signature beside it is malleable.
    `generation` is the model set that this document attests, `drafts` are the receipts of its models, by model id.
    """

    channel: EnclaveChannel
    nonce: bytes
    document_digest: bytes
    generation: Generation
    opened: float
    used: float
    ends: float = math.inf
    drafts: dict[str, ReceiptDraft] = field(default_factory=dict)

    def is_over(self, now: float) -> bool:
        """Return whether its time is up: lifetime, idleness, or a replaced model set."""
        old = now - self.opened > _LIFETIME or now - self.used > _IDLE
        return old or now >= self.ends or self.generation.over


class Sessions:
    """Every offer and session of this enclave.

    Making an offer or a session takes no proof of anything, so floods of them push out only their like: the oldest
    offer, the oldest session that never carried an authentic frame. A session in use is never evicted; a new one is
    refused.
    """

    def __init__(self, *, most_sessions: int, most_offers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_sessions = most_sessions
        self._most_offers = most_offers
        self._clock = clock
        self._offers: dict[bytes, tuple[float, Offer, Generation]] = {}  # oldest first
        self._unproven: dict[bytes, Session] = {}  # oldest first
        self._sessions: dict[bytes, Session] = {}

    def offer(self, client_hello: bytes, document: bytes, generation: Generation) -> Offer:
        """Answer a hello with a document that attests `generation`.

        The offer waits 60 s for its Open, or until newer ones need its place.

        Raises:
            HandshakeRejected: the hello is malformed.
        """
        self._expire()
        offer = Offer.answer(client_hello, document, generation.identity)
        if len(self._offers) >= self._most_offers:
            del self._offers[next(iter(self._offers))]
        self._offers[offer.offer_id] = (self._clock(), offer, generation)
        return offer

    def require_room(self) -> None:
        """Return if another session can be opened; asked before the security module is put to work.

        Raises:
            Overloaded: sessions in use take all the room.
        """
        self._expire()
        if len(self._sessions) >= self._most_sessions:
            raise Overloaded("the enclave has no room for another session; try again", code="SESSIONS_FULL")

    def open(self, request: OpenRequest) -> OpenResponse:
        """Turn an offer into a session, unproven until its first authentic frame.

        Raises:
            HandshakeRejected: no such offer, expired, spent, or a bad encapsulated key.
            SessionUnknown: the models that the offer's document attests are gone.
            Overloaded: sessions in use took all the room since the offer was made.
        """
        self.require_room()
        waiting = self._offers.pop(request.offer_id, None)
        if waiting is None:
            raise HandshakeRejected("the handshake was refused", code="BAD_OPEN")
        _, offer, generation = waiting
        if generation.over:
            raise SessionUnknown("the enclave's models changed during the handshake; begin another")
        client_auth = request.client_auth if request.HasField("client_auth") else None
        accepted = offer.open(request.encapsulated_key, client_auth)
        now = self._clock()
        if len(self._unproven) >= self._most_offers:
            del self._unproven[next(iter(self._unproven))]
        session = Session(accepted.channel, accepted.nonce, _payload_digest(accepted.document), generation, now, now)
        self._unproven[accepted.channel.session_id] = session
        return accepted.response

    def get(self, session_id: bytes) -> Session:
        """Return a live session; only an authentic frame, which touch() notes, keeps it from idling away.

        Raises:
            SessionUnknown: expired, closed or never there.
        """
        session = self._sessions.get(session_id) or self._unproven.get(session_id)
        if session is None or self._is_over(session, self._clock()):
            raise SessionUnknown("the enclave does not know this session; open another")
        return session

    def is_proven(self, session: Session) -> bool:
        """Return whether the session carried an authentic frame."""
        return session.channel.session_id in self._sessions

    def touch(self, session: Session) -> None:
        """Note an authentic frame: it proves that the session's other end holds its keys.

        Raises:
            Overloaded: it is the first one, and sessions in use took all the room in between.
        """
        session_id = session.channel.session_id
        if session_id in self._unproven:
            self.require_room()
            self._sessions[session_id] = self._unproven.pop(session_id)
        session.used = self._clock()

    def close(self, session_id: bytes) -> None:
        """Forget a session and its keys."""
        self._sessions.pop(session_id, None)
        self._unproven.pop(session_id, None)

    def end(self, generation: Generation, within: float) -> None:
        """End a generation's sessions, each at a random moment `within` seconds, lest all their clients come at once.

        What is under way is not touched: an ended session refuses new requests only.
        """
        now = self._clock()
        for table in (self._sessions, self._unproven):
            for session in table.values():
                if session.generation is generation:
                    session.ends = now + random.uniform(0, within)  # noqa: S311  # a spread, no secret

    def __len__(self) -> int:
        """Return how many sessions are open, those that were never used included."""
        self._expire()
        return len(self._sessions) + len(self._unproven)

    async def keep_expiring(self) -> NoReturn:
        """Forget what is over soon after it is, also when nobody calls."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._expire()

    def _expire(self) -> None:
        now = self._clock()
        for table in (self._sessions, self._unproven):
            for key in [key for key, session in table.items() if self._is_over(session, now)]:
                del table[key]
        for key in [key for key, (made, *_) in self._offers.items() if now - made > _WAIT]:
            del self._offers[key]

    def _is_over(self, session: Session, now: float) -> bool:
        unproven = session.channel.session_id in self._unproven
        return session.is_over(now) or (unproven and now - session.opened > _WAIT)


def _payload_digest(document: bytes) -> bytes:
    return hashlib.sha256(parse_document(document).payload).digest()
