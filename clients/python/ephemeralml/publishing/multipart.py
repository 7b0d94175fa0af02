"""A container's way into S3, part by part; what is cut goes on with the parts that S3 has already.

A part that S3 lists counts only if it is this file's: by the SHA-256 that S3 checked when it took the part, or, of a
store that keeps none, by the MD5 in its ETag (Amazon S3 API Reference, "ListParts"). All others are sent again.
"""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import md5, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from ephemeral.errors import StorageUnavailable
from ephemeral.trusted.artifact import ContainerInfo
from ephemeralml.publishing.aws import error_code, object_size, storage_errors
from ephemeralml.publishing.prepared import write_whole

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

PART_BYTES: Final = 8 * 1024 * 1024  # at most 10,000 parts make an object: room for 80 GB
_PARALLEL: Final = 4
_GONE: Final = "NoSuchUpload"
_MAX_JOURNAL_BYTES: Final = 65_536
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of the file; numbers begin at 1."""

    number: int
    body: bytes

    @property
    def checksum(self) -> str:
        return base64.b64encode(sha256(self.body).digest()).decode()

    def is_(self, listed: "PartTypeDef") -> bool:
        """Whether S3 lists this very part."""
        if listed.get("Size") != len(self.body):
            return False
        if checksum := listed.get("ChecksumSHA256"):
            return checksum == self.checksum
        return listed.get("ETag", "").strip('"') == md5(self.body, usedforsecurity=False).hexdigest()

    def completed(self, etag: str) -> "CompletedPartTypeDef":
        return {"PartNumber": self.number, "ETag": etag, "ChecksumSHA256": self.checksum}


class ContainerUpload:
    """The upload of one container; `journal` is a file that outlives an upload which is cut."""

    def __init__(self, s3: "S3Client", bucket: str, container: ContainerInfo, path: Path, journal: Path) -> None:
        self._s3, self._bucket, self._container = s3, bucket, container
        self._path, self._journal = path, journal

    def run(self, progress: Progress) -> None:
        """Upload what S3 does not have; `progress` is told the bytes of each part, those found there included.

        Raises:
            StorageUnavailable: S3 refused or did not answer; the next run goes on where this one stopped.
        """
        if object_size(self._s3, self._bucket, self._container.key) == self._container.size:
            progress(self._container.size)
        else:
            try:
                with storage_errors(self._bucket):
                    self._upload(progress)
            except StorageUnavailable as error:
                text = f"{error.detail}; run the same command again, it goes on where this one stopped"
                raise StorageUnavailable(text, code=error.code) from error
        self._journal.unlink(missing_ok=True)

    def _upload(self, progress: Progress) -> None:
        upload_id, there = self._resumed() or (self._begun(), {})
        numbers = range(1, -(-self._container.size // PART_BYTES) + 1)
        done = [
            part.completed(listed.get("ETag", ""))
            for number, listed in there.items()
            if number in numbers and (part := self._part(number)).is_(listed)
        ]
        kept = {part["PartNumber"] for part in done}
        for number in kept:
            progress(self._size(number))
        done += self._send_all([number for number in numbers if number not in kept], upload_id, progress)
        self._s3.complete_multipart_upload(
            Bucket=self._bucket,
            Key=self._container.key,
            UploadId=upload_id,
            MultipartUpload={"Parts": sorted(done, key=lambda part: part["PartNumber"])},
        )

    def _begun(self) -> str:
        answer = self._s3.create_multipart_upload(
            Bucket=self._bucket, Key=self._container.key, ChecksumAlgorithm="SHA256"
        )
        upload_id = answer["UploadId"]
        record = {"bucket": self._bucket, "key": self._container.key, "upload_id": upload_id}
        write_whole(self._journal, json.dumps(record).encode() + b"\n")
        return upload_id

    def _resumed(self) -> "tuple[str, dict[int, PartTypeDef]] | None":
        """Return the upload that was cut and its parts, None if there is none any more."""
        upload_id = self._journaled()
        if upload_id is None:
            return None
        pages = self._s3.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=self._container.key, UploadId=upload_id
        )
        try:
            return upload_id, {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}
        except ClientError as error:
            if error_code(error) != _GONE:
                raise
            return None

    def _journaled(self) -> str | None:
        """Return the upload that the journal names; one that cannot be read is none, and costs sending again."""
        try:
            with self._journal.open("rb") as stream:
                record = json.loads(stream.read(_MAX_JOURNAL_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
        match record:
            case {"bucket": self._bucket, "key": self._container.key, "upload_id": str(upload_id)} if upload_id:
                return upload_id
        return None

    def _size(self, number: int) -> int:
        return min(PART_BYTES, self._container.size - (number - 1) * PART_BYTES)

    def _part(self, number: int) -> _Part:
        with self._path.open("rb") as stream:
            stream.seek((number - 1) * PART_BYTES)
            return _Part(number, stream.read(PART_BYTES))

    def _send_all(self, numbers: list[int], upload_id: str, progress: Progress) -> "list[CompletedPartTypeDef]":
        pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="upload")
        try:
            sent = [pool.submit(self._send, number, upload_id, progress) for number in numbers]
            return [part.result() for part in as_completed(sent)]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _send(self, number: int, upload_id: str, progress: Progress) -> "CompletedPartTypeDef":
        part = self._part(number)
        answer = self._s3.upload_part(
            Bucket=self._bucket,
            Key=self._container.key,
            UploadId=upload_id,
            PartNumber=number,
            Body=part.body,
            ChecksumSHA256=part.checksum,
        )
        progress(len(part.body))
        return part.completed(answer["ETag"])
