"""Opening a container inside the enclave while it arrives: no IO, one buffer, one pass."""

import mmap
from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import NoReturn

from cryptography.exceptions import InvalidTag

from ephemeral.errors import ContainerError
from ephemeral.protocol import TAG_BYTES
from ephemeral.trusted.artifact.layout import (
    HEADER_BYTES,
    NONCE_PREFIX_BYTES,
    ContainerInfo,
    ModelFile,
    chunk_aad,
    chunk_nonce,
    container_cipher,
    container_size,
    encode_header,
)
from ephemeral.trusted.secrets import SecretBytes


class ContainerOpener:
    """Decrypts a container pushed in pieces of any size straight into one buffer.

    Every chunk is authenticated as it completes, and the whole against the manifest's digest at the end; nothing of the
    plaintext is handed out before. The caller MUST have checked `dek` against the manifest's commitment.
    """

    def __init__(self, info: ContainerInfo, plaintext_size: int, dek: SecretBytes) -> None:
        """Reserve the plaintext once: pages that nothing is written to cost nothing, and go back to the system at once.

        Raises:
            ContainerError: CONTAINER_MEMORY, the system does not give that much.
            ValueError: `info` does not fit `plaintext_size`; a verified manifest always does.
        """
        if container_size(plaintext_size, info.chunk_bytes) != info.size:
            raise ValueError("the container's size does not fit its plaintext")
        self._info = info
        self._cipher = container_cipher(dek, info.container_id)
        self._digest = sha256()
        self._plaintext: mmap.mmap | bytes = _reserve(plaintext_size)
        self._view = memoryview(self._plaintext)
        self._header = b""
        self._record = bytearray(info.chunk_bytes + TAG_BYTES)  # a header or chunk that has not arrived whole
        self._filled = 0
        self._index = 0
        self._missing = info.size
        self._failed = False
        self._finished = False

    def push(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the container.

        Raises:
            ContainerError: CONTAINER_CORRUPT, or CONTAINER_EXTENDED for bytes past the end; no later call works.
            RuntimeError: it had failed or finished before.
        """
        if self._failed or self._finished:
            raise RuntimeError("push() on a container that failed or is finished")
        view = memoryview(data).cast("B")
        if len(view) > self._missing:
            self._fail("CONTAINER_EXTENDED", "more bytes than the manifest says")
        self._missing -= len(view)
        self._digest.update(view)
        while view:
            view = view[self._take(view) :]

    def finish(self) -> memoryview:
        """Return the plaintext, now that all of it is proven.

        Raises:
            ContainerError: CONTAINER_TRUNCATED or CONTAINER_DIGEST.
            RuntimeError: it had failed or finished before.
        """
        if self._failed or self._finished:
            raise RuntimeError("finish() on a container that failed or is finished")
        if self._missing:
            self._fail("CONTAINER_TRUNCATED", "fewer bytes than the manifest says")
        if not compare_digest(self._digest.digest(), self._info.sha256):
            self._fail("CONTAINER_DIGEST", "not the container of the manifest")
        self._finished = True
        return memoryview(self._plaintext)

    @property
    def plaintext(self) -> mmap.mmap | bytes:
        """The one buffer, after finish().

        Raises:
            RuntimeError: before.
        """
        if not self._finished:
            raise RuntimeError("plaintext of a container that is not finished")
        return self._plaintext

    def _take(self, view: memoryview) -> int:
        """Use bytes of `view` for the record in progress; return how many."""
        size = self._record_size()
        if not self._filled and len(view) >= size:
            self._open(view[:size])  # the record lies whole in what came: no copy
            return size
        taken = min(size - self._filled, len(view))
        self._record[self._filled : self._filled + taken] = view[:taken]
        self._filled += taken
        if self._filled == size:
            self._filled = 0
            self._open(memoryview(self._record)[:size])
        return taken

    def _record_size(self) -> int:
        if not self._header:
            return HEADER_BYTES
        return min(self._info.chunk_bytes, len(self._view)) + TAG_BYTES

    def _open(self, record: memoryview) -> None:
        if not self._header:
            self._open_header(bytes(record))
            return
        size = len(record) - TAG_BYTES
        aad = chunk_aad(self._header, self._index, final=size == len(self._view))
        try:
            self._cipher.decrypt_into(chunk_nonce(self._header, self._index), record, aad, self._view[:size])
        except InvalidTag:
            self._fail("CONTAINER_CORRUPT", "a chunk is not authentic at its place")
        self._view = self._view[size:]
        self._index += 1

    def _open_header(self, header: bytes) -> None:
        prefix = header[-NONCE_PREFIX_BYTES:]
        if header != encode_header(self._info.chunk_bytes, self._info.container_id, prefix):
            self._fail("CONTAINER_CORRUPT", "not the header of the manifest's container")
        self._header = header

    def _fail(self, code: str, detail: str) -> NoReturn:
        self._failed = True
        self._view = memoryview(b"")
        self._plaintext = b""
        raise ContainerError(detail, code=code) from None


def _reserve(size: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        raise ContainerError(f"there is no memory for {size} bytes", code="CONTAINER_MEMORY") from None


def split_files(plaintext: memoryview, files: Sequence[ModelFile]) -> dict[str, memoryview]:
    """Cut the plaintext into its files, in the manifest's order, without a copy, and prove each.

    Raises:
        ContainerError: MODEL_FILE_SIZE or MODEL_FILE_DIGEST.
    """
    if sum(file.size for file in files) != len(plaintext):
        raise ContainerError("the files do not fill the container", code="MODEL_FILE_SIZE")
    contents: dict[str, memoryview] = {}
    start = 0
    for file in files:
        content = plaintext[start : start + file.size]
        if not compare_digest(sha256(content).digest(), file.sha256):
            raise ContainerError(f"{file.name} is not the file of the manifest", code="MODEL_FILE_DIGEST")
        contents[file.name] = content
        start += file.size
    return contents
