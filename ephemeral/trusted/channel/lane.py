"""One direction of one session: its keys, its nonces, and the associated data that binds each frame to its place."""

import struct
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ephemeral.errors import FrameRejected
from ephemeral.protocol import (
    LABEL_FRAME,
    LABEL_IV,
    LABEL_KEY,
    MAX_FRAME_BYTES,
    SESSION_ID_BYTES,
    TAG_BYTES,
    Direction,
    Method,
)
from ephemeral.trusted.channel.padding import pad, unpad
from ephemeral.trusted.hkdf import expand
from ephemeral.wire import SealedFrame

_BINDING: Final = struct.Struct(">BBQIB")
REFUSED: Final = "the frame was refused"  # one text for every cause: an oracle needs a difference


class Position(NamedTuple):
    """What a frame is: the part of its associated data that is not the session or the direction."""

    method: Method
    sequence: int
    chunk: int = 0
    final: bool = True


class Lane:
    """One direction of one session: seals or opens frames at given positions."""

    __slots__ = ("_aead", "_direction", "_iv", "_label", "session_id")

    def __init__(self, secret: bytes, session_id: bytes, direction: Direction) -> None:
        """Derive the direction's key and IV from its 32-byte exported secret."""
        self._aead = ChaCha20Poly1305(expand(secret, LABEL_KEY, 32))
        self._iv = int.from_bytes(expand(secret, LABEL_IV, 12), "big")
        self._direction = direction
        self._label = LABEL_FRAME + session_id
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
            raise FrameRejected(REFUSED)
        try:
            padded = self._aead.decrypt(self._nonce(at), frame.ciphertext, self._binding(at))
        except InvalidTag:
            raise FrameRejected(REFUSED) from None
        return unpad(padded)

    def _nonce(self, at: Position) -> bytes:
        return (self._iv ^ (at.sequence << 32 | at.chunk)).to_bytes(12, "big")

    def _binding(self, at: Position) -> bytes:
        return self._label + _BINDING.pack(self._direction, at.method, at.sequence, at.chunk, at.final)

    def __repr__(self) -> str:
        return f"Lane({self.session_id.hex()}, {self._direction.name}, <redacted>)"


def lanes(c2s: bytes, s2c: bytes, session_id: bytes) -> tuple[Lane, Lane]:
    """Return the client-to-enclave and the enclave-to-client lane of a session."""
    if len(session_id) != SESSION_ID_BYTES:
        raise ValueError("session id has the wrong length")
    return (
        Lane(c2s, session_id, Direction.CLIENT_TO_ENCLAVE),
        Lane(s2c, session_id, Direction.ENCLAVE_TO_CLIENT),
    )
