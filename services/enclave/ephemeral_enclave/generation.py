"""One generation of the model set: what a handshake attests, and what every request of its sessions is served with."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from ephemeral.trusted.handshake import Identity
from ephemeral.trusted.manifest import model_set_digest
from ephemeral_enclave.model import LoadedModel


class _Uses:
    """Entered for each request; `idle` is set while none runs."""

    __slots__ = ("_running", "idle")

    def __init__(self) -> None:
        self._running = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def __enter__(self) -> None:
        self._running += 1
        self.idle.clear()

    def __exit__(self, *_: object) -> None:
        self._running -= 1
        if not self._running:
            self.idle.set()


class Generation:
    """A model set that never changes, from its first handshake until its last request has ended.

    A new boot configuration or a new manifest makes a new generation. A session belongs to the one that its document
    attests, so what is attested is what is used, however often models are swapped.
    """

    def __init__(
        self,
        identity: Identity,
        models: Mapping[str, LoadedModel],
        boot_config_digest: bytes,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        """`refused` are the models of the boot configuration that did not load, each with its reason's code."""
        self.identity = identity
        self.boot_config_digest = boot_config_digest
        self.refused = MappingProxyType(dict(refused or {}))
        self.over = False
        self._models = dict(models)
        self._uses = _Uses()

    @property
    def models(self) -> Mapping[str, LoadedModel]:
        """The models by id; none once released."""
        return MappingProxyType(self._models)

    @property
    def model_set_digest(self) -> bytes:
        """What sessions attest as their model set."""
        return model_set_digest((s.model_id, s.version, s.manifest_digest) for s in self.identity.models)

    def in_use(self) -> _Uses:
        """Keep the models for one request."""
        return self._uses

    async def release(self) -> None:
        """Take no more requests, wait for those that run, and let go of the models, whoever still holds the rest."""
        self.over = True
        await self._uses.idle.wait()
        self._models.clear()
