"""Clients of AWS's KMS and S3, and their errors as ours; the one module of publishing that needs the extra `aws`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from ephemeral.errors import ConfigError, KmsDenied, KmsUnavailable, StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

_PART_BYTES: Final = 8 * 1024 * 1024
_ATTEMPTS: Final = 5
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})  # 412, and 409 while another writes
_FIRST_SERVER_ERROR: Final = 500
_THROTTLED: Final = frozenset({"ThrottlingException", "Throttling", "RequestTimeoutException"})
_NO_CREDENTIALS: Final = (NoCredentialsError, PartialCredentialsError)


def connect(key_arn: str, kms_url: str | None, s3_url: str | None) -> "tuple[KMSClient, S3Client]":
    """Return clients under the standard AWS_* variables and files; KMS is asked in the key's own region.

    Raises:
        ConfigError: the variables or files do not make a session.
    """
    region = key_arn.split(":")[3]
    retries = Config(retries={"mode": "standard", "total_max_attempts": _ATTEMPTS})
    try:
        session = boto3.Session()
        kms = session.client("kms", region_name=region, endpoint_url=kms_url, config=retries)
        s3 = session.client("s3", region_name=session.region_name or region, endpoint_url=s3_url, config=retries)
    except (BotoCoreError, ValueError) as error:
        raise _settings(error) from None
    return kms, s3


def upload_file(s3: "S3Client", bucket: str, key: str, path: Path, progress: Callable[[int], None] | None) -> None:
    """Upload a file in parts of 8 MiB; `progress` is told the bytes of each piece.

    Raises:
        StorageUnavailable: S3 refused, or did not take all of it.
    """
    parts = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES)
    with storage_errors(bucket):
        s3.upload_file(str(path), bucket, key, Callback=progress, Config=parts)


def put_new(s3: "S3Client", bucket: str, key: str, body: bytes) -> bool:
    """Store an object where none is; return False if there is one.

    Raises:
        StorageUnavailable: S3 refused.
    """
    with storage_errors(bucket):
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
        except ClientError as error:
            if _code(error) not in _TAKEN:
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
            if _code(error) not in _MISSING:
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
        passing = _code(error) in _THROTTLED or _status(error) >= _FIRST_SERVER_ERROR
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
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise StorageUnavailable(f"bucket {bucket}: {error}") from error


def _settings(error: Exception) -> ConfigError:
    return ConfigError(f"AWS settings: {error}", code="AWS_SETTINGS")


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
