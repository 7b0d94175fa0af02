"""Every single bit of a recorded handshake, flipped: no such handshake makes a client send a byte of its text (INV-1).

The four messages are flipped as they travel, with the protobuf framing around their fields. A flip of the framing may
spell the very same message (`true` has many encodings there): that alters nothing, and is counted apart.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from google.protobuf.message import DecodeError, Message

from ephemeral.errors import AttestationError, SessionError
from ephemeral.protocol import Method
from ephemeral.trusted.handshake import Greeting, PendingSession, parse_client_hello
from ephemeral.wire import HelloRequest, HelloResponse, OpenRequest, OpenResponse
from ephemeral_enclave.sessions import Sessions
from tests.support.generations import empty_generation
from tests.support.invariants import tally
from tests.support.peers import Enclave, now

TEXT = b"for the enclave alone"
_M = TypeVar("_M", bound=Message)


class Recording:
    """One honest handshake, and what follows each of its messages when it is put in again: the rest of the handshake.

    Each of these returns how many application bytes the client sent in the end.
    """

    def __init__(self) -> None:
        self.enclave = Enclave()
        self.generation = empty_generation(self.enclave.identity)
        self.greeting = Greeting(self.enclave.policy())
        self.hello = self.greeting.request
        self.table = Sessions(most_sessions=2**20, most_offers=2**20)
        self.offer = self.table.offer(self.hello.client_hello, self.document(self.hello.client_hello), self.generation)
        self.answer = self.offer.response
        self.waiting = dict(self.table._offers)
        self.kem_key = self.offer._key
        self.pending: PendingSession = self.greeting.verify(self.answer, now()).open()
        self.open = self.pending.request
        self.finished = self.table.open(self.open)

    def document(self, client_hello: bytes) -> bytes:
        hello = parse_client_hello(client_hello)
        return self.enclave.document(hello.nonce if hello.fresh_attestation else None)

    def after_hello(self, hello: HelloRequest) -> int:
        answer = self.table.offer(hello.client_hello, self.document(hello.client_hello), self.generation).response
        pending = self.greeting.verify(answer, now()).open()
        return send(pending, self.table.open(pending.request))

    def after_answer(self, answer: HelloResponse) -> int:
        pending = self.greeting.verify(answer, now()).open()
        self.restore_the_offer()
        return send(pending, self.table.open(pending.request))

    def after_open(self, request: OpenRequest) -> int:
        self.restore_the_offer()
        return send(self.pending, self.table.open(request))

    def restore_the_offer(self) -> None:
        """Make every flip meet the offer unspent."""
        self.table._offers.update(self.waiting)
        self.offer._key = self.kem_key

    def after_finished(self, finished: OpenResponse) -> int:
        return send(self.pending, finished)


def send(pending: PendingSession, finished: OpenResponse) -> int:
    """Confirm, and send the first request."""
    return len(pending.confirm(finished).channel.seal(TEXT, Method.INFER).frame.ciphertext)


def flips(message: Message) -> Iterator[bytes]:
    """Yield the message's bytes with each bit flipped in turn."""
    raw = bytearray(message.SerializeToString(deterministic=True))
    for place in range(len(raw) * 8):
        raw[place // 8] ^= 1 << place % 8
        yield bytes(raw)
        raw[place // 8] ^= 1 << place % 8


def leaks(message: _M, deliver: Callable[[_M], int], least: int) -> Counter[str]:
    """Deliver the message with each bit flipped in turn; return how the flips ended."""
    ends: Counter[str] = Counter()
    with tally("INV-1") as tried:
        for raw in flips(message):
            try:
                altered = type(message).FromString(raw)
            except DecodeError:
                ends["no message"] += 1  # gRPC ends the call
                continue
            if altered == message:
                ends["the same message"] += 1
                continue
            tried.case()
            with pytest.raises((SessionError, AttestationError)) as refused:
                deliver(altered)
            ends[refused.value.code] += 1
        assert tried.cases >= least
    print(f"\n{tried.cases} altered {type(message).__name__}, no byte sent: {dict(ends)}")
    return ends


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.mark.parametrize("name", ["hello", "answer", "open", "finished"])
def test_the_recorded_message_itself_leads_to_a_session_that_sends(recording: Recording, name: str) -> None:
    assert getattr(recording, f"after_{name}")(getattr(recording, name)) > len(TEXT)


def test_no_flipped_bit_of_the_clients_hello_lets_a_text_out(recording: Recording) -> None:
    leaks(recording.hello, recording.after_hello, 300)


def test_no_flipped_bit_of_the_encapsulated_key_lets_a_text_out(recording: Recording) -> None:
    leaks(recording.open, recording.after_open, 380)


def test_no_flipped_bit_of_the_finished_frame_lets_a_text_out(recording: Recording) -> None:
    leaks(recording.finished, recording.after_finished, 2_000)


@pytest.mark.slow
def test_no_flipped_bit_of_server_hello_signature_and_document_lets_a_text_out(recording: Recording) -> None:
    ends = leaks(recording.answer, recording.after_answer, 34_000)
    assert {"HELLO_SIGNATURE", "BAD_SERVER_HELLO", "FORGED_DOCUMENT", "CERTIFICATE_NOT_ISSUED"} <= ends.keys()
