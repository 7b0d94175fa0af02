"""The enclave's process: configuration, boot, gRPC server, orderly end."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc.aio
import torch
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ephemeral import rpc, wire
from ephemeral.errors import ConfigError, EphemeralError
from ephemeral.transport import Address, Scheme, ServerBridge, listen
from ephemeral.wire import AuditKind
from ephemeral_enclave.audit import AuditTrail
from ephemeral_enclave.batcher import Batcher
from ephemeral_enclave.boot import BootedEnclave, boot
from ephemeral_enclave.config import EnclaveConfig
from ephemeral_enclave.hardening import forbid_core_dumps
from ephemeral_enclave.host_client import HostClient
from ephemeral_enclave.inference import Inference
from ephemeral_enclave.nsm import SecurityModule
from ephemeral_enclave.service import InferenceService, SessionService
from ephemeral_enclave.sessions import Sessions

EXIT_CONFIG: Final = 2
EXIT_BOOT: Final = 3
_GRACE_SECONDS: Final = 10.0
Extend = Callable[[grpc.aio.Server], None]


def run(config_path: Path, module: SecurityModule, *, extend: Extend | None = None) -> int:
    """Boot and serve until SIGTERM; return the exit code: 0 stopped, 2 bad configuration, 3 may not serve.

    `extend` may add services to the server before it starts.
    """
    forbid_core_dumps()
    try:
        config = EnclaveConfig.load(config_path)
    except ConfigError as error:
        return _give_up(error, EXIT_CONFIG)
    if config.limits.threads:
        torch.set_num_threads(config.limits.threads)
    try:
        asyncio.run(_run(config, module, extend))
    except EphemeralError as error:
        return _give_up(error, EXIT_BOOT)
    return 0


def _give_up(error: EphemeralError, code: int) -> int:
    print(f"enclave: not serving: {error.code}: {error.detail}", file=sys.stderr, flush=True)  # noqa: T201
    return code


async def _run(config: EnclaveConfig, module: SecurityModule, extend: Extend | None) -> None:
    """Boot and serve; a signal ends either."""
    life = asyncio.create_task(_live(config, module, extend))
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, life.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await life


async def _live(config: EnclaveConfig, module: SecurityModule, extend: Extend | None) -> None:
    async with HostClient.connect(config.host) as host:
        trail = AuditTrail(host)
        enclave = await boot(config, module, host, trail)
        print(*enclave.report.lines(), sep="\n", file=sys.stderr, flush=True)  # noqa: T201
        try:
            async with serving(enclave, extend):
                models, mode = ",".join(sorted(enclave.models)), enclave.measured.security_mode
                print(f"ready listen={config.listen} models={models} mode={mode}", flush=True)  # noqa: T201
                await asyncio.Event().wait()
        finally:
            await trail.record(AuditKind.AUDIT_KIND_STOPPED)


@asynccontextmanager
async def serving(enclave: BootedEnclave, extend: Extend | None = None) -> AsyncIterator[None]:
    """Serve the enclave's sessions and inference; on leaving, say so to health checks, finish, and forget all keys."""
    limits = enclave.config.limits
    batcher = Batcher(limits.queued_requests)
    sessions = Sessions(enclave.identity, most_sessions=limits.sessions, most_offers=limits.offers)
    # No cap on concurrent calls: gRPC counts a call before its message came, so that one client's headers without
    # messages would lock everybody out. Streams per connection are capped, and work is admitted by the batcher.
    server = grpc.aio.server(options=rpc.server_options())
    wire.add_SessionServiceServicer_to_server(SessionService(enclave, sessions), server)
    wire.add_InferenceServiceServicer_to_server(InferenceService(Inference(enclave, batcher), sessions), server)
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs know only the sync half
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if extend is not None:
        extend(server)
    async with AsyncExitStack() as stack:
        _bind(server, await _local(enclave.config.listen, stack))
        await server.start()
        await _set_health(checks, enclave)
        expiry = asyncio.create_task(sessions.keep_expiring())
        try:
            yield
        finally:
            expiry.cancel()
            await checks.enter_graceful_shutdown()
            await server.stop(_GRACE_SECONDS)
            batcher.close()


async def _set_health(checks: Any, enclave: BootedEnclave) -> None:  # noqa: ANN401  # the stubs lack the type
    """Say that the enclave serves, and of each model whether it does; why one does not stands in the audit log."""
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    for model_id in enclave.models:
        await checks.set(f"models/{model_id}", health_pb2.HealthCheckResponse.SERVING)
    for model_id in enclave.refused:
        await checks.set(f"models/{model_id}", health_pb2.HealthCheckResponse.NOT_SERVING)


async def _local(address: Address, stack: AsyncExitStack) -> Address:
    """Return an address that gRPC can bind; behind VSock that is the inner end of a bridge."""
    if address.scheme is not Scheme.VSOCK:
        return address
    return await stack.enter_async_context(ServerBridge(listen(address)))


def _bind(server: grpc.aio.Server, address: Address) -> None:
    try:
        server.add_insecure_port(address.grpc_target)
    except RuntimeError:
        raise ConfigError(f"cannot listen on {address}: in use, or not permitted", code="LISTEN") from None
