"""StorageService: reads ranges of objects out of the one configured bucket.

The bytes are ciphertext and signed manifests; the enclave checks each of them and believes none.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import grpc

from ephemeral import rpc
from ephemeral.errors import EphemeralError, InvalidRequest, ObjectMissing, StorageError, StorageUnavailable
from ephemeral.protocol import MAX_CHUNK_BYTES
from ephemeral.wire import Chunk, ObjectInfo, ObjectRef, RangeRequest, StorageServiceServicer
from ephemeral_host.aws import FAILURES, Failure, diagnose
from ephemeral_host.resilience import Backend

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef

_log = logging.getLogger(__name__)

_MOST_PER_STEP: Final = timedelta(seconds=60)
_MAX_KEY_BYTES: Final = 1024
_MAX_ETAG: Final = 256
_MAX_OBJECT_BYTES: Final = 5 * 2**40  # S3's own limit
_MISSING: Final = frozenset({"404", "NoSuchKey", "NoSuchBucket"})
_DENIED: Final = frozenset({"403", "AccessDenied", "AllAccessDisabled"})
_CHANGED: Final = frozenset({"412", "PreconditionFailed"})
_OUT_OF_RANGE: Final = frozenset({"416", "InvalidRange"})


class StorageService(StorageServiceServicer):
    """Answers Head and Get for one bucket."""

    def __init__(self, client: "S3Client", bucket: str, backend: Backend) -> None:
        self._client = client
        self._bucket = bucket
        self._backend = backend

    @rpc.serving
    def Head(self, request: ObjectRef, context: grpc.ServicerContext) -> ObjectInfo:  # noqa: N802
        """Return an object's size and ETag."""
        _check_key(request.key)

        def attempt() -> ObjectInfo:
            try:
                head = self._client.head_object(Bucket=self._bucket, Key=request.key)
            except FAILURES as failure:
                raise _error_of(failure) from None
            return ObjectInfo(size=head["ContentLength"], etag=head["ETag"])

        return self._backend.call(attempt, rpc.deadline(context, _MOST_PER_STEP), wanted=context.is_active)

    @rpc.serving
    def Get(self, request: RangeRequest, context: grpc.ServicerContext) -> Iterator[Chunk]:  # noqa: N802
        """Stream exactly the range asked for, in chunks of at most 1 MiB, or end with an error."""
        _check_range(request)
        reader = RangeReader(self._client, self._bucket, request)
        try:
            while reader.left:
                within = rpc.deadline(context, _MOST_PER_STEP)
                yield Chunk(data=self._backend.call(reader.read, within, wanted=context.is_active))
        finally:
            reader.close()


class RangeReader:
    """Reads a range piece by piece; after a failure the next ``read`` goes on where the last one ended.

    The first answer pins the object's ETag, so that no range is ever put together from two objects.
    """

    def __init__(self, client: "S3Client", bucket: str, request: RangeRequest) -> None:
        self.left = request.length
        self._client = client
        self._bucket = bucket
        self._key = request.key
        self._position = request.offset
        self._etag = request.etag
        self._body: StreamingBody | None = None

    def read(self) -> bytes:
        """Return the next bytes, at most 1 MiB.

        Raises:
            StorageUnavailable: S3 did not answer, or answered short; reading again may help.
            StorageError: S3 refused.
        """
        try:
            body = self._body or self._open()
            data = body.read(min(self.left, MAX_CHUNK_BYTES))
        except FAILURES as failure:
            self.close()
            raise _error_of(failure) from None
        if not data:
            self.close()
            raise StorageUnavailable("S3 ended its answer before the end of the range")
        self._position += len(data)
        self.left -= len(data)
        return data

    def close(self) -> None:
        """Drop the connection to S3, whatever it still has to send."""
        if self._body is not None:
            self._body.close()
        self._body = None

    def _open(self) -> "StreamingBody":
        wanted: GetObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._key,
            "Range": f"bytes={self._position}-{self._position + self.left - 1}",
        }
        if self._etag:
            wanted["IfMatch"] = self._etag
        answer = self._client.get_object(**wanted)
        self._body = answer["Body"]
        if not answer.get("ContentRange", "").startswith(f"bytes {self._position}-"):
            self.close()
            raise StorageUnavailable("S3 answered with another range than the one asked for")
        self._etag = self._etag or answer["ETag"]
        return self._body


def _check_key(key: str) -> None:
    if not 0 < len(key.encode()) <= _MAX_KEY_BYTES or not key.isprintable():
        raise InvalidRequest(f"an object key has 1 to {_MAX_KEY_BYTES} bytes of printable UTF-8")


def _check_range(request: RangeRequest) -> None:
    _check_key(request.key)
    if not 0 < request.length <= _MAX_OBJECT_BYTES or request.offset > _MAX_OBJECT_BYTES:
        raise InvalidRequest("a range has at least one byte and lies within S3's largest object")
    if len(request.etag) > _MAX_ETAG or not request.etag.isprintable():
        raise InvalidRequest(f"an ETag has at most {_MAX_ETAG} printable characters")


def _error_of(failure: Failure) -> EphemeralError:
    diagnosis = diagnose(failure)
    if diagnosis.transient:
        return StorageUnavailable(f"S3 did not answer: {diagnosis.code}")
    _log.warning("S3 refused with %s, HTTP status %d", diagnosis.code, diagnosis.status)
    for codes, error in _REFUSALS:
        if diagnosis.code in codes:
            return error()
    if diagnosis.credentials or diagnosis.status == 403:
        return StorageError("S3 refused the host's credentials", code="STORAGE_DENIED")
    return StorageError(f"S3 refused: {diagnosis.code}")


_REFUSALS: Final[tuple[tuple[frozenset[str], Callable[[], EphemeralError]], ...]] = (
    (_MISSING, lambda: ObjectMissing("there is no such object in the bucket")),
    (_DENIED, lambda: StorageError("S3 denied access to the object", code="STORAGE_DENIED")),
    (_CHANGED, lambda: StorageError("the object changed while it was being read", code="STORAGE_CHANGED")),
    (_OUT_OF_RANGE, lambda: StorageError("the range lies outside the object", code="STORAGE_RANGE")),
)
