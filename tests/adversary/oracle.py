"""What must hold, judged from what the honest ends did and never from what the code under test says of itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ephemeral.errors import AttestationError, EphemeralError, SessionError
from ephemeral.protocol import REPLAY_WINDOW, Method
from ephemeral.trusted.channel import Answer, Request
from ephemeral.wire import SealedFrame


class Violation(AssertionError):
    """The host did what it must not be able to do, or the ends refused what was in order."""


class Verdict:
    """Whether the code under test accepted."""

    accepted = True


@contextmanager
def judged(*, expected: bool | None, what: str) -> Iterator[Verdict]:
    """Compare what the block does with what the oracle expects; a refusal is a typed error and nothing else.

    None: either will do.
    """
    verdict = Verdict()
    try:
        yield verdict
    except Violation:
        raise
    except EphemeralError as error:
        verdict.accepted = False
        if not isinstance(error, (SessionError, AttestationError)):
            raise Violation(f"{what}: {type(error).__name__} is no refusal of a handshake or a frame") from error
        if expected:
            raise Violation(f"{what}: refused although in order ({error.code})") from error
        return
    if expected is False:
        raise Violation(f"{what}: accepted although altered, repeated or misplaced")


def wire_bytes(frame: SealedFrame) -> bytes:
    """Return one spelling of everything a frame says."""
    return frame.SerializeToString(deterministic=True)


@dataclass
class Channels:
    """One session as both of its honest ends see it, and what is known of it."""

    session_id: bytes
    highest: int = 0  # of the requests that ran

    def in_window(self, sequence: int) -> bool:
        """Whether the enclave can still tell that `sequence` is new."""
        return self.highest - sequence < REPLAY_WINDOW


@dataclass
class Sent:
    """One request, from the moment its client sealed it."""

    session: Channels
    method: Method
    text: bytes
    answer: Answer
    executions: int = 0
    request: Request | None = None
    sealed: list[tuple[bytes, bool, bytes]] = field(default_factory=list)  # text, final, frame: by the enclave
    opened: list[bytes] = field(default_factory=list)  # texts the client took for its answer

    @property
    def closes(self) -> bool:
        """Whether it asks for the end of the session, which has no sealed answer."""
        return self.method is Method.CLOSE

    @property
    def answered(self) -> bool:
        """Whether the enclave sealed the end of its answer."""
        return bool(self.sealed) and self.sealed[-1][1]

    @property
    def ended(self) -> bool:
        """Whether the client has seen the authenticated end."""
        return bool(self.opened) and self.sealed[len(self.opened) - 1][1]

    def executed(self, message: bytes) -> None:
        """Note that the enclave runs this request."""
        self.executions += 1
        self.session.highest = max(self.session.highest, self.answer.sequence)
        if self.executions > 1:
            raise Violation("a request ran twice")
        if message != self.text:
            raise Violation("the enclave runs something else than its client asked for")

    @property
    def due(self) -> list[bytes]:
        """The frames of its answer that the client has not opened, in order."""
        return [frame for _, _, frame in self.sealed[len(self.opened) :]]

    def expects(self, frame: SealedFrame) -> bool:
        """Whether this is the next frame of its answer, byte for byte."""
        return wire_bytes(frame) in self.due[:1]

    def took(self, message: bytes) -> None:
        """Note what the client opened: always a prefix of what the enclave said."""
        self.opened.append(message)
        if self.opened != [text for text, _, _ in self.sealed[: len(self.opened)]]:
            raise Violation("the client holds something else than a prefix of its answer")
