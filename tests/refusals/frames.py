"""Sealed frames of a session whose secrets are public, each wrong in one way."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ephemeral.errors import FrameRejected, Truncated
from ephemeral.wire import SealedFrame
from tests.refusals.case import Case, Family
from tests.refusals.keys import stream

C2S, S2C, SESSION = stream("c2s", 32), stream("s2c", 32), stream("session id", 16)
TO_ENCLAVE, TO_CLIENT = 1, 2
OPEN, INFER, STREAM, CLOSE = 1, 2, 3, 4
METHODS = {OPEN: "OPEN", INFER: "INFER", STREAM: "INFER_STREAM", CLOSE: "CLOSE"}
MESSAGE = b"a request or an answer"
BUCKET = 256
LAST = 2**20


@dataclass(frozen=True)
class Sealing:
    """Everything a frame is sealed with: every field is a knob (SPEC section 8)."""

    secret: bytes = C2S
    session_id: bytes = SESSION
    direction: int = TO_ENCLAVE
    method: int = INFER
    sequence: int = 1
    chunk: int = 0
    final: bool = True
    plaintext: bytes = (struct.pack(">I", len(MESSAGE)) + MESSAGE).ljust(BUCKET, b"\0")

    def frame(self, **header: Any) -> bytes:
        """Return the frame; `header` alters what stands beside the ciphertext, after sealing."""
        key = HKDFExpand(SHA256(), 32, b"key").derive(self.secret)
        iv = int.from_bytes(HKDFExpand(SHA256(), 12, b"iv").derive(self.secret), "big")
        nonce = (iv ^ (self.sequence << 32 | self.chunk)).to_bytes(12, "big")
        place = struct.pack(">BBQIB", self.direction, self.method, self.sequence, self.chunk, self.final)
        sealed = ChaCha20Poly1305(key).encrypt(nonce, self.plaintext, b"ephemeralml/1" + self.session_id + place)
        fields = {
            "session_id": self.session_id,
            "sequence": self.sequence,
            "chunk": self.chunk,
            "final": self.final,
            "ciphertext": sealed,
        }
        return SealedFrame(**{**fields, **header}).SerializeToString(deterministic=True)


REQUEST = Sealing()
ANSWER = Sealing(secret=S2C, direction=TO_CLIENT)
CHUNKS = [Sealing(secret=S2C, direction=TO_CLIENT, method=STREAM, chunk=n, final=n == 2) for n in range(3)]


def at_enclave(*before: bytes, method: int = INFER) -> dict[str, Any]:
    """Return the enclave's end of the session, after it has opened the frames `before`."""
    return {**_session(method, before), "end": "enclave"}


def at_client(*before: bytes, method: int = INFER, request: int = 1) -> dict[str, Any]:
    """Return the client's end, waiting for the answer to its request of this number."""
    return {**_session(method, before), "end": "client", "request": request}


def _session(method: int, before: tuple[bytes, ...]) -> dict[str, Any]:
    secrets = {"client_to_enclave": C2S, "enclave_to_client": S2C, "session_id": SESSION}
    return {"public_test_session": secrets, "method": METHODS[method], "before": list(before)}


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    first, second = REQUEST.frame(), replace(REQUEST, sequence=2).frame()
    chunks = [chunk.frame() for chunk in CHUNKS]
    yield Case("control", "C1", "a sound request", first, at_enclave())
    yield Case("control-order", "C2", "a sound request that arrives after a later one", first, at_enclave(second))
    yield Case("control-answer", "C6", "a sound answer", ANSWER.frame(), at_client())
    yield Case(
        "control-stream", "C3", "the last chunk of a sound stream", chunks[2], at_client(*chunks[:2], method=STREAM)
    )
    for rows, how in ((_headers(), at_enclave()), (_sealed(), at_enclave()), (_answers(), at_client())):
        for name, threat, says, raw in rows:
            yield Case(name, threat, says, raw, how, FrameRejected, "FRAME_REJECTED")
    for name, threat, says, raw, context in _histories(chunks):
        yield Case(name, threat, says, raw, context, FrameRejected, "FRAME_REJECTED")
    says = "a stream that ends after its first chunk"
    yield Case("stream-truncated", "C3", says, chunks[0], at_client(method=STREAM), Truncated, "TRUNCATED")
    says = "a stream that ends one chunk before its end"
    before = at_client(chunks[0], method=STREAM)
    yield Case("stream-truncated-late", "C3", says, chunks[1], before, Truncated, "TRUNCATED")


def _headers() -> Iterator[tuple[str, str, str, bytes]]:
    """Sound frames whose header was altered on the way."""
    frame = REQUEST.frame
    sealed = SealedFrame.FromString(frame()).ciphertext
    yield "session-altered", "C5", "the session id was altered", frame(session_id=bytes(16))
    yield "session-empty", "C5", "the session id was left out", frame(session_id=b"")
    yield "sequence-altered", "C1", "the sequence number was altered", frame(sequence=2)
    yield "sequence-zeroed", "C7", "the sequence number was set to 0", frame(sequence=0)
    yield "sequence-max", "C7", "the sequence number was set to 2^64 - 1", frame(sequence=2**64 - 1)
    yield "chunk-altered", "C3", "the chunk number was altered", frame(chunk=1)
    yield "final-cleared", "C3", "the final mark was taken away", frame(final=False)
    yield (
        "tag-damaged",
        "C12",
        "one bit of the tag was changed",
        frame(ciphertext=sealed[:-1] + bytes([sealed[-1] ^ 1])),
    )
    yield (
        "text-damaged",
        "C12",
        "one bit of the ciphertext was changed",
        frame(ciphertext=bytes([sealed[0] ^ 1]) + sealed[1:]),
    )
    yield "cut-short", "C3", "the last byte was cut off", frame(ciphertext=sealed[:-1])
    yield "byte-after", "C8", "a byte was added", frame(ciphertext=sealed + b"\0")
    yield "tag-only", "C8", "only the tag was left", frame(ciphertext=sealed[-16:])
    yield "no-ciphertext", "C8", "the ciphertext was left out", frame(ciphertext=b"")


def _sealed() -> Iterator[tuple[str, str, str, bytes]]:
    """Frames sealed by the holder of the keys, for another place or in another form."""
    yield "other-method", "C6", "sealed for Close, shown to Infer", replace(REQUEST, method=CLOSE).frame()
    yield "other-stream", "C6", "sealed for InferStream, shown to Infer", replace(REQUEST, method=STREAM).frame()
    yield "reflected", "C4", "the enclave's own answer, sent back to it", ANSWER.frame()
    yield (
        "reflected-key",
        "C4",
        "sealed for the other direction under this one's key",
        replace(REQUEST, direction=TO_CLIENT).frame(),
    )
    other = replace(REQUEST, session_id=stream("another session", 16))
    yield "other-session", "C5", "sealed in another session, its id replaced", other.frame(session_id=SESSION)
    yield (
        "other-key",
        "C5",
        "sealed under another session's key",
        replace(REQUEST, secret=stream("another c2s", 32)).frame(),
    )
    yield "sequence-0", "C7", "sealed with the number of the handshake, 0", replace(REQUEST, sequence=0).frame()
    yield (
        "sequence-over",
        "C7",
        "sealed with a number above the session's limit",
        replace(REQUEST, sequence=LAST + 1).frame(),
    )
    yield "request-chunk-1", "C2", "a request sealed as a second chunk", replace(REQUEST, chunk=1).frame()
    yield "request-not-final", "C2", "a request sealed as not final", replace(REQUEST, final=False).frame()
    size = struct.pack(">I", len(MESSAGE))
    plaintext = size + MESSAGE
    for name, says, padded in (
        ("length-lies", "a length beyond the padding", struct.pack(">I", 2**32 - 1) + MESSAGE),
        ("length-zero", "a length of 0 before a message", bytes(4) + MESSAGE),
        ("padding-byte", "a padding byte that is not zero", plaintext.ljust(BUCKET - 1, b"\0") + b"\1"),
    ):
        sealed = replace(REQUEST, plaintext=padded.ljust(BUCKET, b"\0"))
        yield name, "C8", says, sealed.frame()
    yield (
        "bucket-larger",
        "G2",
        "padded to a larger bucket",
        replace(REQUEST, plaintext=plaintext.ljust(272, b"\0")).frame(),
    )
    yield "bucket-none", "G2", "not padded at all", replace(REQUEST, plaintext=plaintext).frame()
    yield "plaintext-empty", "C8", "a plaintext of no bytes", replace(REQUEST, plaintext=b"").frame()


def _answers() -> Iterator[tuple[str, str, str, bytes]]:
    """Frames shown to a client that waits for the answer to request 1."""
    yield "answer-other", "C6", "the answer to request 2", replace(ANSWER, sequence=2).frame()
    yield (
        "answer-relabelled",
        "C6",
        "the answer to request 2, relabelled",
        replace(ANSWER, sequence=2).frame(sequence=1),
    )
    yield "answer-reflected", "C4", "the client's own request, sent back to it", REQUEST.frame()
    yield "answer-finished", "C6", "the answer of the handshake", replace(ANSWER, method=OPEN, sequence=0).frame()
    yield "answer-chunk-1", "C3", "the second chunk of an answer comes first", replace(ANSWER, chunk=1).frame()
    yield "answer-method", "C6", "the answer of another method", replace(ANSWER, method=STREAM).frame()
    yield (
        "answer-session",
        "C5",
        "another session's answer",
        replace(ANSWER, session_id=stream("another session", 16)).frame(),
    )
    yield "answer-damaged", "C12", "an answer with a wrong tag", ANSWER.frame(ciphertext=bytes(272))


def _histories(chunks: list[bytes]) -> Iterator[tuple[str, str, str, bytes, dict[str, Any]]]:
    """Sound frames, at the wrong time."""
    first = REQUEST.frame()
    yield "replayed", "C1", "a request that was opened before", first, at_enclave(first)
    later = replace(REQUEST, sequence=1025).frame()
    yield "too-old", "C1", "a request 1,024 numbers behind the newest", first, at_enclave(later)
    yield "answer-replayed", "C1", "an answer that was opened before", ANSWER.frame(), at_client(ANSWER.frame())
    stream = at_client(chunks[0], method=STREAM)
    yield "stream-skipped", "C2", "a stream's third chunk after its first", chunks[2], stream
    yield "stream-repeated", "C2", "a stream's first chunk again", chunks[0], stream
    forged = CHUNKS[1].frame(final=True)
    yield "stream-end-forged", "C3", "a stream's second chunk, marked as its end on the way", forged, stream
    whole = at_client(*chunks, method=STREAM)
    extra = replace(CHUNKS[0], chunk=3).frame()
    yield "stream-extended", "C3", "a chunk after a stream's end", extra, whole


FAMILY = Family(
    "frames",
    "Sealed frames (protobuf SealedFrame) of a session whose secrets are public, shown to one of its ends after the "
    "frames under `before`. SPEC section 8.",
    cases,
)
