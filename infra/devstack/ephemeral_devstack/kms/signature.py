"""AWS Signature Version 4, checked: the access key in it names the principal, so it must be that key's signature.

The arithmetic is botocore's own signer, run over what was received; what is ours is the strict reading of the header.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from ephemeral_devstack.credentials import RoleCredentials
from ephemeral_devstack.kms.refusal import Refusal

_HEADER: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<access_key_id>[A-Z0-9]{16,128})/(?P<date>\d{8})/(?P<region>[a-z0-9-]{1,32})/kms/"
    r"aws4_request, ?SignedHeaders=(?P<signed>[a-z0-9-]+(?:;[a-z0-9-]+)*), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_TIMESTAMP: Final = "%Y%m%dT%H%M%SZ"
_MAX_SKEW: Final = timedelta(minutes=5)
# The host, the moment and the operation must be under the signature; the body always is, by its SHA-256.
_MUST_BE_SIGNED: Final = frozenset({"host", "x-amz-date", "x-amz-target"})


def authenticate(
    headers: Mapping[str, str], body: bytes, roles: Mapping[str, RoleCredentials], now: datetime
) -> RoleCredentials:
    """Return the role whose secret signed `POST /` with these headers (names in lower case) and this body.

    `roles` is keyed by access key id.

    Raises:
        Refusal: MissingAuthenticationTokenException, IncompleteSignatureException, UnrecognizedClientException or
            InvalidSignatureException.
    """
    header = _HEADER.fullmatch(headers.get("authorization", ""))
    if "authorization" not in headers:
        raise Refusal("MissingAuthenticationTokenException", "Missing Authentication Token")
    if header is None:
        raise Refusal("IncompleteSignatureException", "the Authorization header is not SigV4 for kms")
    signed = header["signed"].split(";")
    if not set(signed) >= _MUST_BE_SIGNED or len(set(signed)) != len(signed) or not headers.keys() >= set(signed):
        raise Refusal("IncompleteSignatureException", f"SignedHeaders must cover {', '.join(sorted(_MUST_BE_SIGNED))}")
    role = roles.get(header["access_key_id"])
    if role is None:
        raise Refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
    _require_recent(headers["x-amz-date"], header["date"], now)
    expected = _signature(role, header["region"], {name: headers[name] for name in signed}, body)
    if not compare_digest(expected, header["signature"]):
        raise Refusal("InvalidSignatureException", "The request signature does not match.")
    return role


def _require_recent(timestamp: str, scope_date: str, now: datetime) -> None:
    try:
        moment = datetime.strptime(timestamp, _TIMESTAMP).replace(tzinfo=UTC)
    except ValueError:
        moment = None
    if moment is None or abs(now - moment) > _MAX_SKEW or not timestamp.startswith(scope_date):
        raise Refusal("InvalidSignatureException", f"Signature expired or not yet valid: {timestamp[:32]}")


def _signature(role: RoleCredentials, region: str, signed: dict[str, str], body: bytes) -> str:
    signer = SigV4Auth(ReadOnlyCredentials(role.access_key_id, role.secret_access_key, None), "kms", region)
    # A plain http URL makes the signer hash the body; a signed claim about the body would take its place, so it goes.
    request = AWSRequest(method="POST", url=f"http://{signed['host']}/", headers=signed, data=body)
    if "x-amz-content-sha256" in signed:
        raise Refusal("IncompleteSignatureException", "x-amz-content-sha256 is not supported: the body is hashed here")
    request.context["timestamp"] = signed["x-amz-date"]
    return signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
