"""The host's services as the enclave calls them. Every answer is untrusted: size-capped here, verified by its user."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final, Self, cast

import grpc
import grpc.aio

from ephemeral import rpc, wire
from ephemeral.errors import StorageError, StorageUnavailable
from ephemeral.protocol import MAX_BOOT_CONFIG_BYTES, MAX_CHUNK_BYTES, VERSION
from ephemeral.transport import Address, LocalBridge, Scheme

HOST_SECONDS: Final = timedelta(minutes=2).total_seconds()
CALL_SECONDS: Final = timedelta(seconds=30).total_seconds()
TRANSFER_SECONDS: Final = timedelta(minutes=10).total_seconds()


class HostClient:
    """One connection to the host's services, over VSock or, in development, TCP."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._boot = cast("wire.BootConfigServiceAsyncStub", wire.BootConfigServiceStub(channel))
        self._kms = cast("wire.KmsProxyServiceAsyncStub", wire.KmsProxyServiceStub(channel))
        self._storage = cast("wire.StorageServiceAsyncStub", wire.StorageServiceStub(channel))
        self._counters = cast("wire.CounterServiceAsyncStub", wire.CounterServiceStub(channel))
        self._audit = cast("wire.AuditServiceAsyncStub", wire.AuditServiceStub(channel))

    @classmethod
    @asynccontextmanager
    async def connect(cls, address: Address) -> AsyncIterator[Self]:
        """Open the connection; stock gRPC cannot dial VSock, so a private UNIX socket bridges to it."""
        async with AsyncExitStack() as stack:
            if address.scheme is Scheme.VSOCK:
                address = await stack.enter_async_context(LocalBridge(address))
            yield cls(await stack.enter_async_context(rpc.open_aio_channel(address)))

    async def boot_config(self) -> bytes:
        """Fetch the boot configuration's exact bytes.

        Raises:
            ServiceError: the host does not answer.
            StorageError: it answers with too much.
        """
        with rpc.translated():
            # The host may come up after the enclave: wait for it, since without it there is nothing to do.
            answer = await self._boot.GetBootConfig(
                wire.BootRequest(version=VERSION), timeout=HOST_SECONDS, wait_for_ready=True
            )
        if len(answer.contents) > MAX_BOOT_CONFIG_BYTES:
            raise StorageError("the boot configuration is too large", code="BOOT_CONFIG_TOO_LARGE")
        return bytes(answer.contents)

    async def decrypt(self, key_arn: str, blob: bytes, context: Mapping[str, str], document: bytes) -> bytes:
        """Have KMS unwrap a data key for the attested recipient; return CiphertextForRecipient.

        Raises:
            KmsDenied: KMS refuses.
            KmsUnavailable: KMS does not answer.
        """
        request = wire.KmsDecryptRequest(
            key_arn=key_arn, ciphertext_blob=blob, encryption_context=context, attestation_document=document
        )
        with rpc.translated():
            answer = await self._kms.Decrypt(request, timeout=CALL_SECONDS)
        return bytes(answer.ciphertext_for_recipient)

    async def head(self, key: str) -> tuple[int, str]:
        """Return an object's size in bytes and its ETag.

        Raises:
            StorageError: missing, forbidden or unavailable.
        """
        with rpc.translated():
            info = await self._storage.Head(wire.ObjectRef(key=key), timeout=CALL_SECONDS)
        return int(info.size), info.etag

    async def fetch(self, key: str, offset: int, length: int, etag: str) -> AsyncIterator[bytes]:
        """Stream exactly `length` bytes of an object from `offset`.

        Raises:
            StorageError: missing, changed, unavailable, or the host sends more or less than asked for.
        """
        request = wire.RangeRequest(key=key, offset=offset, length=length, etag=etag)
        received = 0
        with rpc.translated():
            async for chunk in self._storage.Get(request, timeout=TRANSFER_SECONDS):
                received += len(chunk.data)
                if len(chunk.data) > MAX_CHUNK_BYTES or received > length:
                    raise StorageError("the host sends more than was asked for", code="STORAGE_TOO_LONG")
                yield chunk.data
        if received != length:
            raise StorageUnavailable(f"the host sent {received} of {length} bytes", code="STORAGE_SHORT_READ")

    async def publish(self, events: list[wire.AuditEvent]) -> None:
        """Hand audit events to the host.

        Raises:
            ServiceError: the host does not take them.
        """
        with rpc.translated():
            await self._audit.Publish(iter(events), timeout=CALL_SECONDS)

    async def report(self, report: wire.CounterReport) -> None:
        """Hand aggregate counters to the host.

        Raises:
            ServiceError: the host does not take them.
        """
        with rpc.translated():
            await self._counters.Report(report, timeout=CALL_SECONDS)
