"""The principal is who signed: unmodified boto3 signs, and nothing unsigned, altered or old passes."""

import http.client
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError

from ephemeral_devstack.credentials import RoleCredentials, issue_credentials, role_arn
from ephemeral_devstack.kms.refusal import Refusal
from ephemeral_devstack.kms.signature import authenticate
from tests.support.simulated_kms import SimulatedKms, code_of

ROLE = issue_credentials(role_arn("host"))
ROLES = {ROLE.access_key_id: ROLE}
BODY = b'{"NumberOfBytes": 8}'
TARGET = "TrentService.GenerateRandom"


def signed(role: RoleCredentials = ROLE, *, service: str = "kms") -> dict[str, str]:
    """Return the headers that botocore signs for a call, named in lower case."""
    headers = {"Host": "127.0.0.1:1", "X-Amz-Target": TARGET, "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest(method="POST", url="http://127.0.0.1:1/", headers=headers, data=BODY)
    SigV4Auth(ReadOnlyCredentials(role.access_key_id, role.secret_access_key, None), service, "us-east-1").add_auth(
        request
    )
    return {name.lower(): value for name, value in request.headers.items()}


def refusal(headers: dict[str, str], body: bytes = BODY, *, later: timedelta = timedelta(0)) -> str:
    with pytest.raises(Refusal) as caught:
        authenticate(headers, body, ROLES, datetime.now(UTC) + later)
    return caught.value.name


def test_botocore_signature_names_its_role() -> None:
    assert authenticate(signed(), BODY, ROLES, datetime.now(UTC)) is ROLE


def test_altered_body_is_refused() -> None:
    assert refusal(signed(), BODY + b" ") == "InvalidSignatureException"


@pytest.mark.parametrize("name", ["x-amz-target", "host", "content-type"])
def test_altered_signed_header_is_refused(name: str) -> None:
    headers = signed()
    assert refusal({**headers, name: headers[name] + "x"}) == "InvalidSignatureException"


def test_operation_outside_the_signature_is_refused() -> None:
    headers = signed()
    headers["authorization"] = headers["authorization"].replace(";x-amz-target", "")
    assert refusal(headers) == "IncompleteSignatureException"


@pytest.mark.parametrize("minutes", [6, -6])
def test_signature_of_another_time_is_refused(minutes: int) -> None:
    assert refusal(signed(), later=timedelta(minutes=minutes)) == "InvalidSignatureException"


def test_signature_for_another_service_is_refused() -> None:
    assert refusal(signed(service="s3")) == "IncompleteSignatureException"


def test_claimed_body_hash_does_not_stand_in_for_the_body() -> None:
    headers = {"Host": "127.0.0.1:1", "X-Amz-Target": TARGET, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    request = AWSRequest(method="POST", url="http://127.0.0.1:1/", headers=headers, data=BODY)
    SigV4Auth(ReadOnlyCredentials(ROLE.access_key_id, ROLE.secret_access_key, None), "kms", "us-east-1").add_auth(
        request
    )
    assert refusal({name.lower(): value for name, value in request.headers.items()}) == "IncompleteSignatureException"


@pytest.mark.parametrize(
    "mangle",
    [
        lambda text: text.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        lambda text: text.replace("Signature=", "Signature=0"),
        lambda text: text + ", Signature=" + "0" * 64,
        lambda text: text.replace("Credential=", "Credential=x"),
        lambda _text: "",
    ],
)
def test_authorization_header_of_another_form_is_refused(mangle: object) -> None:
    headers = signed()
    assert callable(mangle)
    assert refusal({**headers, "authorization": mangle(headers["authorization"])}) == "IncompleteSignatureException"


def test_unsigned_call_is_refused() -> None:
    headers = signed()
    del headers["authorization"]
    assert refusal(headers) == "MissingAuthenticationTokenException"


def test_wrong_secret_is_refused_over_the_wire(kms: SimulatedKms) -> None:
    thief = replace(kms.roles["publisher"], secret_access_key="x" * 40)
    with pytest.raises(ClientError) as caught:
        kms.client_as(thief).generate_random(NumberOfBytes=8)
    assert code_of(caught.value) == ("InvalidSignatureException", 400)


def test_unknown_access_key_is_refused_over_the_wire(kms: SimulatedKms) -> None:
    with pytest.raises(ClientError) as caught:
        kms.client_as(issue_credentials(role_arn("publisher"))).generate_random(NumberOfBytes=8)
    assert code_of(caught.value) == ("UnrecognizedClientException", 400)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Content-Length": "999999999"}, 400),
        ({"Content-Length": "-1"}, 400),
        ({"Content-Length": "x"}, 400),
    ],
)
def test_call_that_is_no_call_gets_an_error_and_leaves_the_server_up(
    kms: SimulatedKms, headers: dict[str, str], status: int
) -> None:
    connection = http.client.HTTPConnection(urlsplit(kms.url).netloc, timeout=10)
    connection.putrequest("POST", "/")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()
    assert len(kms.client("host").generate_random(NumberOfBytes=8)["Plaintext"]) == 8
