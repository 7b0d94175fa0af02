"""The models in memory by model id and manifest digest, and the generation of them that serves now."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from ephemeral.errors import ManifestError
from ephemeral.trusted.manifest import VerifiedManifest
from ephemeral.wire import ModelSource, ServedModel
from ephemeral_enclave.generation import Generation
from ephemeral_enclave.model import LoadedModel


@dataclass(frozen=True, slots=True)
class Loader:
    """The two steps from a place in the store to a model: which one it is, and the model itself."""

    fetch: Callable[[ModelSource], Awaitable[VerifiedManifest]]
    load: Callable[[VerifiedManifest], Awaitable[LoadedModel]]


class ModelRegistry:
    """Loads each manifest once, whichever generations name it, and no older version than ever served in this boot."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._loaded: dict[tuple[str, bytes], LoadedModel] = {}
        self._highest: dict[str, ServedModel] = {}
        self._current: Generation | None = None

    @property
    def current(self) -> Generation:
        """The generation that new handshakes attest."""
        if self._current is None:
            raise RuntimeError("nothing serves yet")
        return self._current

    @property
    def loaded(self) -> list[ServedModel]:
        """What is in memory, of all generations."""
        return [model.served for model in self._loaded.values()]

    async def get(self, source: ModelSource) -> LoadedModel:
        """Return the model whose manifest lies at `source`, from memory if that very manifest is loaded.

        Raises:
            ManifestError: its version is below one that served, or the same version of other content.
            EphemeralError: it may not be loaded; the leaf says why.
        """
        verified = await self._loader.fetch(source)
        self._refuse_downgrade(verified)
        key = (verified.manifest.model_id, verified.digest)
        if key not in self._loaded:
            self._loaded[key] = await self._loader.load(verified)
        return self._loaded[key]

    def switch(self, generation: Generation) -> Generation | None:
        """Make `generation` the one that serves; return the one that did."""
        before, self._current = self._current, generation
        self._highest |= {served.model_id: served for served in generation.identity.models}
        return before

    def forget_others(self, generations: Iterable[Generation]) -> list[ServedModel]:
        """Let go of the models that none of `generations` names; return which."""
        kept = {(s.model_id, s.manifest_digest) for generation in generations for s in generation.identity.models}
        return [self._loaded.pop(key).served for key in self._loaded.keys() - kept]

    def _refuse_downgrade(self, verified: VerifiedManifest) -> None:
        """A host must not bring back what an update has replaced, as long as this enclave lives."""
        manifest = verified.manifest
        highest = self._highest.get(manifest.model_id)
        if highest is None:
            return
        if manifest.version < highest.version:
            text = f"version {manifest.version} is older than {highest.version}, which has served"
            raise ManifestError(text, code="MODEL_DOWNGRADE")
        if manifest.version == highest.version and verified.digest != highest.manifest_digest:
            raise ManifestError(f"version {manifest.version} has served with another manifest", code="MODEL_CHANGED")
