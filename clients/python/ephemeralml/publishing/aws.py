"""Clients of AWS's KMS and S3, and their errors as ours; the one module of publishing that needs the extra `aws`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from ephemeral.errors import ConfigError, KmsDenied, KmsUnavailable, StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

_RETRIES: Final = Config(retries={"mode": "standard", "total_max_attempts": 5})
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})  # 412, and 409 while another writes
_FIRST_SERVER_ERROR: Final = 500
_THROTTLED: Final = frozenset({"ThrottlingException", "Throttling", "RequestTimeoutException"})
_NO_CREDENTIALS: Final = (NoCredentialsError, PartialCredentialsError)


def connect_kms(key_arn: str, url: str | None) -> "KMSClient":
    """Return a client of the KMS in the key's own region, under the standard AWS_* variables and files.

    Raises:
        ConfigError: the variables or files do not make a session.
    """
    with _session_errors():
        return boto3.Session().client("kms", region_name=_region(key_arn), endpoint_url=url, config=_RETRIES)


def connect_s3(key_arn: str, url: str | None) -> "S3Client":
    """Return a client of S3; without AWS_REGION or the like, in the region of the KMS key.

    Raises:
        ConfigError: the variables or files do not make a session.
    """
    with _session_errors():
        session = boto3.Session()
        region = session.region_name or _region(key_arn)
        return session.client("s3", region_name=region, endpoint_url=url, config=_RETRIES)


def put_new(s3: "S3Client", bucket: str, key: str, body: bytes) -> bool:
    """Store an object where none is; return False if there is one.

    Raises:
        StorageUnavailable: S3 refused.
    """
    with storage_errors(bucket):
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
        except ClientError as error:
            if error_code(error) not in _TAKEN:
                raise
            return False
    return True


def object_size(s3: "S3Client", bucket: str, key: str) -> int | None:
    """Return an object's size in bytes, None if there is none.

    Raises:
        StorageUnavailable: S3 refused.
    """
    with storage_errors(bucket):
        try:
            return s3.head_object(Bucket=bucket, Key=key)["ContentLength"]
        except ClientError as error:
            if error_code(error) not in _MISSING:
                raise
            return None


def read_object(s3: "S3Client", bucket: str, key: str, most: int) -> bytes:
    """Return the first `most` bytes of an object.

    Raises:
        StorageUnavailable: S3 refused.
    """
    with storage_errors(bucket):
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read(most)


@contextmanager
def kms_errors() -> Iterator[None]:
    """Turn what boto3 raises into a refusal (KmsDenied) or a failure that may pass (KmsUnavailable)."""
    try:
        yield
    except _NO_CREDENTIALS as error:
        raise _settings(error) from None
    except ClientError as error:
        passing = error_code(error) in _THROTTLED or _status(error) >= _FIRST_SERVER_ERROR
        kind = KmsUnavailable if passing else KmsDenied
        raise kind(f"no data key from KMS: {error}") from error
    except BotoCoreError as error:
        raise KmsUnavailable(f"no data key from KMS: {error}") from error


@contextmanager
def storage_errors(bucket: str) -> Iterator[None]:
    """Turn what boto3 raises into StorageUnavailable."""
    try:
        yield
    except _NO_CREDENTIALS as error:
        raise _settings(error) from None
    except (ClientError, BotoCoreError) as error:
        raise StorageUnavailable(f"bucket {bucket}: {error}") from error


def error_code(error: ClientError) -> str:
    """Return AWS's own short code for what went wrong."""
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def _session_errors() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ValueError) as error:
        raise _settings(error) from None


def _region(key_arn: str) -> str:
    return key_arn.split(":")[3]


def _settings(error: Exception) -> ConfigError:
    return ConfigError(f"AWS settings: {error}", code="AWS_SETTINGS")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
