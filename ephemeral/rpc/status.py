"""The one table between the error tree and gRPC status.

A status says what kind of failure a call had; the stable code travels beside it, in the trailing metadata
``ephemeralml-code``. Peers are not trusted: a code counts only if this table knows it and it fits the status, and a
peer's text is cut to one printable line.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import grpc
from grpc import StatusCode

from ephemeral import errors
from ephemeral.errors import EphemeralError

CODE_KEY: Final = "ephemeralml-code"
RETRY_AFTER_KEY: Final = "retry-after-ms"
_MAX_TEXT: Final = 240
_MAX_RETRY_AFTER_MS: Final = 60_000

STATUS_OF: Final[Mapping[type[EphemeralError], StatusCode]] = MappingProxyType(
    {
        EphemeralError: StatusCode.INTERNAL,
        errors.ConfigError: StatusCode.FAILED_PRECONDITION,
        errors.AddressError: StatusCode.FAILED_PRECONDITION,
        errors.PolicyError: StatusCode.FAILED_PRECONDITION,
        errors.AttestationError: StatusCode.FAILED_PRECONDITION,
        errors.MalformedDocument: StatusCode.FAILED_PRECONDITION,
        errors.UntrustedChain: StatusCode.FAILED_PRECONDITION,
        errors.ForgedDocument: StatusCode.FAILED_PRECONDITION,
        errors.StaleDocument: StatusCode.FAILED_PRECONDITION,
        errors.BindingMismatch: StatusCode.FAILED_PRECONDITION,
        errors.MeasurementMismatch: StatusCode.FAILED_PRECONDITION,
        errors.SessionError: StatusCode.INVALID_ARGUMENT,
        errors.HandshakeRejected: StatusCode.INVALID_ARGUMENT,
        errors.FrameRejected: StatusCode.INVALID_ARGUMENT,
        errors.SessionUnknown: StatusCode.UNAUTHENTICATED,
        errors.Truncated: StatusCode.DATA_LOSS,
        errors.ReceiptError: StatusCode.DATA_LOSS,
        errors.EvidenceError: StatusCode.DATA_LOSS,
        errors.LogProofError: StatusCode.DATA_LOSS,
        errors.ModelError: StatusCode.FAILED_PRECONDITION,
        errors.ManifestError: StatusCode.FAILED_PRECONDITION,
        errors.ContainerError: StatusCode.DATA_LOSS,
        errors.ModelFormatError: StatusCode.FAILED_PRECONDITION,
        errors.ReleaseError: StatusCode.FAILED_PRECONDITION,
        errors.KmsDenied: StatusCode.PERMISSION_DENIED,
        errors.KmsUnavailable: StatusCode.UNAVAILABLE,
        errors.ForgedRelease: StatusCode.DATA_LOSS,
        errors.StorageError: StatusCode.FAILED_PRECONDITION,
        errors.ObjectMissing: StatusCode.NOT_FOUND,
        errors.StorageUnavailable: StatusCode.UNAVAILABLE,
        errors.RequestRefused: StatusCode.INVALID_ARGUMENT,
        errors.ServiceError: StatusCode.UNKNOWN,
        errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
        errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
        errors.Unavailable: StatusCode.UNAVAILABLE,
        errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    }
)

# What a status means when no code came with it: gRPC itself answered, or a peer that is not ours.
_KIND_OF_STATUS: Final[Mapping[StatusCode, type[EphemeralError]]] = MappingProxyType(
    {
        StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
        StatusCode.UNAVAILABLE: errors.Unavailable,
        StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
        StatusCode.UNAUTHENTICATED: errors.SessionUnknown,
        StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    }
)

# Codes that cross a connection and are more exact than the default code of their class.
_EXACT_CODES: Final[Mapping[str, type[EphemeralError]]] = {
    "BAD_CLIENT_HELLO": errors.HandshakeRejected,
    "BAD_ENCAPSULATED_KEY": errors.HandshakeRejected,
    "BAD_OPEN": errors.HandshakeRejected,
    "NO_COMMON_SUITE": errors.HandshakeRejected,
    "NSM_ANSWER": errors.AttestationError,
    "NSM_REFUSED": errors.AttestationError,
    "NSM_UNREACHABLE": errors.AttestationError,
    "QUEUE_FULL": errors.Overloaded,
    "SESSIONS_FULL": errors.Overloaded,
    "KMS_ACCESS_DENIED": errors.KmsDenied,
    "KMS_CREDENTIALS": errors.KmsDenied,
    "KMS_DISABLED": errors.KmsDenied,
    "KMS_INCORRECT_KEY": errors.KmsDenied,
    "KMS_INVALID_CIPHERTEXT": errors.KmsDenied,
    "KMS_INVALID_KEY_USAGE": errors.KmsDenied,
    "KMS_INVALID_STATE": errors.KmsDenied,
    "KMS_NOT_FOUND": errors.KmsDenied,
    "KMS_PLAINTEXT_REFUSED": errors.KmsDenied,
    "KMS_VALIDATION": errors.KmsDenied,
    "KMS_CIRCUIT_OPEN": errors.KmsUnavailable,
    "KMS_THROTTLED": errors.KmsUnavailable,
    "STORAGE_CHANGED": errors.StorageError,
    "STORAGE_DENIED": errors.StorageError,
    "STORAGE_RANGE": errors.StorageError,
    "STORAGE_CIRCUIT_OPEN": errors.StorageUnavailable,
    "VERSION_UNSUPPORTED": errors.InvalidRequest,
}


def _tree(kind: type[EphemeralError]) -> Iterator[type[EphemeralError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


KIND_OF_CODE: Final[Mapping[str, type[EphemeralError]]] = MappingProxyType(
    {**{kind.default_code: kind for kind in _tree(EphemeralError)}, **_EXACT_CODES}
)
"""Every code a peer may name."""


def status_of(error: EphemeralError) -> StatusCode:
    """Return the status of an error: its class's row, or that of the nearest base."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def trailers_of(error: EphemeralError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of an error."""
    code = (CODE_KEY, error.code)
    if isinstance(error, errors.Overloaded):
        return code, (RETRY_AFTER_KEY, str(round(error.retry_after * 1000)))
    return (code,)


def one_line(text: str) -> str:
    """Return `text` as one short printable line: a peer's control characters reach no terminal or log."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_MAX_TEXT]).strip()


def error_from(failure: grpc.RpcError) -> EphemeralError:
    """Return the typed error of a failed call, from a sync or an asyncio stub."""
    if not isinstance(failure, grpc.Call | grpc.aio.AioRpcError):
        return errors.Unavailable("the call failed without a status")
    status, trailers = failure.code(), _text_items(failure.trailing_metadata())
    text = one_line(failure.details() or "") or f"the call failed with {status.name}"
    code = trailers.get(CODE_KEY, "")
    named = KIND_OF_CODE.get(code)
    if named is not None and STATUS_OF[named] is status:
        error = named(text, code=code)
    else:
        error = _KIND_OF_STATUS.get(status, errors.ServiceError)(text)
    if isinstance(error, errors.Overloaded):
        error.retry_after = _retry_after(trailers.get(RETRY_AFTER_KEY, ""), error.retry_after)
    return error


def _text_items(metadata: object) -> dict[str, str]:
    pairs = metadata if isinstance(metadata, tuple | grpc.aio.Metadata) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _retry_after(text: str, otherwise: float) -> float:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_RETRY_AFTER_MS))):
        return otherwise
    return min(int(text), _MAX_RETRY_AFTER_MS) / 1000
