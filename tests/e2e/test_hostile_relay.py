"""A host that does its worst between a real client and the real enclave: always caught, and in time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ephemeral.errors import (
    AttestationError,
    BindingMismatch,
    EphemeralError,
    FrameRejected,
    HandshakeRejected,
    MeasurementMismatch,
    SessionError,
    StaleDocument,
    UntrustedChain,
)
from ephemeral.protocol import Method
from ephemeral.trusted.handshake import Greeting
from ephemeral.trusted.handshake.schedule import generate_kem_key
from ephemeral.trusted.policy import Measurements, RootOfTrust, TrustPolicy
from ephemeral.wire import ClientHello, CloseRequest, HelloRequest, HelloResponse, OpenRequest, SealedFrame, ServerHello
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeral_devstack.stack import Stack
from ephemeralml import Client
from ephemeralml.session import choose_model, seal_embed
from tests.support.hostile_relay import HostileRelay, hostile_relay
from tests.support.invariants import tally

SECRET = "a text that must never leave this client unsealed"


@pytest.fixture
def relay(stack: Stack) -> Iterator[HostileRelay]:
    with hostile_relay(stack.address) as running:
        yield running


@pytest.fixture
def connected(relay: HostileRelay, trust: TrustPolicy) -> Iterator[Client]:
    with Client.connect(relay.address, trust=trust) as client:
        yield client


def refuse_to_connect(relay: HostileRelay, trust: TrustPolicy, error: type[EphemeralError]) -> EphemeralError:
    """Connect in vain; assert that no key was agreed and no sealed byte sent."""
    with tally("INV-1", 1), tally("INV-2", 1):
        with pytest.raises(error) as caught, Client.connect(relay.address, trust=trust) as client:
            client.embed([SECRET])
        assert not relay.requests
    return caught.value


def altered_hello(**changes: object) -> "object":
    def alter(answer: HelloResponse) -> HelloResponse:
        hello = ServerHello.FromString(answer.server_hello)
        for name, value in changes.items():
            setattr(hello, name, value)
        answer.server_hello = hello.SerializeToString()
        return answer

    return alter


def test_relay_that_only_carries_is_not_noticed(connected: Client) -> None:
    assert connected.embed([SECRET]).vectors.shape == (1, 384)


def test_substituted_kem_key_is_caught_before_the_client_opens(relay: HostileRelay, trust: TrustPolicy) -> None:
    relay.on_hello_answer = altered_hello(kem_public_key=generate_kem_key()[1])
    assert refuse_to_connect(relay, trust, HandshakeRejected).code == "HELLO_SIGNATURE"
    assert not relay.opens


def test_substituted_document_is_caught_before_the_client_opens(
    relay: HostileRelay, stack: Stack, trust: TrustPolicy
) -> None:
    own = SimulatedNsm(trust.measurements[0].pinned)

    def substitute(answer: HelloResponse) -> HelloResponse:
        answer.attestation_document = own.attest(bytes(32), b"", bytes(32))
        return answer

    relay.on_hello_answer = substitute
    refuse_to_connect(relay, trust, UntrustedChain)
    assert not relay.opens


def test_document_of_an_earlier_handshake_is_caught(relay: HostileRelay, trust: TrustPolicy) -> None:
    kept: list[bytes] = []

    def replay(answer: HelloResponse) -> HelloResponse:
        kept.append(answer.attestation_document)
        answer.attestation_document = kept[0]
        return answer

    relay.on_hello_answer = replay
    Client.connect(relay.address, trust=trust).close()
    assert refuse_to_connect(relay, trust, BindingMismatch).code


def test_whole_answer_of_an_earlier_handshake_is_caught(relay: HostileRelay, trust: TrustPolicy) -> None:
    kept: list[HelloResponse] = []

    def replay(answer: HelloResponse) -> HelloResponse:
        kept.append(answer)
        return kept[0]

    relay.on_hello_answer = replay
    Client.connect(relay.address, trust=trust).close()
    refuse_to_connect(relay, trust, AttestationError)


def test_client_nonce_altered_on_its_way_is_caught(relay: HostileRelay, trust: TrustPolicy) -> None:
    def alter(request: HelloRequest) -> HelloRequest:
        hello = ClientHello.FromString(request.client_hello)
        hello.nonce = bytes(32)
        return HelloRequest(client_hello=hello.SerializeToString())

    relay.on_hello = alter
    refuse_to_connect(relay, trust, AttestationError)


def test_two_handshakes_spliced_into_each_other_are_caught(relay: HostileRelay, trust: TrustPolicy) -> None:
    kept: list[OpenRequest] = []

    def splice(request: OpenRequest) -> OpenRequest:
        kept.append(request)
        return OpenRequest(offer_id=request.offer_id, encapsulated_key=kept[0].encapsulated_key)

    relay.on_open = splice
    Client.connect(relay.address, trust=trust).close()
    refuse_to_connect(relay, trust, FrameRejected)


@pytest.mark.parametrize("field", ["server_hello", "signature", "attestation_document"])
@pytest.mark.parametrize("place", [0, 7, -1])
def test_flipped_bit_in_the_handshake_is_caught(
    relay: HostileRelay, trust: TrustPolicy, field: str, place: int
) -> None:
    def flip(answer: HelloResponse) -> HelloResponse:
        value = bytearray(getattr(answer, field))
        value[place] ^= 1
        setattr(answer, field, bytes(value))
        return answer

    relay.on_hello_answer = flip
    refuse_to_connect(relay, trust, EphemeralError)
    assert not relay.opens


@pytest.mark.parametrize("field", ["server_hello", "signature", "attestation_document"])
def test_truncated_handshake_is_caught(relay: HostileRelay, trust: TrustPolicy, field: str) -> None:
    def truncate(answer: HelloResponse) -> HelloResponse:
        setattr(answer, field, getattr(answer, field)[:-1])
        return answer

    relay.on_hello_answer = truncate
    refuse_to_connect(relay, trust, EphemeralError)


def test_altered_finished_is_caught(relay: HostileRelay, trust: TrustPolicy) -> None:
    def flip(answer):  # noqa: ANN001, ANN202
        answer.finished.ciphertext = answer.finished.ciphertext[:-1] + bytes([answer.finished.ciphertext[-1] ^ 1])
        return answer

    relay.on_open_answer = flip
    refuse_to_connect(relay, trust, FrameRejected)


def test_replayed_request_is_refused_by_the_enclave(relay: HostileRelay, connected: Client) -> None:
    connected.embed(["one"])
    relay.on_request = lambda _frame: relay.requests[0]
    with pytest.raises(SessionError):
        connected.embed([SECRET])


@pytest.mark.parametrize("place", [0, 100, -1])
def test_flipped_bit_in_a_request_is_refused(relay: HostileRelay, connected: Client, place: int) -> None:
    relay.on_request = lambda frame: flipped(frame, place)
    with pytest.raises(SessionError):
        connected.embed([SECRET])
    relay.on_request = lambda frame: frame
    assert connected.embed([SECRET]).vectors.shape == (1, 384)


@pytest.mark.parametrize("place", [0, 100, -1])
def test_flipped_bit_in_an_answer_is_caught_and_the_session_renewed(
    relay: HostileRelay, connected: Client, place: int
) -> None:
    relay.on_answer = lambda frame: flipped(frame, place)
    with pytest.raises(FrameRejected):
        connected.embed([SECRET])
    relay.on_answer = lambda frame: frame
    assert connected.embed([SECRET]).receipt.claims.sequence_number == 1


def test_truncated_answer_is_caught(relay: HostileRelay, connected: Client) -> None:
    def cut(frame: SealedFrame) -> SealedFrame:
        frame.ciphertext = frame.ciphertext[: len(frame.ciphertext) // 2]
        return frame

    relay.on_answer = cut
    with pytest.raises(FrameRejected):
        connected.embed([SECRET])


def test_answer_without_its_final_flag_is_caught(relay: HostileRelay, connected: Client) -> None:
    def not_final(frame: SealedFrame) -> SealedFrame:
        frame.final = False
        return frame

    relay.on_answer = not_final
    with pytest.raises(FrameRejected):
        connected.embed([SECRET])


def test_earlier_answer_in_place_of_a_new_one_is_caught(relay: HostileRelay, connected: Client) -> None:
    connected.embed(["one"])
    relay.on_answer = lambda _frame: relay.answers[0]
    with pytest.raises(FrameRejected):
        connected.embed([SECRET])


def test_renumbered_answer_is_caught(relay: HostileRelay, connected: Client) -> None:
    connected.embed(["one"])

    def renumber(_frame: SealedFrame) -> SealedFrame:
        old = SealedFrame()
        old.CopyFrom(relay.answers[0])
        old.sequence = 2
        return old

    relay.on_answer = renumber
    with pytest.raises(FrameRejected):
        connected.embed([SECRET])


def test_reflected_request_is_not_taken_for_its_answer(relay: HostileRelay, connected: Client) -> None:
    relay.on_answer = lambda _frame: relay.requests[-1]
    with pytest.raises(FrameRejected):
        connected.embed([SECRET])


def test_answers_swapped_between_concurrent_requests_are_caught(relay: HostileRelay, connected: Client) -> None:
    connected.embed(["warm"])
    session = connected._current()
    trust = connected.policy
    pending = [seal_embed(session, choose_model(session, trust, None), [text]) for text in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda p: connected._connection.inference.Infer(p.frame, timeout=30), pending))
    with pytest.raises(FrameRejected):
        pending[0].open(answers[1], datetime.now(UTC))
    assert pending[1].open(answers[1], datetime.now(UTC)).vectors.shape == (1, 384)


def test_reordered_requests_each_get_their_own_answer(connected: Client) -> None:
    session = connected._current()
    model = choose_model(session, connected.policy, None)
    pending = [seal_embed(session, model, [text]) for text in ("one", "two", "three")]
    answers = [connected._connection.inference.Infer(p.frame, timeout=30) for p in reversed(pending)][::-1]
    ours = [p.open(a, datetime.now(UTC)).vectors for p, a in zip(pending, answers, strict=True)]
    alone = [connected.embed([text]).vectors for text in ("one", "two", "three")]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(ours, alone, strict=True))


def test_frame_of_one_session_spliced_into_another_is_refused(
    relay: HostileRelay, connected: Client, trust: TrustPolicy
) -> None:
    connected.embed(["one"])
    frame = connected._current().channel.seal(b"x", Method.INFER).frame
    with Client.connect(relay.address, trust=trust) as other:
        own = other._current().channel.seal(b"y", Method.INFER).frame
        frame.session_id = own.session_id
        relay.on_request = lambda _frame: frame
        with pytest.raises(SessionError):
            other.embed([SECRET])


def test_host_cannot_close_a_session_it_does_not_hold(relay: HostileRelay, connected: Client) -> None:
    connected.embed(["one"])
    with pytest.raises(Exception, match="refused"):
        connected._connection.sessions.Close(CloseRequest(frame=relay.requests[0]), timeout=10)
    assert connected.embed(["two"]).receipt.claims.sequence_number == 2


class TestPolicies:
    """What the client's policy refuses of a genuine, running enclave."""

    def connect(self, stack: Stack, policy: TrustPolicy) -> None:
        Client.connect(stack.address, trust=policy).close()

    def test_other_pcr_is_refused(self, stack: Stack, trust: TrustPolicy) -> None:
        good = trust.measurements[0]
        for index in range(3):
            pcrs = [good.pcr0, good.pcr1, good.pcr2]
            pcrs[index] = b"\x77" * 48
            with pytest.raises(MeasurementMismatch):
                self.connect(stack, TrustPolicy(trust.roots, (Measurements(*pcrs),)))

    def test_registers_mixed_from_two_allowed_builds_are_refused(self, stack: Stack, trust: TrustPolicy) -> None:
        good, other = trust.measurements[0], b"\x77" * 48
        builds = (Measurements(good.pcr0, other, good.pcr2), Measurements(other, good.pcr1, good.pcr2))
        with pytest.raises(MeasurementMismatch):
            self.connect(stack, TrustPolicy(trust.roots, builds))

    def test_foreign_root_is_refused(self, stack: Stack, trust: TrustPolicy) -> None:
        foreign = RootOfTrust("another", SimulatedNsm(trust.measurements[0].pinned).root_sha256, evaluation=True)
        with pytest.raises(UntrustedChain):
            self.connect(stack, TrustPolicy((foreign,), trust.measurements))

    def test_production_policy_refuses_the_simulated_root(self, stack: Stack, trust: TrustPolicy) -> None:
        with pytest.raises(UntrustedChain):
            self.connect(stack, TrustPolicy.aws_nitro(trust.measurements[0]))

    def test_stale_document_is_refused(self, stack: Stack, trust: TrustPolicy, client: Client) -> None:
        greeting = Greeting(trust)
        answer = client._connection.sessions.Hello(greeting.request, timeout=10)
        with pytest.raises(StaleDocument):
            greeting.verify(answer, datetime.now(UTC) + timedelta(seconds=301))


def flipped(frame: SealedFrame, place: int) -> SealedFrame:
    ciphertext = bytearray(frame.ciphertext)
    ciphertext[place] ^= 1
    altered = SealedFrame()
    altered.CopyFrom(frame)
    altered.ciphertext = bytes(ciphertext)
    return altered
