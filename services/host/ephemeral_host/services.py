"""The gRPC server for the enclave: boot configuration, KMS, storage, audit, counters and health.

It is synchronous on a pool of threads, because boto3 blocks. It binds a private UNIX socket and is reached through a
ServerBridge, over VSock and TCP alike: the development machine runs the path that production runs.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ephemeral import rpc
from ephemeral.errors import KmsUnavailable, StorageUnavailable
from ephemeral.protocol import MAX_CHUNK_BYTES
from ephemeral.transport import Address, ServerBridge, listen
from ephemeral.wire import (
    add_AuditServiceServicer_to_server,
    add_BootConfigServiceServicer_to_server,
    add_CounterServiceServicer_to_server,
    add_KmsProxyServiceServicer_to_server,
    add_StorageServiceServicer_to_server,
)
from ephemeral_host.audit import AuditLog, AuditService
from ephemeral_host.aws import kms_client, s3_client
from ephemeral_host.boot import BootConfigService, boot_contents
from ephemeral_host.config import HostConfig
from ephemeral_host.counters import CounterService
from ephemeral_host.kms import KmsProxyService
from ephemeral_host.resilience import Backend, RetryPolicy
from ephemeral_host.storage import StorageService
from ephemeral_host.telemetry import Telemetry

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

# By default, gRPC refuses new streams while Python has not collected old ones: a long-lived enclave would meet that.
_COUNT_OPEN_STREAMS_ONLY: Final = ("grpc.http.overload_protection", 0)
_OVERHEAD_BYTES: Final = 4096  # around one chunk of an object, the largest message here


class Services:
    """Serves from ``async with`` until its end, which lets running calls finish for the configured time."""

    def __init__(self, config: HostConfig, telemetry: Telemetry) -> None:
        self._config = config
        self._telemetry = telemetry
        self._stack = AsyncExitStack()
        self._address: Address | None = None
        self._health = health.HealthServicer()
        self._boot = BootConfigService(boot_contents(config.sources()))

    @property
    def address(self) -> Address:
        """Where the enclave reaches the services."""
        if self._address is None:
            raise RuntimeError("the services are not running")
        return self._address

    def reload(self) -> None:
        """Read the models file again; enclaves that serve come back for what it names now.

        Raises:
            ConfigError: it cannot be read, or a line of it is no model; what was served before still is.
        """
        self._boot.replace(boot_contents(self._config.sources()))

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        config = self._config
        audit = AuditLog(config.audit_log, most_bytes=config.audit_log_bytes, kept_files=config.audit_log_files)
        self._stack.callback(audit.close)
        listening = self._stack.enter_context(listen(self._config.services))
        self._address = Address.of(listening)
        local = await self._stack.enter_async_context(ServerBridge(listening))
        pool = ThreadPoolExecutor(self._config.service_threads, "services")
        self._stack.push_async_callback(asyncio.to_thread, pool.shutdown)  # in a thread: the loop still hears signals
        server = build_server(self._config, self._telemetry, self._boot, audit, pool)
        server.add_insecure_port(local.grpc_target)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        server.start()
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._stack.push_async_callback(self._stop, server)

    async def _stop(self, server: grpc.Server) -> None:
        self._health.enter_graceful_shutdown()
        await asyncio.to_thread(server.stop(self._config.drain_seconds).wait)


def build_server(
    config: HostConfig, telemetry: Telemetry, boot: BootConfigService, audit: AuditLog, pool: ThreadPoolExecutor
) -> grpc.Server:
    """Return the server with every service added, bound to nothing yet.

    Raises:
        ConfigError: the AWS settings are not usable.
    """
    server = grpc.server(
        pool,
        interceptors=[CountCalls(telemetry.call)],
        options=[*rpc.server_options(max_message_bytes=MAX_CHUNK_BYTES + _OVERHEAD_BYTES), _COUNT_OPEN_STREAMS_ONLY],
        maximum_concurrent_rpcs=config.service_threads,
    )
    policy = RetryPolicy(attempts=config.aws_attempts)
    kms = Backend("KMS", KmsUnavailable, policy=policy, observe=telemetry.backend)
    storage = Backend("STORAGE", StorageUnavailable, policy=policy, observe=telemetry.backend)
    add_BootConfigServiceServicer_to_server(boot, server)
    add_KmsProxyServiceServicer_to_server(KmsProxyService(kms_client(config), kms), server)
    add_StorageServiceServicer_to_server(StorageService(s3_client(config), config.s3_bucket, storage), server)
    add_AuditServiceServicer_to_server(AuditService(audit), server)
    add_CounterServiceServicer_to_server(_counters(telemetry), server)
    return server


def _counters(telemetry: Telemetry) -> CounterService:
    service = CounterService(telemetry.enclave)
    telemetry.gauge("enclaves", service.enclaves, "Enclaves that report.")
    telemetry.gauge("enclave.sessions", service.sessions, "Sessions that are open, in all enclaves.")
    telemetry.gauge("enclave.models", service.models, "Models in memory, in all enclaves.")
    return service


class CountCalls(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Counts calls by method; unknown methods are not counted, since their names are the caller's choice."""

    def __init__(self, count: Callable[[str], object]) -> None:
        self._count = count

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Handler | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Count and pass on."""
        handler = continuation(handler_call_details)
        if handler is not None:
            self._count(str(handler_call_details.method))
        return handler
