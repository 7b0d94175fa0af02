"""Calls: whatever a stub raises becomes the typed error of the status table."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import grpc

from ephemeral import errors
from ephemeral.errors import EphemeralError, ServiceError
from ephemeral.rpc.status import error_from

# What a service may say of itself to a client, and how we put it. Everything else would be a verdict, and verdicts are
# reached by the client's own checks, never taken from the wire.
_CLAIMS: Final[Mapping[type[EphemeralError], str]] = {
    errors.Unavailable: "nothing answers there, or the connection broke",
    errors.DeadlineExceeded: "no answer came in time",
    errors.Overloaded: "the service is busy; try again",
    errors.SessionUnknown: "the service does not know the session",
    errors.HandshakeRejected: "the service refused the handshake; something in between may have altered it",
    errors.FrameRejected: "the service refused the message; something in between may have altered it",
}


@contextmanager
def translated() -> Iterator[None]:
    """Raise a failed call's typed error in place of gRPC's.

    Raises:
        EphemeralError: as the status table says.
    """
    try:
        yield
    except grpc.RpcError as failure:
        raise error_from(failure) from None


@contextmanager
def claimed() -> Iterator[None]:
    """Raise a failed call's error as the peer's claim: of few kinds, in our words, with the peer's quoted as such.

    Raises:
        ServiceError: the service could not answer; finer kinds say how.
        SessionError: the service refused a message or does not know the session; unproven, hence `claimed`.
    """
    try:
        yield
    except grpc.RpcError as failure:
        raise _claim(error_from(failure)) from None


def _claim(error: EphemeralError) -> EphemeralError:
    kind = type(error) if type(error) in _CLAIMS else ServiceError
    sentence = _CLAIMS.get(kind, "the service could not answer")
    claim = kind(f'{sentence} (it says: "{error.detail}")', code=error.code if kind is type(error) else None)
    claim.claimed = True
    if isinstance(error, errors.Overloaded) and isinstance(claim, errors.Overloaded):
        claim.retry_after = error.retry_after
    return claim
