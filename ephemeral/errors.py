"""Every error of EphemeralML, one shallow tree.

::

    EphemeralError
    ├── ConfigError            a setting, file, address or argument is wrong
    │   ├── AddressError
    │   └── PolicyError        a trust policy that would not protect
    ├── AttestationError       the peer could not prove what it is
    │   ├── MalformedDocument
    │   ├── UntrustedChain
    │   ├── ForgedDocument
    │   ├── StaleDocument
    │   ├── BindingMismatch    a key, nonce or purpose is missing or another's
    │   └── MeasurementMismatch
    ├── SessionError
    │   ├── HandshakeRejected
    │   ├── FrameRejected
    │   ├── SessionUnknown     expired, evicted or never there: open another
    │   └── Truncated          an answer ended before its authenticated end
    ├── ReceiptError
    ├── EvidenceError          kept evidence is damaged, incomplete or does not fit together
    │   └── LogProofError      a proof of an append-only log does not hold
    ├── ModelError             a model may not be loaded
    │   ├── ManifestError
    │   ├── ContainerError
    │   └── ModelFormatError
    ├── ReleaseError           the data key was not released
    │   ├── KmsDenied
    │   ├── KmsUnavailable
    │   └── ForgedRelease
    ├── StorageError
    │   ├── ObjectMissing
    │   └── StorageUnavailable
    ├── RequestRefused         the enclave's sealed answer is a refusal
    └── ServiceError
        ├── InvalidRequest     a field is missing, too long or unknown
        ├── Overloaded
        ├── Unavailable
        └── DeadlineExceeded

A class says what kind of thing went wrong; ``code`` says which rule, stable across versions; the text says what to do.
Misuse of our own API is a ``RuntimeError`` or ``ValueError``, never one of these.
"""

from typing import ClassVar

from ephemeral.verification import VerificationStep


class EphemeralError(Exception):
    """Base of every error that input, a peer or the environment can cause."""

    default_code: ClassVar[str] = "ERROR"
    claimed: bool = False
    """True when a peer says so: nothing of it was found by our own checks."""

    # What passed before this went wrong, and whatever fuller record a verifier attached (the SDK's is a Report).
    steps: tuple[VerificationStep, ...] = ()
    report: object = None

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        """Keep one line for a person and one stable code for a program."""
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.detail, self.code)


def _rebuild(kind: type[EphemeralError], detail: str, code: str) -> EphemeralError:
    return kind(detail, code=code)


class ConfigError(EphemeralError):
    """A setting, file, address or argument is wrong."""

    default_code = "CONFIG"


class AddressError(ConfigError):
    """An address is not tcp://host:port, unix:///path or vsock://cid:port."""

    default_code = "ADDRESS"


class PolicyError(ConfigError):
    """A trust policy is malformed or would not protect."""

    default_code = "POLICY"


class AttestationError(EphemeralError):
    """The peer could not prove what it is; ``steps`` are the checks that passed before the one that failed."""

    default_code = "ATTESTATION"


class MalformedDocument(AttestationError):
    """The attestation document breaks the profile before any signature is looked at."""

    default_code = "MALFORMED_DOCUMENT"


class UntrustedChain(AttestationError):
    """The certificates do not lead from a pinned root to the leaf, or not now."""

    default_code = "UNTRUSTED_CHAIN"


class ForgedDocument(AttestationError):
    """The leaf did not sign the document."""

    default_code = "FORGED_DOCUMENT"


class StaleDocument(AttestationError):
    """The document was not made now."""

    default_code = "STALE_DOCUMENT"


class BindingMismatch(AttestationError):
    """A key, nonce or purpose the document must carry is missing or another's."""

    default_code = "BINDING_MISMATCH"


class MeasurementMismatch(AttestationError):
    """The enclave runs something else than the policy allows."""

    default_code = "MEASUREMENT_MISMATCH"


class SessionError(EphemeralError):
    """The sealed session failed."""

    default_code = "SESSION"


class HandshakeRejected(SessionError):
    """The peer's handshake message breaks the protocol."""

    default_code = "HANDSHAKE_REJECTED"


class FrameRejected(SessionError):
    """A frame is not authentic, or not for here and now; deliberately without detail."""

    default_code = "FRAME_REJECTED"


class SessionUnknown(SessionError):
    """The session expired, was evicted or never was; open another."""

    default_code = "SESSION_UNKNOWN"


class Truncated(SessionError):
    """An answer ended before its authenticated end."""

    default_code = "TRUNCATED"


class ReceiptError(EphemeralError):
    """A receipt does not prove what it should; ``code`` is the first of ``failures``, all of one ``layer``."""

    default_code = "RECEIPT"
    layer: int = 0
    failures: tuple[str, ...] = ()


class EvidenceError(EphemeralError):
    """Kept evidence is damaged, does not fit together, or leaves a required check undone."""

    default_code = "EVIDENCE"


class LogProofError(EvidenceError):
    """A proof that a log holds an entry, or that it only grew, does not hold."""

    default_code = "LOG_PROOF"


class ModelError(EphemeralError):
    """A model may not be loaded."""

    default_code = "MODEL"


class ManifestError(ModelError):
    """A model manifest is malformed, unsigned, signed by a stranger or not the one wanted."""

    default_code = "MANIFEST"


class ContainerError(ModelError):
    """An encrypted container is damaged, cut short, reordered or another's."""

    default_code = "CONTAINER"


class ModelFormatError(ModelError):
    """Decrypted model files are not what the architecture needs."""

    default_code = "MODEL_FORMAT"


class ReleaseError(EphemeralError):
    """The data key was not released."""

    default_code = "RELEASE"


class KmsDenied(ReleaseError):
    """KMS refused; trying again will not help."""

    default_code = "KMS_DENIED"


class KmsUnavailable(ReleaseError):
    """KMS did not answer in time or is throttling."""

    default_code = "KMS_UNAVAILABLE"


class ForgedRelease(ReleaseError):
    """What came back as KMS's answer is not for this key, or not this model's data key; deliberately without detail."""

    default_code = "FORGED_RELEASE"


class StorageError(EphemeralError):
    """An object could not be read."""

    default_code = "STORAGE"


class ObjectMissing(StorageError):
    """There is no such object."""

    default_code = "OBJECT_MISSING"


class StorageUnavailable(StorageError):
    """The store did not answer in time, or answered short."""

    default_code = "STORAGE_UNAVAILABLE"


class RequestRefused(EphemeralError):
    """The enclave refused the request in its sealed answer; ``code`` names the FailureCode."""

    default_code = "REQUEST_REFUSED"


class ServiceError(EphemeralError):
    """The service could not answer; nothing was proven wrong."""

    default_code = "SERVICE"


class InvalidRequest(ServiceError):
    """A request breaks the protocol: a field is missing, too long or unknown."""

    default_code = "INVALID_REQUEST"


class Overloaded(ServiceError):
    """The service is full; try again after ``retry_after`` seconds."""

    default_code = "OVERLOADED"
    retry_after: float = 1.0


class Unavailable(ServiceError):
    """Nothing answers at the address, or it stopped answering."""

    default_code = "UNAVAILABLE"


class DeadlineExceeded(ServiceError):
    """No answer came in time."""

    default_code = "DEADLINE_EXCEEDED"
