"""The enclave's process: configuration, boot, gRPC server, orderly end."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc.aio
import torch
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ephemeral import rpc, wire
from ephemeral.errors import ConfigError, EphemeralError
from ephemeral.transport import Address, Scheme, ServerBridge, listen
from ephemeral.wire import AuditKind, CounterReport
from ephemeral_enclave.audit import AuditTrail
from ephemeral_enclave.batcher import Batcher
from ephemeral_enclave.boot import BootedEnclave, boot
from ephemeral_enclave.config import EnclaveConfig
from ephemeral_enclave.counters import Counters
from ephemeral_enclave.hardening import forbid_core_dumps
from ephemeral_enclave.host_client import HostClient
from ephemeral_enclave.inference import Inference
from ephemeral_enclave.nsm import SecurityModule
from ephemeral_enclave.rollout import Rollout
from ephemeral_enclave.service import InferenceService, SessionService
from ephemeral_enclave.sessions import Sessions

EXIT_CONFIG: Final = 2
EXIT_BOOT: Final = 3
_GRACE_SECONDS: Final = 10.0
# Threads want the interpreter back after each batch and slice of texts; at the default they wait ten times as long.
_SWITCH_SECONDS: Final = 0.0005
Extend = Callable[[grpc.aio.Server], None]


def run(config_path: Path, module: SecurityModule, *, extend: Extend | None = None) -> int:
    """Boot and serve until SIGTERM; return the exit code: 0 stopped, 2 bad configuration, 3 may not serve.

    `extend` may add services to the server before it starts.
    """
    forbid_core_dumps()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()  # what was imported stays for good: no later collection need walk it
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
            async with serving(enclave, extend) as served:
                models, mode = ",".join(sorted(enclave.generation.models)), enclave.measured.security_mode
                print(f"ready listen={config.listen} models={models} mode={mode}", flush=True)  # noqa: T201
                rollout = Rollout(enclave, served.sessions, host, trail, served.tell_health)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(rollout.follow())
                    tasks.create_task(served.keep_reporting(host))
        finally:
            await trail.record(AuditKind.AUDIT_KIND_STOPPED)


@dataclass(frozen=True, slots=True)
class Served:
    """What a running server has beside the enclave: its sessions and its health."""

    enclave: BootedEnclave
    sessions: Sessions
    counters: Counters
    checks: Any  # the stubs of gRPC's health lack the type

    async def keep_reporting(self, host: HostClient) -> None:
        """Hand the counters to the host every interval; a host that does not take them gets the sums of the next."""
        seconds = self.enclave.config.intervals.counters_seconds
        while seconds:
            await asyncio.sleep(seconds)
            with contextlib.suppress(EphemeralError):
                await host.report(self.report())

    def report(self) -> CounterReport:
        """Return the counters as the host may know them."""
        return self.counters.report(
            sessions=len(self.sessions),
            models=len(self.enclave.registry.loaded),
            interval_seconds=self.enclave.config.intervals.counters_seconds,
        )

    async def tell_health(self, failure: str) -> None:
        """Say of each model whether it is served, and of the last roll-out whether it came without `failure`."""
        generation = self.enclave.generation
        for model_id in self.enclave.config.minimum_versions.keys() | generation.refused.keys():
            await self._set(f"models/{model_id}", serving=model_id in generation.models)
        await self._set("rollout", serving=not failure)

    async def begin(self) -> None:
        """Say that the enclave serves, and what."""
        await self.tell_health(",".join(self.enclave.generation.refused.values()))
        await self._set("", serving=True)

    async def _set(self, service: str, *, serving: bool) -> None:
        statuses = health_pb2.HealthCheckResponse
        await self.checks.set(service, statuses.SERVING if serving else statuses.NOT_SERVING)


@asynccontextmanager
async def serving(enclave: BootedEnclave, extend: Extend | None = None) -> AsyncIterator[Served]:
    """Serve the enclave's sessions and inference; on leaving, say so to health checks, finish, and forget all keys."""
    limits = enclave.config.limits
    batcher = Batcher(limits.queued_requests, cores=torch.get_num_threads())
    counters = Counters()
    sessions = Sessions(most_sessions=limits.sessions, most_offers=limits.offers)
    # No cap on concurrent calls: gRPC counts a call before its message came, so that one client's headers without
    # messages would lock everybody out. Streams per connection are capped, and work is admitted by the batcher.
    server = grpc.aio.server(options=rpc.server_options())
    wire.add_SessionServiceServicer_to_server(SessionService(enclave, sessions), server)
    wire.add_InferenceServiceServicer_to_server(
        InferenceService(Inference(enclave, batcher, counters), sessions, counters), server
    )
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs know only the sync half
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if extend is not None:
        extend(server)
    async with AsyncExitStack() as stack:
        _bind(server, await _local(enclave.config.listen, stack))
        await server.start()
        served = Served(enclave, sessions, counters, checks)
        await served.begin()
        expiry = asyncio.create_task(sessions.keep_expiring())
        try:
            yield served
        finally:
            expiry.cancel()
            await checks.enter_graceful_shutdown()
            await server.stop(_GRACE_SECONDS)
            batcher.close()


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
