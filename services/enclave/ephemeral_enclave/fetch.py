"""Objects through the host: ranges asked for ahead, handed over in order, of one version, retried a few times."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from ephemeral.errors import StorageError, StorageUnavailable
from ephemeral_enclave.host_client import HostClient

RANGE_BYTES: Final = 8 * 1024 * 1024
RANGES_AHEAD: Final = 3
ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.2
Pieces = list[bytes]


async def find_object(host: HostClient, key: str, size: int) -> str:
    """Return the ETag of an object that has `size` bytes.

    Raises:
        StorageError: missing, forbidden, not delivered after some attempts, or STORAGE_SIZE.
    """
    found, etag = await host.head(key)
    if found != size:
        raise StorageError(f"{key} has {found} bytes, the manifest says {size}", code="STORAGE_SIZE")
    return etag


async def fetch_object(host: HostClient, key: str, size: int, etag: str) -> AsyncGenerator[Pieces, None]:
    """Yield an object's `size` bytes in order, range by range, each in pieces of at most 1 MiB.

    While one range is verified and decrypted, the next ones are on their way. All are of the version with this ETag, so
    that an object replaced in between is never half of what comes out.

    Raises:
        StorageError: missing, forbidden, changed in between, or not delivered after some attempts.
    """
    pending: deque[asyncio.Task[Pieces]] = deque()
    try:
        for offset in range(0, size, RANGE_BYTES):
            length = min(RANGE_BYTES, size - offset)
            pending.append(asyncio.create_task(_fetch_range(host, key, offset, length, etag)))
            if len(pending) > RANGES_AHEAD:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)  # what they hold is let go before this returns


async def _fetch_range(host: HostClient, key: str, offset: int, length: int, etag: str) -> Pieces:
    for attempt in range(1, ATTEMPTS):
        try:
            return [piece async for piece in host.fetch(key, offset, length, etag)]
        except StorageUnavailable:
            await pause(attempt)
    return [piece async for piece in host.fetch(key, offset, length, etag)]


async def pause(attempt: int) -> None:
    """Wait before another attempt: twice as long each time, and never in step with others."""
    await asyncio.sleep(_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, no secret
