"""Sessions and offers: bounded, and never at the cost of those who are already served."""

import pytest

from ephemeral.errors import HandshakeRejected, Overloaded, SessionUnknown
from ephemeral.protocol import OFFER_LIFETIME, SESSION_IDLE, SESSION_LIFETIME
from ephemeral.trusted.handshake import Greeting, Offer
from ephemeral.wire import OpenRequest
from ephemeral_enclave.generation import Generation
from ephemeral_enclave.sessions import Sessions
from tests.support.generations import empty_generation
from tests.support.peers import Enclave, nonce_of, now


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def enclave() -> Enclave:
    return Enclave()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(most_sessions=3, most_offers=2, clock=clock)


def offer(sessions: Sessions, enclave: Enclave, generation: Generation | None = None) -> tuple[Greeting, Offer]:
    greeting = Greeting(enclave.policy())
    document = enclave.document(nonce_of(greeting))
    return greeting, sessions.offer(
        greeting.request.client_hello, document, generation or empty_generation(enclave.identity)
    )


def open_one(sessions: Sessions, enclave: Enclave, generation: Generation | None = None) -> bytes:
    greeting, offered = offer(sessions, enclave, generation)
    pending = greeting.verify(offered.response, now()).open()
    answer = sessions.open(pending.request)
    pending.confirm(answer)
    return answer.finished.session_id


def open_used(sessions: Sessions, enclave: Enclave, generation: Generation | None = None) -> bytes:
    session_id = open_one(sessions, enclave, generation)
    sessions.touch(sessions.get(session_id))
    return session_id


def test_session_lives_while_it_is_used(sessions: Sessions, enclave: Enclave, clock: Clock) -> None:
    session_id = open_used(sessions, enclave)
    for _ in range(5):
        clock.now += SESSION_IDLE.total_seconds() - 1
        sessions.touch(sessions.get(session_id))


def test_frames_that_do_not_authenticate_keep_no_session_alive(
    sessions: Sessions, enclave: Enclave, clock: Clock
) -> None:
    session_id = open_used(sessions, enclave)
    clock.now += SESSION_IDLE.total_seconds() - 1
    sessions.get(session_id)
    clock.now += 2
    with pytest.raises(SessionUnknown):
        sessions.get(session_id)


def test_idle_session_is_forgotten(sessions: Sessions, enclave: Enclave, clock: Clock) -> None:
    session_id = open_used(sessions, enclave)
    clock.now += SESSION_IDLE.total_seconds() + 1
    with pytest.raises(SessionUnknown):
        sessions.get(session_id)


def test_busy_session_ends_at_its_lifetime(sessions: Sessions, enclave: Enclave, clock: Clock) -> None:
    session_id = open_used(sessions, enclave)
    while clock.now < 1000 + SESSION_LIFETIME.total_seconds() - 60:
        clock.now += 60
        sessions.touch(sessions.get(session_id))
    clock.now += 121
    with pytest.raises(SessionUnknown):
        sessions.get(session_id)


def test_closed_and_invented_sessions_are_unknown(sessions: Sessions, enclave: Enclave) -> None:
    session_id = open_one(sessions, enclave)
    sessions.close(session_id)
    for unknown in (session_id, bytes(16), b""):
        with pytest.raises(SessionUnknown):
            sessions.get(unknown)


def test_offer_dies_after_sixty_seconds(sessions: Sessions, enclave: Enclave, clock: Clock) -> None:
    greeting, offered = offer(sessions, enclave)
    pending = greeting.verify(offered.response, now()).open()
    clock.now += OFFER_LIFETIME.total_seconds() + 1
    with pytest.raises(HandshakeRejected):
        sessions.open(pending.request)


def test_offer_opens_once(sessions: Sessions, enclave: Enclave) -> None:
    greeting, offered = offer(sessions, enclave)
    request = greeting.verify(offered.response, now()).open().request
    sessions.open(request)
    with pytest.raises(HandshakeRejected):
        sessions.open(request)


def test_flood_of_hellos_pushes_out_only_older_hellos(sessions: Sessions, enclave: Enclave) -> None:
    used = open_used(sessions, enclave)
    old, *_, new = [offer(sessions, enclave) for _ in range(4)]
    with pytest.raises(HandshakeRejected):
        sessions.open(old[0].verify(old[1].response, now()).open().request)
    sessions.open(new[0].verify(new[1].response, now()).open().request)
    assert sessions.get(used)


def test_flood_of_sessions_that_are_never_used_pushes_out_only_its_like(sessions: Sessions, enclave: Enclave) -> None:
    used = open_used(sessions, enclave)
    flood = [open_one(sessions, enclave) for _ in range(4)]
    honest = open_one(sessions, enclave)
    sessions.touch(sessions.get(honest))
    assert sessions.get(used)
    with pytest.raises(SessionUnknown):
        sessions.get(flood[0])


def test_session_that_is_never_used_is_forgotten_soon(sessions: Sessions, enclave: Enclave, clock: Clock) -> None:
    session_id = open_one(sessions, enclave)
    clock.now += OFFER_LIFETIME.total_seconds() + 1
    with pytest.raises(SessionUnknown):
        sessions.get(session_id)


def test_new_session_never_evicts_one_in_use(sessions: Sessions, enclave: Enclave) -> None:
    used = [open_used(sessions, enclave) for _ in range(3)]
    with pytest.raises(Overloaded):
        sessions.require_room()
    with pytest.raises(Overloaded):
        open_one(sessions, enclave)
    assert all(sessions.get(session_id) for session_id in used)


def test_sessions_opened_before_the_table_filled_cannot_overfill_it(sessions: Sessions, enclave: Enclave) -> None:
    for _ in range(2):
        open_used(sessions, enclave)
    first, second = (sessions.get(open_one(sessions, enclave)) for _ in range(2))
    sessions.touch(first)
    with pytest.raises(Overloaded):
        sessions.touch(second)


def test_bad_encapsulated_key_spends_the_offer(sessions: Sessions, enclave: Enclave) -> None:
    greeting, offered = offer(sessions, enclave)
    request = greeting.verify(offered.response, now()).open().request
    with pytest.raises(HandshakeRejected):
        sessions.open(OpenRequest(offer_id=request.offer_id, encapsulated_key=bytes(32)))
    with pytest.raises(HandshakeRejected):
        sessions.open(request)


def test_sessions_of_a_replaced_model_set_end_one_after_the_other_and_no_others(
    sessions: Sessions, enclave: Enclave, clock: Clock
) -> None:
    old, new = empty_generation(enclave.identity), empty_generation(enclave.identity)
    replaced = [open_used(sessions, enclave, old) for _ in range(2)]
    kept = open_used(sessions, enclave, new)
    sessions.end(old, 10)
    ends = {sessions.get(session_id).ends - clock.now for session_id in replaced}
    assert len(ends) == 2
    assert all(0 <= end <= 10 for end in ends)
    clock.now += 10.1
    for session_id in replaced:
        with pytest.raises(SessionUnknown):
            sessions.get(session_id)
    assert sessions.get(kept)


async def test_handshake_that_a_swap_overtook_is_told_to_begin_again(sessions: Sessions, enclave: Enclave) -> None:
    old = empty_generation(enclave.identity)
    greeting, offered = offer(sessions, enclave, old)
    late = open_used(sessions, enclave, old)
    sessions.end(old, 10)
    await old.release()
    with pytest.raises(SessionUnknown):
        sessions.open(greeting.verify(offered.response, now()).open().request)
    with pytest.raises(SessionUnknown):
        sessions.get(late)
