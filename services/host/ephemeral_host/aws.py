"""boto3 clients that fail fast and leave retrying to ``ephemeral_host.resilience``, and what their failures say.

Nothing of a failure but AWS's own short error code leaves this module: messages quote ARNs, keys and requests.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, not an OSError
    HTTPClientError,
    IncompleteReadError,
    NoRegionError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError

from ephemeral.errors import ConfigError
from ephemeral_host.config import HostConfig

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

_UNANSWERED: Final = (ConnectionError, HTTPClientError, IncompleteReadError, ResponseParserError)
Failure = ClientError | BotoCoreError
FAILURES: Final = (ClientError, BotoCoreError)

_THROTTLED: Final = frozenset(
    {"Throttling", "ThrottlingException", "RequestLimitExceeded", "SlowDown", "TooManyRequestsException"}
)
_CREDENTIALS: Final = frozenset(
    {
        "CredentialRetrievalError",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NoCredentialsError",
        "PartialCredentialsError",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a failed call to AWS means for the caller."""

    code: str
    """AWS's error code, or the exception's name when nothing answered."""
    status: int
    """HTTP status; 0 when nothing answered, 400 when boto3 itself refused to ask."""

    @property
    def throttled(self) -> bool:
        """Whether AWS asks for patience."""
        return self.code in _THROTTLED or self.status == 429

    @property
    def transient(self) -> bool:
        """Whether asking again may help."""
        return self.throttled or self.status >= 500 or self.status == 0

    @property
    def credentials(self) -> bool:
        """Whether the host's own credentials are missing, wrong or expired."""
        return self.code in _CREDENTIALS


def diagnose(failure: Failure) -> Diagnosis:
    """Read a failure of boto3."""
    if isinstance(failure, ParamValidationError):
        return Diagnosis("ValidationException", 400)
    if not isinstance(failure, ClientError):
        return Diagnosis(type(failure).__name__, 0 if isinstance(failure, _UNANSWERED) else 400)
    error = failure.response.get("Error", {})
    status = failure.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Diagnosis(str(error.get("Code", ""))[:64], int(status))


def _config(settings: HostConfig) -> Config:
    return Config(
        connect_timeout=settings.aws_timeout_seconds,
        read_timeout=settings.aws_timeout_seconds,
        max_pool_connections=settings.service_threads,
        retries={"total_max_attempts": 1, "mode": "standard"},
        response_checksum_validation="when_required",  # the enclave checks every byte itself
    )


def kms_client(settings: HostConfig) -> "KMSClient":
    """Return a KMS client.

    Raises:
        ConfigError: AWS settings are incomplete.
    """
    try:
        return boto3.session.Session().client("kms", config=_config(settings))
    except (ValueError, *FAILURES) as failure:
        raise _incomplete(failure) from None


def s3_client(settings: HostConfig) -> "S3Client":
    """Return an S3 client.

    Raises:
        ConfigError: AWS settings are incomplete.
    """
    try:
        return boto3.session.Session().client("s3", config=_config(settings))
    except (ValueError, *FAILURES) as failure:
        raise _incomplete(failure) from None


def _incomplete(failure: Exception) -> ConfigError:
    if isinstance(failure, NoRegionError):
        return ConfigError("AWS_DEFAULT_REGION is required")
    return ConfigError(f"the AWS_* settings are not usable: {type(failure).__name__}")
