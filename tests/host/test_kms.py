"""The KMS proxy forwards for an attested recipient only, asks again only where that helps, and leaks nothing."""

import base64
import json
import logging
from collections.abc import Iterator
from datetime import timedelta

import grpc
import pytest

from ephemeral import rpc
from ephemeral.errors import EphemeralError, InvalidRequest, KmsDenied, KmsUnavailable
from ephemeral.wire import (
    KmsDecryptRequest,
    KmsGenerateDataKeyRequest,
    KmsProxyServiceStub,
    add_KmsProxyServiceServicer_to_server,
)
from ephemeral_host.aws import kms_client
from ephemeral_host.config import load
from ephemeral_host.kms import KmsProxyService
from ephemeral_host.resilience import Backend, CircuitBreaker, RetryPolicy
from tests.support.aws_environment import FAKE_KEY_ID, FAKE_SECRET, aws_environment, set_environment
from tests.support.host_service import served
from tests.support.planned_http import PlannedServer, Reply, aws_error, aws_json

ARN = "arn:aws:kms:us-east-1:111122223333:key/0"
CONTEXT = {"model_id": "minilm", "version": "1", "content_sha256": "00" * 32}
DECRYPT = KmsDecryptRequest(
    key_arn=ARN, ciphertext_blob=b"wrapped", encryption_context=CONTEXT, attestation_document=b"document"
)
GENERATE = KmsGenerateDataKeyRequest(
    key_arn=ARN, number_of_bytes=32, encryption_context=CONTEXT, attestation_document=b"document"
)
RECIPIENT = {
    "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
    "AttestationDocument": base64.b64encode(b"document").decode(),
}
QUICK = RetryPolicy(attempts=3, first_pause=timedelta(milliseconds=1), longest_pause=timedelta(milliseconds=2))


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


SEALED = aws_json(200, KeyId=ARN, CiphertextForRecipient=b64(b"sealed"))


@pytest.fixture(scope="module")
def kms() -> Iterator[PlannedServer]:
    with PlannedServer().running() as server:
        yield server


@pytest.fixture(scope="module")
def stub(kms: PlannedServer) -> Iterator[KmsProxyServiceStub]:
    with pytest.MonkeyPatch.context() as patch:
        settings = {"S3_BUCKET": "models", "MODELS": "a=b", "AWS_TIMEOUT_SECONDS": "0.3"}
        set_environment(patch, aws_environment(kms=kms.url))
        set_environment(patch, {f"EPHEMERALML_{name}": value for name, value in settings.items()})
        breaker = CircuitBreaker(failures=1000)
        service = KmsProxyService(kms_client(load()), Backend("KMS", KmsUnavailable, policy=QUICK, breaker=breaker))
    with served(service, add_KmsProxyServiceServicer_to_server) as channel:
        yield KmsProxyServiceStub(channel)


def failure(stub: KmsProxyServiceStub, request: KmsDecryptRequest = DECRYPT) -> EphemeralError:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Decrypt(request, timeout=30)
    return rpc.error_from(caught.value)


def test_decrypt_forwards_recipient_and_context_and_returns_the_sealed_key(
    kms: PlannedServer, stub: KmsProxyServiceStub
) -> None:
    kms.plan(SEALED)
    assert stub.Decrypt(DECRYPT, timeout=30).ciphertext_for_recipient == b"sealed"
    (asked,) = kms.asked
    assert asked.headers["X-Amz-Target"] == "TrentService.Decrypt"
    assert json.loads(asked.body) == {
        "KeyId": ARN,
        "CiphertextBlob": b64(b"wrapped"),
        "EncryptionContext": CONTEXT,
        "Recipient": RECIPIENT,
    }


def test_generate_data_key_forwards_recipient_and_context_and_returns_both_forms(
    kms: PlannedServer, stub: KmsProxyServiceStub
) -> None:
    kms.plan(aws_json(200, KeyId=ARN, CiphertextBlob=b64(b"wrapped"), CiphertextForRecipient=b64(b"sealed")))
    answer = stub.GenerateDataKey(GENERATE, timeout=30)
    assert (answer.ciphertext_blob, answer.ciphertext_for_recipient) == (b"wrapped", b"sealed")
    (asked,) = kms.asked
    assert json.loads(asked.body) == {
        "KeyId": ARN,
        "NumberOfBytes": 32,
        "EncryptionContext": CONTEXT,
        "Recipient": RECIPIENT,
    }


def test_an_answer_with_a_plaintext_key_is_never_relayed(
    kms: PlannedServer, stub: KmsProxyServiceStub, caplog: pytest.LogCaptureFixture
) -> None:
    """A KMS, or an endpoint, that ignores the recipient hands the data key to the untrusted host."""
    plaintext = b64(b"k" * 32)
    kms.plan(aws_json(200, KeyId=ARN, Plaintext=plaintext, CiphertextForRecipient=b64(b"sealed")))
    error = failure(stub)
    assert (type(error), error.code) == (KmsDenied, "KMS_PLAINTEXT_REFUSED")
    assert [record.levelno for record in caplog.records if record.name == "ephemeral_host.kms"] == [logging.CRITICAL]
    assert plaintext not in caplog.text
    assert "k" * 32 not in caplog.text


@pytest.mark.parametrize(
    ("aws", "code"),
    [
        ("AccessDeniedException", "KMS_ACCESS_DENIED"),
        ("DisabledException", "KMS_DISABLED"),
        ("ExpiredTokenException", "KMS_CREDENTIALS"),
        ("IncorrectKeyException", "KMS_INCORRECT_KEY"),
        ("InvalidCiphertextException", "KMS_INVALID_CIPHERTEXT"),
        ("InvalidKeyUsageException", "KMS_INVALID_KEY_USAGE"),
        ("KMSInvalidStateException", "KMS_INVALID_STATE"),
        ("NotFoundException", "KMS_NOT_FOUND"),
        ("SomethingNewException", "KMS_DENIED"),
        ("UnrecognizedClientException", "KMS_CREDENTIALS"),
        ("ValidationException", "KMS_VALIDATION"),
    ],
)
def test_a_refusal_has_a_stable_code_and_is_not_asked_again(
    kms: PlannedServer, stub: KmsProxyServiceStub, aws: str, code: str
) -> None:
    kms.plan(aws_error(aws), SEALED)
    error = failure(stub)
    assert (type(error), error.code) == (KmsDenied, code)
    assert len(kms.asked) == 1


def test_neither_awss_message_nor_a_credential_reaches_the_peer_or_the_log(
    kms: PlannedServer, stub: KmsProxyServiceStub, caplog: pytest.LogCaptureFixture
) -> None:
    kms.plan(aws_error("AccessDeniedException"), aws_error("ThrottlingException"), SEALED)
    with caplog.at_level(logging.INFO):
        said = failure(stub).detail
        stub.Decrypt(DECRYPT, timeout=30)
    for secret in ("secret-role", FAKE_KEY_ID, FAKE_SECRET):
        assert secret not in said + caplog.text
    assert "AccessDeniedException" in said
    assert "AccessDeniedException" in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        aws_error("ThrottlingException"),
        aws_error("KMSInternalException", 500),
        aws_error("DependencyTimeoutException", 503),
        Reply(502, b"<html>bad gateway</html>"),
        Reply(200, b"not json", {"Content-Type": "application/x-amz-json-1.1"}),
        Reply(200, SEALED.body, SEALED.headers, missing=4),
        Reply(stalled=True),
        aws_json(200, KeyId=ARN),
        aws_json(200, KeyId=ARN, CiphertextForRecipient=b64(bytes(8193))),
    ],
    ids=["throttle", "500", "503", "gateway", "garbage", "cut", "stall", "no sealed key", "huge"],
)
def test_a_passing_failure_is_asked_again_with_the_same_request(
    kms: PlannedServer, stub: KmsProxyServiceStub, fault: Reply
) -> None:
    kms.plan(fault, fault, SEALED)
    assert stub.Decrypt(DECRYPT, timeout=30).ciphertext_for_recipient == b"sealed"
    assert len({asked.body for asked in kms.asked}) == 1
    assert len(kms.asked) == 3


@pytest.mark.parametrize(
    ("fault", "code"),
    [(aws_error("ThrottlingException"), "KMS_THROTTLED"), (Reply(503), "KMS_UNAVAILABLE")],
    ids=["throttle", "503"],
)
def test_a_failure_that_stays_is_unavailable_in_the_end(
    kms: PlannedServer, stub: KmsProxyServiceStub, fault: Reply, code: str
) -> None:
    kms.plan(*[fault] * 9)
    error = failure(stub)
    assert (type(error), error.code) == (KmsUnavailable, code)
    assert len(kms.asked) == QUICK.attempts


def changed(**fields: object) -> KmsDecryptRequest:
    base: dict[str, object] = {
        "key_arn": ARN,
        "ciphertext_blob": b"wrapped",
        "encryption_context": CONTEXT,
        "attestation_document": b"document",
    }
    return KmsDecryptRequest(**(base | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_",
    [
        changed(key_arn=""),
        changed(key_arn="a" * 513),
        changed(ciphertext_blob=b""),
        changed(ciphertext_blob=bytes(6145)),
        changed(attestation_document=b""),
        changed(attestation_document=bytes(20_481)),
        changed(encryption_context={str(i): "x" for i in range(9)}),
        changed(encryption_context={"k": "v" * 513}),
        changed(encryption_context={"k": ""}),
    ],
    ids=lambda request: f"{request.ByteSize()} bytes",
)
def test_a_request_without_a_recipient_or_beyond_the_caps_never_reaches_kms(
    kms: PlannedServer, stub: KmsProxyServiceStub, request_: KmsDecryptRequest
) -> None:
    """Without a document KMS would answer with the plaintext key."""
    kms.plan(SEALED)
    assert isinstance(failure(stub, request_), InvalidRequest)
    assert not kms.asked


def test_only_data_keys_of_the_protocols_length_are_asked_for(kms: PlannedServer, stub: KmsProxyServiceStub) -> None:
    kms.plan(SEALED)
    request = KmsGenerateDataKeyRequest(key_arn=ARN, number_of_bytes=16, attestation_document=b"document")
    with pytest.raises(grpc.RpcError) as caught:
        stub.GenerateDataKey(request, timeout=30)
    assert isinstance(rpc.error_from(caught.value), InvalidRequest)
    assert not kms.asked
