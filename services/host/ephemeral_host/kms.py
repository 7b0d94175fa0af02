"""KmsProxyService: forwards two KMS calls with the host's credentials, for an attested recipient only.

The answer is sealed for the RSA key in the enclave's attestation document. An answer that carries a plaintext key is
not passed on: it means that KMS took no notice of the recipient, and that this host has just seen a data key.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import grpc

from ephemeral import rpc
from ephemeral.errors import EphemeralError, InvalidRequest, KmsDenied, KmsUnavailable
from ephemeral.protocol import DEK_BYTES, MAX_CMS_BYTES, MAX_DOCUMENT_BYTES, MAX_WRAPPED_KEY_BYTES
from ephemeral.wire import (
    KmsDecryptRequest,
    KmsDecryptResponse,
    KmsGenerateDataKeyRequest,
    KmsGenerateDataKeyResponse,
    KmsProxyServiceServicer,
)
from ephemeral_host.aws import FAILURES, Failure, diagnose
from ephemeral_host.resilience import Backend

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_kms.type_defs import RecipientInfoTypeDef

_log = logging.getLogger(__name__)

T = TypeVar("T")
_MOST: Final = timedelta(seconds=60)
_MAX_ARN: Final = 512
_MAX_CONTEXT_ENTRIES: Final = 8
_MAX_CONTEXT_TEXT: Final = 512

_CODE_OF: Final[Mapping[str, str]] = {
    "AccessDeniedException": "KMS_ACCESS_DENIED",
    "DisabledException": "KMS_DISABLED",
    "IncorrectKeyException": "KMS_INCORRECT_KEY",
    "InvalidCiphertextException": "KMS_INVALID_CIPHERTEXT",
    "InvalidKeyUsageException": "KMS_INVALID_KEY_USAGE",
    "KMSInvalidStateException": "KMS_INVALID_STATE",
    "NotFoundException": "KMS_NOT_FOUND",
    "ValidationException": "KMS_VALIDATION",
}


class KmsProxyService(KmsProxyServiceServicer):
    """Forwards Decrypt and GenerateDataKey; asks again when KMS throttles or fails, never when it refuses."""

    def __init__(self, client: "KMSClient", backend: Backend) -> None:
        self._client = client
        self._backend = backend

    @rpc.serving
    def Decrypt(self, request: KmsDecryptRequest, context: grpc.ServicerContext) -> KmsDecryptResponse:  # noqa: N802
        """Forward kms:Decrypt (docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html)."""
        _require(0 < len(request.ciphertext_blob) <= MAX_WRAPPED_KEY_BYTES, "ciphertext_blob")
        encryption_context = _encryption_context(request)

        def forward() -> KmsDecryptResponse:
            answer = self._client.decrypt(
                KeyId=request.key_arn,
                CiphertextBlob=request.ciphertext_blob,
                EncryptionContext=encryption_context,
                Recipient=_recipient(request),
            )
            return KmsDecryptResponse(ciphertext_for_recipient=_sealed(answer))

        return self._ask(forward, context)

    @rpc.serving
    def GenerateDataKey(  # noqa: N802
        self, request: KmsGenerateDataKeyRequest, context: grpc.ServicerContext
    ) -> KmsGenerateDataKeyResponse:
        """Forward kms:GenerateDataKey (docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html)."""
        _require(request.number_of_bytes == DEK_BYTES, "number_of_bytes")
        encryption_context = _encryption_context(request)

        def forward() -> KmsGenerateDataKeyResponse:
            answer = self._client.generate_data_key(
                KeyId=request.key_arn,
                NumberOfBytes=request.number_of_bytes,
                EncryptionContext=encryption_context,
                Recipient=_recipient(request),
            )
            sealed = _sealed(answer)
            wrapped = _bytes_field(answer, "CiphertextBlob", MAX_WRAPPED_KEY_BYTES)
            return KmsGenerateDataKeyResponse(ciphertext_blob=wrapped, ciphertext_for_recipient=sealed)

        return self._ask(forward, context)

    def _ask(self, forward: Callable[[], T], context: grpc.ServicerContext) -> T:
        def attempt() -> T:
            try:
                return forward()
            except FAILURES as failure:
                raise _error_of(failure) from None

        return self._backend.call(attempt, rpc.deadline(context, _MOST), wanted=context.is_active)


def _require(holds: bool, field: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    if not holds:
        raise InvalidRequest(f"{field} is missing, too long or not what protocol version 1 allows")


def _encryption_context(request: KmsDecryptRequest | KmsGenerateDataKeyRequest) -> dict[str, str]:
    _require(0 < len(request.key_arn) <= _MAX_ARN, "key_arn")
    _require(0 < len(request.attestation_document) <= MAX_DOCUMENT_BYTES, "attestation_document")
    entries = dict(request.encryption_context)
    texts = [*entries, *entries.values()]
    _require(len(entries) <= _MAX_CONTEXT_ENTRIES, "encryption_context")
    _require(all(0 < len(text) <= _MAX_CONTEXT_TEXT for text in texts), "encryption_context")
    return entries


def _recipient(request: KmsDecryptRequest | KmsGenerateDataKeyRequest) -> "RecipientInfoTypeDef":
    return {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
        "AttestationDocument": request.attestation_document,
    }


def _sealed(answer: Mapping[str, object]) -> bytes:
    if answer.get("Plaintext"):
        _log.critical("KMS answered with a plaintext data key: the key policy or the endpoint ignores the recipient")
        raise KmsDenied("KMS did not seal its answer for the enclave", code="KMS_PLAINTEXT_REFUSED")
    return _bytes_field(answer, "CiphertextForRecipient", MAX_CMS_BYTES)


def _bytes_field(answer: Mapping[str, object], name: str, most: int) -> bytes:
    value = answer.get(name)
    if not isinstance(value, bytes) or not 0 < len(value) <= most:
        # boto3 gives an empty answer when the body is cut short or is not JSON.
        raise KmsUnavailable(f"KMS answered without a usable {name}")
    return value


def _error_of(failure: Failure) -> EphemeralError:
    diagnosis = diagnose(failure)
    if diagnosis.throttled:
        return KmsUnavailable("KMS is throttling", code="KMS_THROTTLED")
    if diagnosis.transient:
        return KmsUnavailable(f"KMS did not answer: {diagnosis.code}")
    code = "KMS_CREDENTIALS" if diagnosis.credentials else _CODE_OF.get(diagnosis.code, KmsDenied.default_code)
    _log.warning("KMS refused with %s, HTTP status %d", diagnosis.code, diagnosis.status)
    return KmsDenied(f"KMS refused: {diagnosis.code}", code=code)
