"""What a host can do to one message that it holds."""

from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError

from ephemeral.protocol import OFFER_ID_BYTES, REPLAY_WINDOW
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.handshake.schedule import Transcript, generate_kem_key
from ephemeral.wire import HelloResponse, OpenRequest, OpenResponse, SealedFrame, ServerHello

Choose = Callable[[int], int]  # a number from 0, below the one given
_ORDER = int("f" * 48 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)  # of P-384
_HOSTS_KEY = SigningKey.from_seed(b"host".ljust(32, b"\0"))


def corrupt(raw: bytes, choose: Choose) -> bytes:
    """Flip a bit, cut, lengthen, or replace."""
    match choose(4):
        case 0 if raw:
            place = choose(len(raw) * 8)
            flipped = bytearray(raw)
            flipped[place // 8] ^= 1 << place % 8
            return bytes(flipped)
        case 1:
            return raw[: choose(len(raw) + 1)]
        case 2:
            return raw + bytes([choose(256)])
        case _:
            return bytes([choose(256)]) * len(raw)


def tamper_frame(frame: SealedFrame, others: Sequence[SealedFrame], choose: Choose) -> SealedFrame:
    """Return the frame as it is in half of the cases, or a copy with one part changed or taken from another frame."""
    copy = SealedFrame()
    copy.CopyFrom(frame)
    if choose(2):
        return copy
    other = others[choose(len(others))]
    match choose(9):
        case 0:
            copy.ciphertext = corrupt(frame.ciphertext, choose)
        case 1:
            copy.sequence = max(0, frame.sequence + (-1, 1, 2, REPLAY_WINDOW, -REPLAY_WINDOW)[choose(5)])
        case 2:
            copy.sequence = (0, 2**20, 2**20 + 1, 2**32, 2**64 - 1)[choose(5)]
        case 3:
            copy.chunk = (frame.chunk + 1, max(frame.chunk, 1) - 1, 2**32 - 1)[choose(3)]
        case 4:
            copy.final = not frame.final
        case 5:
            copy.session_id = other.session_id
        case 6:
            copy.ciphertext = other.ciphertext
        case 7:
            copy.sequence = other.sequence
        case _:
            copy.session_id = corrupt(frame.session_id, choose)
    return copy


def tamper_hello(raw: bytes, choose: Choose) -> bytes:
    """Return the client's hello, altered in one of three cases."""
    return corrupt(raw, choose) if choose(3) == 0 else raw


def tamper_answer(
    answer: HelloResponse, others: Sequence[HelloResponse], client_hello: bytes, choose: Choose
) -> HelloResponse:
    """Return the enclave's answer as it is, damaged, spliced, respelt, or with a key of the host's own."""
    copy = HelloResponse()
    copy.CopyFrom(answer)
    other = others[choose(len(others))]
    field = ("server_hello", "signature", "attestation_document")[choose(3)]
    match choose(8):
        case 0:
            setattr(copy, field, corrupt(getattr(answer, field), choose))
        case 1:
            setattr(copy, field, getattr(other, field))
        case 2:
            copy.attestation_document = other_spelling(answer.attestation_document)
        case 3:
            _usurp(copy, client_hello, sign=bool(choose(2)))
        case _:
            pass
    return copy


def _usurp(answer: HelloResponse, client_hello: bytes, *, sign: bool) -> None:
    """Put the host's HPKE key into the hello, and perhaps the host's own signature below it."""
    try:
        hello = ServerHello.FromString(answer.server_hello)
    except DecodeError:
        hello = ServerHello(offer_id=bytes(OFFER_ID_BYTES))
    hello.kem_public_key = generate_kem_key()[1]
    answer.server_hello = hello.SerializeToString(deterministic=True)
    if sign:
        answer.signature = _HOSTS_KEY.sign(Transcript(client_hello, answer.server_hello).signed)


def other_spelling(document: bytes) -> bytes:
    """Return the same document under the other ES384 signature that verifies: (r, n - s)."""
    s = _ORDER - int.from_bytes(document[-48:], "big")
    return document[:-48] + s.to_bytes(48, "big")


def tamper_open(request: OpenRequest, others: Sequence[OpenRequest], choose: Choose) -> OpenRequest:
    """Return the client's Open as it is, or with one part changed or another's."""
    copy = OpenRequest()
    copy.CopyFrom(request)
    other = others[choose(len(others))]
    match choose(8):
        case 0:
            copy.encapsulated_key = corrupt(request.encapsulated_key, choose)
        case 1:
            copy.encapsulated_key = other.encapsulated_key
        case 2:
            copy.offer_id = other.offer_id
        case 3:
            copy.client_auth.CopyFrom(SealedFrame(sequence=choose(2)))
        case 4:
            copy.encapsulated_key = generate_kem_key()[1]
        case _:
            pass
    return copy


def tamper_finished(answer: OpenResponse, frames: Sequence[SealedFrame], choose: Choose) -> OpenResponse:
    """Return the enclave's Finished as it is, or altered like any frame."""
    copy = OpenResponse()
    copy.finished.CopyFrom(tamper_frame(answer.finished, frames, choose))
    return copy
