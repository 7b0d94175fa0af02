"""Sections 4, 7 and 8: transcripts, the key schedule, frames."""

from collections.abc import Iterator
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ephemeral.errors import FrameRejected
from ephemeral.protocol import (
    LABEL_C2S,
    LABEL_FINISHED,
    LABEL_IV,
    LABEL_KEY,
    LABEL_S2C,
    LABEL_SESSION_ID,
    Direction,
    Method,
)
from ephemeral.trusted.channel import Lane, Position, ReplayWindow, expand, pad, padded_size, unpad
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.handshake import hpke, schedule
from ephemeral.trusted.handshake.schedule import Transcript
from ephemeral.wire import SealedFrame
from tests.vectors.cases import Values, VectorFile, counting

SECRET: Final = counting(0, 32)
SESSION_ID: Final = counting(0, 16)


def _transcript(inputs: Values) -> Transcript:
    parts = ("client_hello", "server_hello", "document", "encapsulated_key")
    return Transcript(*(inputs[name] for name in parts))


def _derive_transcript(inputs: Values) -> Values:
    transcript, key = _transcript(inputs), SigningKey.from_seed(inputs["identity_seed"])
    return {
        "identity_key": key.verifying_key.raw,
        "signed": transcript.signed,
        "signature": key.sign(transcript.signed),
        "info": transcript.info,
        "th": transcript.hash,
    }


_PARTS: Final = {
    "client_hello": b"client hello",
    "server_hello": b"server hello",
    "document": b"document",
    "encapsulated_key": b"enc",
    "identity_seed": counting(0, 32),
}
TRANSCRIPT: Final = VectorFile(
    name="transcript",
    section="4.1 and 7",
    description="What the identity key signs, the HPKE info and the transcript hash, from parts given as bytes. "
    "The parts need not be messages: hashing never parses them.",
    derive=_derive_transcript,
    cases={
        "short parts": _PARTS,
        "a byte moved over a boundary": _PARTS | {"client_hello": b"client hellos", "server_hello": b"erver hello"},
        "empty parts": _PARTS | {"document": b"", "encapsulated_key": b""},
        "parts at their limits": _PARTS | {"client_hello": bytes(1024), "encapsulated_key": counting(0, 32)},
    },
)


def exports(transcript: Transcript, kem_private: bytes, ephemeral_private: bytes) -> tuple[bytes, Values]:
    """Return the encapsulated key and the three exported values for fixed keys, through the product's own suite."""
    recipient = X25519PrivateKey.from_private_bytes(kem_private).public_key()
    ephemeral = X25519PrivateKey.from_private_bytes(ephemeral_private)
    encapsulated, context = hpke.setup_sender(recipient.public_bytes_raw(), transcript.info, ephemeral)
    before = transcript
    th = Transcript(before.client_hello, before.server_hello, before.document, encapsulated).hash
    return encapsulated, {
        "c2s": context.export(LABEL_C2S + th, 32),
        "s2c": context.export(LABEL_S2C + th, 32),
        "session_id": context.export(LABEL_SESSION_ID + th, 16),
    }


def _derive_schedule(inputs: Values) -> Values:
    before = Transcript(inputs["client_hello"], inputs["server_hello"], inputs["document"])
    encapsulated, exported = exports(before, inputs["kem_private_key"], inputs["ephemeral_private_key"])
    complete = Transcript(before.client_hello, before.server_hello, before.document, encapsulated)
    private = X25519PrivateKey.from_private_bytes(inputs["kem_private_key"])
    keys = schedule.decapsulate(
        hpke.KemKey.of(private), complete
    )  # the enclave's side of the product must come to the same
    assert keys.enclave_to_client.session_id == exported["session_id"]
    return {
        "kem_public_key": private.public_key().public_bytes_raw(),
        "encapsulated_key": encapsulated,
        "info": complete.info,
        "th": complete.hash,
        **exported,
        "c2s_key": expand(exported["c2s"], LABEL_KEY, 32),
        "c2s_iv": expand(exported["c2s"], LABEL_IV, 12),
        "s2c_key": expand(exported["s2c"], LABEL_KEY, 32),
        "s2c_iv": expand(exported["s2c"], LABEL_IV, 12),
        "finished_key": expand(exported["s2c"], LABEL_FINISHED, 32),
        "verify_data": keys.finished,
    }


_SESSION: Final = {
    "client_hello": b"client hello",
    "server_hello": b"server hello",
    "document": b"document",
    "kem_private_key": counting(0x40, 32),
    "ephemeral_private_key": counting(0x80, 32),
}
KEY_SCHEDULE: Final = VectorFile(
    name="key-schedule",
    section="7",
    description="From both X25519 private keys (RFC 7748 scalars, not yet clamped) and the transcript to every key of "
    "a session. In use the ephemeral key is random; here it is fixed.",
    derive=_derive_schedule,
    cases={
        "one session": _SESSION,
        "another document": _SESSION | {"document": b"another document"},
        "another ephemeral key": _SESSION | {"ephemeral_private_key": counting(0xC0, 32)},
    },
)


def _lane(inputs: Values) -> Lane:
    return Lane(inputs["secret"], inputs["session_id"], Direction(inputs["direction"]))


def _derive_frame(inputs: Values) -> Values:
    lane = _lane(inputs)
    at = Position(Method(inputs["method"]), inputs["sequence"], inputs["chunk"], inputs["final"])
    frame = lane.seal(inputs["message"], at)
    assert lane.open(frame, at.method) == inputs["message"]
    return {
        "key": expand(inputs["secret"], LABEL_KEY, 32),
        "iv": expand(inputs["secret"], LABEL_IV, 12),
        "nonce": lane._nonce(at),
        "aad": lane._binding(at),
        "plaintext": pad(inputs["message"]),
        "ciphertext": frame.ciphertext,
        "frame": frame.SerializeToString(deterministic=True),
    }


_REQUEST: Final[dict[str, Any]] = {
    "secret": SECRET,
    "session_id": SESSION_ID,
    "direction": 1,
    "method": 2,
    "sequence": 1,
    "chunk": 0,
    "final": True,
    "message": b"hello",
}
_ANSWER: Final = _REQUEST | {"direction": 2}
_STREAM: Final = _ANSWER | {"method": 3, "sequence": 3}
_FRAMES: Final = {
    "first request": _REQUEST,
    "its answer": _ANSWER,
    "Finished": _ANSWER | {"method": 1, "sequence": 0},
    "last request of a session": _REQUEST | {"sequence": 2**20},
    "Close": _REQUEST | {"method": 4, "sequence": 2, "message": b""},
    "stream, first chunk": _STREAM | {"chunk": 0, "final": False, "message": b"one"},
    "stream, second chunk": _STREAM | {"chunk": 1, "final": False, "message": b"two"},
    "stream, last chunk": _STREAM | {"chunk": 2, "final": True, "message": b""},
    "largest counters": _STREAM | {"sequence": 2**20, "chunk": 2**32 - 1},
    "252 bytes fill the smallest bucket": _REQUEST | {"message": counting(0, 252)},
    "253 bytes need the next": _REQUEST | {"message": counting(0, 253)},
}


def sealed_as_is(plaintext: bytes) -> bytes:
    """Seal a plaintext that pad() would never write, at the place of the first request."""
    lane = _lane(_REQUEST)
    at = Position(Method.INFER, 1)
    return ChaCha20Poly1305(expand(SECRET, LABEL_KEY, 32)).encrypt(lane._nonce(at), plaintext, lane._binding(at))


def _honest() -> SealedFrame:
    return _lane(_REQUEST).seal(b"hello", Position(Method.INFER, 1))


def _with(**fields: Any) -> bytes:
    frame = _honest()
    for name, value in fields.items():
        setattr(frame, name, value)
    return frame.SerializeToString(deterministic=True)


def _refused_frames() -> Iterator[tuple[str, Values]]:
    receiver = {name: _REQUEST[name] for name in ("secret", "session_id", "direction", "method")}
    honest = _honest()
    size = len(honest.ciphertext)
    bad = {
        "another session": _with(session_id=counting(1, 16)),
        "another sequence": _with(sequence=2),
        "another chunk": _with(chunk=1),
        "final flag cleared": _with(final=False),
        "one bit of the tag": _with(ciphertext=honest.ciphertext[:-1] + bytes([honest.ciphertext[-1] ^ 1])),
        "one byte cut off": _with(ciphertext=honest.ciphertext[:-1]),
        "a tag alone": _with(ciphertext=honest.ciphertext[-16:]),
        "padding that is not zero": _with(ciphertext=sealed_as_is(pad(b"hello")[:-1] + b"\x01")),
        "a length beyond the end": _with(ciphertext=sealed_as_is(b"\x00\x00\x01\x00" + bytes(252))),
        "a length that lies by one": _with(ciphertext=sealed_as_is(b"\x00\x00\x00\x04hello" + bytes(247))),
        "a larger bucket than needed": _with(ciphertext=sealed_as_is(pad(b"hello") + bytes(16))),
        "no bucket": _with(ciphertext=sealed_as_is(b"\x00\x00\x00\x05hello")),
    }
    yield from ((name, receiver | {"frame": frame}) for name, frame in bad.items())
    assert size == 272
    yield "reflected: opened as an answer", receiver | {"direction": 2, "frame": _with()}
    yield "opened as another method", receiver | {"method": 4, "frame": _with()}


def _refuse_frame(inputs: Values) -> str:
    try:
        _lane(inputs).open(SealedFrame.FromString(inputs["frame"]), Method(inputs["method"]))
    except FrameRejected as error:
        return error.code
    raise AssertionError("accepted")


FRAMES: Final = VectorFile(
    name="frames",
    section="8",
    description="Complete sealed frames of both directions. `secret` is c2s for direction 1 and s2c for direction 2; "
    "`frame` is the serialised SealedFrame. The receiver of a refused frame holds `secret`, expects `session_id`, "
    "`direction` and `method`, and takes sequence, chunk and final from the frame.",
    derive=_derive_frame,
    cases=_FRAMES,
    refuse=_refuse_frame,
    refused=dict(_refused_frames()),
)

_SIZES: Final = (
    *(0, 4, 255, 256, 257, 271, 272, 273, 304, 511, 512, 513, 1023, 1024, 1025, 2048, 2049, 4097, 16_385),
    *(65_535, 65_536, 65_537, 131_073, 1_048_576, 1_048_577, 4_194_288, 4_194_304),
)


def _refuse_padding(inputs: Values) -> str:
    try:
        unpad(inputs["plaintext"])
    except FrameRejected as error:
        return error.code
    raise AssertionError("accepted")


PADDING: Final = VectorFile(
    name="padding",
    section="8",
    description="Padme buckets, in bytes: `size` is 4 + length of the message, `padded` the size of the plaintext.",
    derive=lambda inputs: {"padded": padded_size(inputs["size"])},
    cases={f"{size:,} bytes": {"size": size} for size in _SIZES},
    refuse=_refuse_padding,
    refused={
        "nothing": {"plaintext": b""},
        "shorter than a length": {"plaintext": b"\0\0\0"},
        "no bucket": {"plaintext": bytes(255)},
        "the last byte not zero": {"plaintext": bytes(255) + b"\x01"},
        "length of 2^32 - 1": {"plaintext": b"\xff" * 256},
    },
)


def _replay(inputs: Values) -> Values:
    window, accepted = ReplayWindow(), []
    for sequence in inputs["sequences"]:
        try:
            window.check(sequence)
        except FrameRejected:
            accepted.append(False)
        else:
            window.mark(sequence)
            accepted.append(True)
    return {"accepted": accepted}


REPLAY: Final = VectorFile(
    name="replay-window",
    section="8",
    description="Which authentic frames an enclave opens, by their sequence numbers in order of arrival.",
    derive=_replay,
    cases={
        "in order": {"sequences": [1, 2, 3]},
        "out of order, each once": {"sequences": [3, 1, 2, 3, 2, 1]},
        "zero and above the limit": {"sequences": [0, 2**20 + 1, 2**20, 2**20]},
        "the edge of the window": {"sequences": [1024, 1, 1, 1025, 2, 1026, 2, 3]},
        "older than the window": {"sequences": [1025, 1, 2]},
        "a jump forgets the past": {"sequences": [1, 5000, 1, 3976, 3977, 3977]},
        "a refused number moves nothing": {"sequences": [2**20 + 1, 1, 2]},
    },
)
FILES: Final = (TRANSCRIPT, KEY_SCHEDULE, FRAMES, PADDING, REPLAY)
