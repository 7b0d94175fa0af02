"""The sealed channel: each test is something a host can do to frames, and what comes of it."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ephemeral.errors import FrameRejected, SessionUnknown, Truncated
from ephemeral.protocol import MAX_REQUESTS, MIN_PADDED_BYTES, REPLAY_WINDOW, Method
from ephemeral.trusted.channel import (
    ClientChannel,
    EnclaveChannel,
    Position,
    ReplayWindow,
    lanes,
    pad,
    padded_size,
    unpad,
)
from ephemeral.wire import SealedFrame
from tests.support.invariants import tally

C2S, S2C, SESSION = b"\x01" * 32, b"\x02" * 32, b"\x03" * 16


def ends(session: bytes = SESSION, c2s: bytes = C2S, s2c: bytes = S2C) -> tuple[ClientChannel, EnclaveChannel]:
    outgoing, incoming = lanes(c2s, s2c, session)
    return ClientChannel(outgoing, incoming), EnclaveChannel(outgoing, incoming)


def copy(frame: SealedFrame, **changes: object) -> SealedFrame:
    other = SealedFrame()
    other.CopyFrom(frame)
    for name, value in changes.items():
        setattr(other, name, value)
    return other


def test_request_and_answer_round_trip() -> None:
    client, enclave = ends()
    answer = client.seal(b"question", Method.INFER)
    request = enclave.open(answer.frame, Method.INFER)
    assert request.message == b"question"
    assert answer.open(request.seal(b"reply")) == b"reply"
    answer.finish()


def test_many_requests_in_flight_may_arrive_in_any_order() -> None:
    client, enclave = ends()
    answers = [client.seal(bytes([n]), Method.INFER) for n in range(20)]
    for answer in reversed(answers):
        request = enclave.open(answer.frame, Method.INFER)
        assert answer.open(request.seal(request.message * 2)) == request.message * 2


def test_replayed_request_is_refused_and_runs_once() -> None:
    client, enclave = ends()
    frames = [client.seal(b"q", Method.INFER).frame for _ in range(10)]
    for frame in frames:
        enclave.open(frame, Method.INFER)
    for frame in [*frames, *reversed(frames)]:
        with pytest.raises(FrameRejected):
            enclave.open(frame, Method.INFER)


def test_junk_does_not_move_the_window_so_no_request_is_silently_deleted() -> None:
    client, enclave = ends()
    first, second = client.seal(b"1", Method.INFER), client.seal(b"2", Method.INFER)
    junk = copy(first.frame, ciphertext=bytes(len(first.frame.ciphertext)))
    far = copy(first.frame, sequence=MAX_REQUESTS)
    for bad in (junk, far):
        with pytest.raises(FrameRejected):
            enclave.open(bad, Method.INFER)
    assert enclave.open(second.frame, Method.INFER).message == b"2"
    assert enclave.open(first.frame, Method.INFER).message == b"1"


@pytest.mark.parametrize(
    "change",
    [
        {"session_id": b"\x04" * 16},
        {"session_id": b""},
        {"sequence": 2},
        {"sequence": 0},
        {"sequence": 2**64 - 1},
        {"chunk": 1},
        {"final": False},
        {"ciphertext": b""},
    ],
    ids=str,
)
def test_altered_header_is_refused(change: dict[str, object]) -> None:
    client, enclave = ends()
    frame = client.seal(b"q", Method.INFER).frame
    with pytest.raises(FrameRejected):
        enclave.open(copy(frame, **change), Method.INFER)


def test_every_flipped_ciphertext_bit_is_refused() -> None:
    client, enclave = ends()
    frame = client.seal(b"q", Method.INFER).frame
    for index in range(len(frame.ciphertext) * 8):
        flipped = bytearray(frame.ciphertext)
        flipped[index // 8] ^= 1 << index % 8
        with pytest.raises(FrameRejected):
            enclave.open(copy(frame, ciphertext=bytes(flipped)), Method.INFER)


def test_every_truncation_is_refused() -> None:
    client, enclave = ends()
    frame = client.seal(b"q" * 400, Method.INFER).frame
    for length in range(len(frame.ciphertext)):
        with pytest.raises(FrameRejected):
            enclave.open(copy(frame, ciphertext=frame.ciphertext[:length]), Method.INFER)


def test_frame_of_one_method_is_refused_by_another() -> None:
    for sealed, opened in product(Method, Method):
        client, enclave = ends()
        frame = client.seal(b"q", sealed).frame
        if sealed is opened:
            assert enclave.open(frame, opened).message == b"q"
        else:
            with pytest.raises(FrameRejected):
                enclave.open(frame, opened)


def test_reflected_frame_is_refused_in_both_directions() -> None:
    client, enclave = ends()
    answer = client.seal(b"q", Method.INFER)
    with pytest.raises(FrameRejected):
        answer.open(answer.frame)
    reply = enclave.open(answer.frame, Method.INFER).seal(b"r")
    with pytest.raises(FrameRejected):
        enclave.open(copy(reply, sequence=2), Method.INFER)


def test_reflection_is_refused_even_under_equal_secrets() -> None:
    outgoing, incoming = lanes(C2S, C2S, SESSION)
    frame = outgoing.seal(b"q", Position(Method.INFER, 1))
    with pytest.raises(FrameRejected):
        incoming.open(frame, Method.INFER)


def test_frame_spliced_from_another_session_is_refused() -> None:
    client, _ = ends()
    _, other = ends(b"\x09" * 16)
    frame = client.seal(b"q", Method.INFER).frame
    for spliced in (frame, copy(frame, session_id=b"\x09" * 16)):
        with pytest.raises(FrameRejected):
            other.open(spliced, Method.INFER)


def test_answers_swapped_between_two_requests_are_refused() -> None:
    client, enclave = ends()
    one, two = client.seal(b"1", Method.INFER), client.seal(b"2", Method.INFER)
    reply_one = enclave.open(one.frame, Method.INFER).seal(b"r1")
    reply_two = enclave.open(two.frame, Method.INFER).seal(b"r2")
    for answer, reply in ((one, reply_two), (two, reply_one), (one, copy(reply_two, sequence=1))):
        with pytest.raises(FrameRejected):
            answer.open(reply)


def test_replayed_answer_is_refused() -> None:
    client, enclave = ends()
    answer = client.seal(b"q", Method.INFER)
    reply = enclave.open(answer.frame, Method.INFER).seal(b"r")
    answer.open(reply)
    with pytest.raises(FrameRejected):
        answer.open(reply)


def test_stream_is_a_prefix_and_complete_only_with_its_authenticated_end() -> None:
    client, enclave = ends()
    answer = client.seal(b"q", Method.INFER_STREAM)
    request = enclave.open(answer.frame, Method.INFER_STREAM)
    chunks = [request.seal(bytes([n]), final=n == 2) for n in range(3)]
    assert answer.open(chunks[0]) == b"\x00"
    for wrong in (chunks[2], chunks[0], copy(chunks[2], chunk=1), copy(chunks[1], final=True)):
        with pytest.raises(FrameRejected):
            answer.open(wrong)
    assert answer.open(chunks[1]) == b"\x01"
    with pytest.raises(Truncated):
        answer.finish()
    assert answer.open(chunks[2]) == b"\x02"
    answer.finish()


@pytest.mark.parametrize("at", [Position(Method.INFER, 1, chunk=1), Position(Method.INFER, 1, final=False)])
def test_request_in_pieces_is_refused_even_when_authentic(at: Position) -> None:
    outgoing, incoming = lanes(C2S, S2C, SESSION)
    with pytest.raises(FrameRejected):
        EnclaveChannel(outgoing, incoming).open(outgoing.seal(b"q", at), Method.INFER)


def test_a_position_cannot_be_sealed_twice() -> None:
    client, enclave = ends()
    request = enclave.open(client.seal(b"q", Method.INFER).frame, Method.INFER)
    request.seal(b"r")
    with pytest.raises(RuntimeError):
        request.seal(b"r")


def test_no_nonce_is_used_twice() -> None:
    seen = set()
    for direction, (sequence, chunk) in product((0, 1), product(range(1, 200), range(50))):
        seen.add(lanes(C2S, S2C, SESSION)[direction]._nonce(Position(Method.INFER, sequence, chunk)))
    assert len(seen) == 2 * 199 * 50


def test_used_up_session_refuses_to_seal() -> None:
    client, _ = ends()
    client.max_requests = 1
    client.seal(b"q", Method.INFER)
    with pytest.raises(SessionUnknown):
        client.seal(b"q", Method.INFER)


def test_padding_that_pad_would_not_write_is_refused() -> None:
    good = pad(b"abc")
    for bad in (good[:-1] + b"\x01", good + b"\0", b"\xff\xff\xff\xff" + good[4:], good[:-1], b"", b"\0"):
        with pytest.raises(FrameRejected):
            unpad(bad)


def test_wire_sizes_speak_only_in_buckets() -> None:
    with tally("INV-11", 65_536):
        buckets = {len(pad(bytes(length))) for length in range(65_536)}
        assert len(buckets) <= 130
    assert all(padded_size(size) <= max(MIN_PADDED_BYTES, size * 1.12) for size in range(1, 65_536))


def test_two_texts_of_one_bucket_have_frames_of_one_size() -> None:
    client, _ = ends()
    with tally("INV-11", 100):
        assert len({client.seal(bytes(n), Method.INFER).frame.ByteSize() for n in range(100)}) == 1


def test_secrets_do_not_print() -> None:
    for text in (repr(lane) for lane in lanes(C2S, S2C, SESSION)):
        assert "redacted" in text
        assert C2S.hex() not in text


@given(st.lists(st.integers(min_value=1, max_value=3 * REPLAY_WINDOW), max_size=200))
def test_window_accepts_each_number_at_most_once(numbers: list[int]) -> None:
    window, accepted, highest = ReplayWindow(), set(), 0
    for number in numbers:
        try:
            window.check(number)
        except FrameRejected:
            assert number in accepted or highest - number >= REPLAY_WINDOW
            continue
        assert number not in accepted
        window.mark(number)
        accepted.add(number)
        highest = max(highest, number)
