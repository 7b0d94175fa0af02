"""A host that serves one object from memory: the product's storage service, with memory where boto3's client is.

`python -m benchmarks.boot.memory_host FILE SOCKET` prints a line when it serves, and ends with its standard input.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import grpc

from ephemeral import rpc, wire
from ephemeral.errors import StorageUnavailable
from ephemeral.protocol import MAX_CHUNK_BYTES
from ephemeral_host.resilience import Backend
from ephemeral_host.storage import StorageService

_ETAG: Final = '"memory"'
_OVERHEAD_BYTES: Final = 65_536


class MemoryS3:
    """The two calls of boto3's S3 client that the storage service makes, for one object under any key."""

    def __init__(self, contents: bytes) -> None:
        self._contents = memoryview(contents)

    def head_object(self, **_: object) -> dict[str, Any]:
        """Answer for any key."""
        return {"ContentLength": len(self._contents), "ETag": _ETAG}

    def get_object(self, *, Range: str, **_: object) -> dict[str, Any]:  # noqa: N803 - boto3's name
        """Answer with one range, both ends of which are given."""
        first, last = (int(end) for end in Range.removeprefix("bytes=").split("-"))
        body = _Body(self._contents[first : last + 1])
        return {"Body": body, "ETag": _ETAG, "ContentRange": f"bytes {first}-{last}/{len(self._contents)}"}


class _Body(BytesIO):
    """What boto3 streams; reading copies once, as reading from a socket does."""


def main(file: str, socket: str) -> None:
    """Serve until standard input ends."""
    client: Any = MemoryS3(Path(file).read_bytes())
    options = rpc.server_options(max_message_bytes=MAX_CHUNK_BYTES + _OVERHEAD_BYTES)
    server = grpc.server(ThreadPoolExecutor(8), options=options)
    service = StorageService(client, "memory", Backend("STORAGE", StorageUnavailable))
    wire.add_StorageServiceServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
