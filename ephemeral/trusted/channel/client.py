"""The client's end: numbers requests, and opens each answer as the answer to its own request."""

from dataclasses import dataclass, field
from threading import Lock

from ephemeral.errors import FrameRejected, SessionUnknown, Truncated
from ephemeral.protocol import MAX_REQUESTS, Method
from ephemeral.trusted.channel.lane import REFUSED, Lane, Position
from ephemeral.wire import SealedFrame


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
            raise FrameRejected(REFUSED)
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
