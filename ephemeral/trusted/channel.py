"""The sealed channel of an open session (docs/SPEC.md, "Frames"): both sides, no IO.

::

    key, iv    = HKDF-Expand(secret, "key", 32), HKDF-Expand(secret, "iv", 12)          per direction
    nonce      = iv XOR (sequence u64 BE || chunk u32 BE)
    AAD        = "ephemeralml/1" || session_id || direction u8 || method u8 || sequence u64 || chunk u32 || final u8
    plaintext  = u32 length || message || zero padding to a Padme bucket

A nonce is used once because a (direction, sequence, chunk) is sealed once: the client hands out each sequence once, and
the enclave can seal only through the Request that opening a fresh sequence returned.
"""

import struct
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ephemeral.errors import FrameRejected, SessionUnknown, Truncated
from ephemeral.protocol import (
    LABEL_FRAME,
    LABEL_IV,
    LABEL_KEY,
    MAX_FRAME_BYTES,
    MAX_REQUESTS,
    MIN_PADDED_BYTES,
    REPLAY_WINDOW,
    SESSION_ID_BYTES,
    TAG_BYTES,
    Direction,
    Method,
)
from ephemeral.wire import SealedFrame

_LENGTH: Final = struct.Struct(">I")
_COUNTER: Final = struct.Struct(">QI")
_BINDING: Final = struct.Struct(">BBQIB")
_REFUSED: Final = "the frame was refused"


def expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869 section 2.3)."""
    return HKDFExpand(SHA256(), length, label).derive(secret)


def padded_size(size: int) -> int:
    """Return the Padme bucket of `size` bytes: at most 12 % larger, and log log many buckets (Nikitin et al., 2019)."""
    size = max(size, MIN_PADDED_BYTES)
    exponent = size.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (size + mask) & ~mask


def pad(message: bytes) -> bytes:
    """Prefix the length and fill with zeros to the bucket."""
    body = _LENGTH.pack(len(message)) + message
    return body.ljust(padded_size(len(body)), b"\0")


def unpad(padded: bytes) -> bytes:
    """Undo pad().

    Raises:
        FrameRejected: the length lies or the padding is not what pad() writes.
    """
    size = int.from_bytes(padded[: _LENGTH.size], "big")
    message = padded[_LENGTH.size : _LENGTH.size + size]
    if pad(message) != padded:
        raise FrameRejected(_REFUSED)
    return message


@dataclass(frozen=True, slots=True)
class Position:
    """What a frame is: the part of its associated data that is not the session or the direction."""

    method: Method
    sequence: int
    chunk: int = 0
    final: bool = True


class Lane:
    """One direction of one session: seals or opens frames at given positions."""

    __slots__ = ("_aead", "_direction", "_iv", "session_id")

    def __init__(self, secret: bytes, session_id: bytes, direction: Direction) -> None:
        """Derive the direction's key and IV from its 32-byte exported secret."""
        self._aead = ChaCha20Poly1305(expand(secret, LABEL_KEY, 32))
        self._iv = int.from_bytes(expand(secret, LABEL_IV, 12), "big")
        self._direction = direction
        self.session_id = session_id

    def seal(self, message: bytes, at: Position) -> SealedFrame:
        """Seal `message` into the frame at `at`; the caller never repeats a position."""
        return SealedFrame(
            session_id=self.session_id,
            sequence=at.sequence,
            chunk=at.chunk,
            final=at.final,
            ciphertext=self._aead.encrypt(self._nonce(at), pad(message), self._binding(at)),
        )

    def open(self, frame: SealedFrame, method: Method) -> bytes:
        """Open a frame at the position it claims.

        Raises:
            FrameRejected: anything at all is wrong with it; the same error for every cause.
        """
        at = Position(method, frame.sequence, frame.chunk, frame.final)
        if frame.session_id != self.session_id or not TAG_BYTES < len(frame.ciphertext) <= MAX_FRAME_BYTES:
            raise FrameRejected(_REFUSED)
        try:
            padded = self._aead.decrypt(self._nonce(at), frame.ciphertext, self._binding(at))
        except InvalidTag:
            raise FrameRejected(_REFUSED) from None
        return unpad(padded)

    def _nonce(self, at: Position) -> bytes:
        counter = int.from_bytes(_COUNTER.pack(at.sequence, at.chunk), "big")
        return (self._iv ^ counter).to_bytes(12, "big")

    def _binding(self, at: Position) -> bytes:
        position = _BINDING.pack(self._direction, at.method, at.sequence, at.chunk, at.final)
        return LABEL_FRAME + self.session_id + position

    def __repr__(self) -> str:
        return f"Lane({self.session_id.hex()}, {self._direction.name}, <redacted>)"


@dataclass(slots=True)
class ReplayWindow:
    """Which of the last 1,024 sequence numbers were seen; older ones count as seen (RFC 4303 section 3.4.3)."""

    _highest: int = 0
    _seen: int = 0  # bit i: highest - i

    def check(self, sequence: int) -> None:
        """Return if `sequence` is new.

        Raises:
            FrameRejected: seen before, too old, 0, or above the session's limit.
        """
        age = self._highest - sequence
        if not 0 < sequence <= MAX_REQUESTS or age >= REPLAY_WINDOW or (age >= 0 and self._seen >> age & 1):
            raise FrameRejected(_REFUSED)

    def mark(self, sequence: int) -> None:
        """Record `sequence`; only after its frame was authenticated."""
        if sequence > self._highest:
            self._seen = (self._seen << (sequence - self._highest)) & ((1 << REPLAY_WINDOW) - 1)
            self._highest = sequence
        self._seen |= 1 << (self._highest - sequence)


class Request:
    """A request the enclave opened: its message, and the only way to seal its answer."""

    __slots__ = ("_chunk", "_lane", "_method", "message", "sequence")

    def __init__(self, message: bytes, sequence: int, method: Method, lane: Lane) -> None:
        self.message = message
        self.sequence = sequence
        self._method = method
        self._lane = lane
        self._chunk: int | None = 0

    def seal(self, message: bytes, *, final: bool = True) -> SealedFrame:
        """Seal the next chunk of the answer.

        Raises:
            RuntimeError: the answer already ended.
        """
        if self._chunk is None:
            raise RuntimeError("seal() after the final chunk")
        frame = self._lane.seal(message, Position(self._method, self.sequence, self._chunk, final))
        self._chunk = None if final else self._chunk + 1
        return frame


class EnclaveChannel:
    """The enclave's end: opens each request at most once, seals its answer."""

    __slots__ = ("_incoming", "_outgoing", "_window", "session_id")

    def __init__(self, incoming: Lane, outgoing: Lane) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._window = ReplayWindow()
        self.session_id = incoming.session_id

    def open(self, frame: SealedFrame, method: Method) -> Request:
        """Authenticate and decrypt one request; a refused frame changes nothing.

        Raises:
            FrameRejected: not authentic, not for here, or seen before.
        """
        if frame.chunk != 0 or not frame.final:
            raise FrameRejected(_REFUSED)
        self._window.check(frame.sequence)
        message = self._incoming.open(frame, method)
        self._window.mark(frame.sequence)
        return Request(message, frame.sequence, method, self._outgoing)


@dataclass(slots=True)
class Answer:
    """The client's side of one request in flight: opens its answer, chunk by chunk, to its authenticated end."""

    sequence: int
    frame: SealedFrame
    _method: Method
    _lane: Lane
    _chunk: int = 0
    _ended: bool = False

    def open(self, frame: SealedFrame) -> bytes:
        """Open the next chunk of the answer.

        Raises:
            FrameRejected: not authentic, not the next chunk of this answer, or after its end.
        """
        if self._ended or frame.sequence != self.sequence or frame.chunk != self._chunk:
            raise FrameRejected(_REFUSED)
        message = self._lane.open(frame, self._method)
        self._chunk += 1
        self._ended = frame.final
        return message

    def finish(self) -> None:
        """Return if the answer came to its authenticated end.

        Raises:
            Truncated: it did not.
        """
        if not self._ended:
            raise Truncated("the answer ended before its authenticated end; nothing of it may be used as a whole")


@dataclass(slots=True)
class ClientChannel:
    """The client's end: numbers requests, one Answer each. Safe to share between threads."""

    _outgoing: Lane
    _incoming: Lane
    max_requests: int = MAX_REQUESTS
    _next: int = 1
    _lock: Lock = field(default_factory=Lock)

    def seal(self, message: bytes, method: Method) -> Answer:
        """Seal a request under the next sequence number; the frame is in the Answer that will open its reply.

        Raises:
            SessionUnknown: the session's requests are used up; open another.
        """
        with self._lock:
            sequence = self._next
            if sequence > min(self.max_requests, MAX_REQUESTS):
                raise SessionUnknown("the session's requests are used up; open another", code="SESSION_USED_UP")
            self._next += 1
        frame = self._outgoing.seal(message, Position(method, sequence))
        return Answer(sequence, frame, method, self._incoming)


def lanes(c2s: bytes, s2c: bytes, session_id: bytes) -> tuple[Lane, Lane]:
    """Return the client-to-enclave and the enclave-to-client lane of a session."""
    if len(session_id) != SESSION_ID_BYTES:
        raise ValueError("session id has the wrong length")
    return (
        Lane(c2s, session_id, Direction.CLIENT_TO_ENCLAVE),
        Lane(s2c, session_id, Direction.ENCLAVE_TO_CLIENT),
    )
