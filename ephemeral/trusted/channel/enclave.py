"""The enclave's end: opens each request at most once, and seals its answer."""

from ephemeral.errors import FrameRejected
from ephemeral.protocol import Method
from ephemeral.trusted.channel.lane import REFUSED, Lane, Position
from ephemeral.trusted.channel.window import ReplayWindow
from ephemeral.wire import SealedFrame


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
            raise FrameRejected(REFUSED)
        self._window.check(frame.sequence)
        message = self._incoming.open(frame, method)
        self._window.mark(frame.sequence)
        return Request(message, frame.sequence, method, self._outgoing)
