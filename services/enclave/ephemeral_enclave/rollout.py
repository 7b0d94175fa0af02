"""Another model set under traffic: the host asks for it, it is loaded beside the one that serves, and then serves."""

import asyncio
import ctypes
import gc
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from ephemeral.errors import EphemeralError
from ephemeral.wire import AuditKind
from ephemeral_enclave.audit import AuditTrail
from ephemeral_enclave.boot import BootedEnclave, parse_boot_config
from ephemeral_enclave.generation import Generation
from ephemeral_enclave.host_client import HostClient
from ephemeral_enclave.model import LoadedModel
from ephemeral_enclave.sessions import Sessions

_LONGEST_PAUSE: Final = 32  # looks between two attempts at one boot configuration
_log = logging.getLogger(__name__)
Observe = Callable[[str], Awaitable[None]]


class Rollout:
    """Follows the host's boot configuration. All of it loads, or nothing changes."""

    def __init__(
        self, enclave: BootedEnclave, sessions: Sessions, host: HostClient, trail: AuditTrail, observe: Observe
    ) -> None:
        """`observe` is told after each attempt which code it failed with, or nothing."""
        self._enclave = enclave
        self._sessions = sessions
        self._host = host
        self._trail = trail
        self._observe = observe
        self._failed = b""  # digest of what could not be rolled out
        self._pause = self._skips = 0  # in looks

    async def follow(self) -> NoReturn:
        """Look at the boot configuration every interval, never in step with other enclaves."""
        seconds = self._enclave.config.intervals.boot_config_seconds
        if not seconds:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(seconds * random.uniform(0.75, 1.25))  # noqa: S311  # jitter, no secret
            await self.look()

    async def look(self) -> None:
        """Ask the host once, and roll out what is new; what failed is tried again after ever longer pauses."""
        try:
            contents = await self._host.boot_config()
        except EphemeralError:
            return  # a host that is away changes nothing
        serving, digest = self._enclave.generation, hashlib.sha256(contents).digest()
        if digest == serving.boot_config_digest and not serving.refused:
            return
        if digest != self._failed:
            self._failed, self._pause, self._skips = b"", 1, 0
        if self._skips:
            self._skips -= 1
        elif reason := await self._attempt(contents):
            self._failed, self._skips = digest, self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            await self._tell(reason)

    async def _attempt(self, contents: bytes) -> str:
        """Return the code of what went wrong, or nothing."""
        try:
            await self.roll_out(contents)
        except EphemeralError as error:
            _log.warning("roll-out refused: %s: %s", error.code, error.detail)
            return error.code
        except Exception as error:  # noqa: BLE001  # whatever it is, what serves goes on serving
            _log.error("%s in a roll-out", type(error).__name__)
            return "INTERNAL"
        return ""

    async def _tell(self, reason: str) -> None:
        await self._unload(self._enclave.generation)  # what was loaded before it failed
        await self._trail.record(AuditKind.AUDIT_KIND_ROLLOUT_FAILED, reason=reason)
        await self._observe(reason)

    async def roll_out(self, contents: bytes) -> None:
        """Replace what serves by what `contents` names.

        1. every model of it passes the checks of a boot, and is no older than what ever served in this boot
        2. those that are not in memory yet are loaded beside the others
        3. new handshakes attest the new generation; sessions of the old one end, spread over the drain time
        4. when the last request of the old one has its answer, what no generation names any more is unloaded

        Raises:
            EphemeralError: step 1 or 2; nothing has changed.
        """
        generation = self._enclave.next_generation(contents, await self._load(contents))  # 1, 2
        before = self._enclave.registry.switch(generation)  # 3
        await self._trail.record(AuditKind.AUDIT_KIND_ROLLED_OUT)
        await self._observe("")
        if before is not None:
            await self._drain(before)
        await self._unload(generation)  # 4

    async def _load(self, contents: bytes) -> dict[str, LoadedModel]:
        registry = self._enclave.registry
        models: dict[str, LoadedModel] = {}
        for source in parse_boot_config(contents):
            before = registry.loaded
            try:
                model = models[source.model_id] = await registry.get(source)
            except EphemeralError as error:
                await self._trail.record(AuditKind.AUDIT_KIND_MODEL_FAILED, reason=error.code, model_id=source.model_id)
                raise
            if model.served not in before:
                await self._trail.model(AuditKind.AUDIT_KIND_MODEL_LOADED, model.served)
        return models

    async def _drain(self, generation: Generation) -> None:
        seconds = self._enclave.config.intervals.drain_seconds
        self._sessions.end(generation, seconds)
        await asyncio.sleep(seconds)
        await generation.release()

    async def _unload(self, generation: Generation) -> None:
        gone = self._enclave.registry.forget_others([generation])
        await asyncio.to_thread(_return_memory)
        for served in gone:
            await self._trail.model(AuditKind.AUDIT_KIND_MODEL_UNLOADED, served)


def _return_memory() -> None:
    """Collect what only cycles hold, and hand free pages back to the system: the next model needs them whole."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
