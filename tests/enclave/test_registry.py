"""The registry loads each manifest once, forgets what nobody serves, and never goes back."""

import asyncio
import dataclasses
import gc
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ephemeral.errors import EphemeralError, ManifestError, ObjectMissing
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.handshake import Identity
from ephemeral.trusted.manifest import VerifiedManifest, key_id, sign_manifest, verify_manifest
from ephemeral.wire import ModelSource
from ephemeral_enclave.generation import Generation
from ephemeral_enclave.model import LoadedModel
from ephemeral_enclave.registry import Loader, ModelRegistry
from tests.support.kept_evidence import MANIFEST
from tests.support.peers import LIMITS

PUBLISHER = SigningKey.generate()
KEY_ID = key_id(PUBLISHER.verifying_key)


class Engine:
    """An engine that only takes room."""

    dimension = 1

    def __init__(self) -> None:
        self.weights = np.zeros(1)


@dataclass
class Store:
    """What manifest lies where."""

    signed: dict[str, bytes] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)

    def put(self, key: str, model_id: str, version: int, **changes: Any) -> ModelSource:
        made = dataclasses.replace(MANIFEST, publisher_key_id=KEY_ID, model_id=model_id, version=version, **changes)
        self.signed[key] = sign_manifest(made, PUBLISHER)
        return ModelSource(model_id=model_id, manifest_key=key)

    async def fetch(self, source: ModelSource) -> VerifiedManifest:
        if source.manifest_key not in self.signed:
            raise ObjectMissing("nothing there", code="OBJECT_MISSING")
        return verify_manifest(self.signed[source.manifest_key], [PUBLISHER.verifying_key])

    async def load(self, verified: VerifiedManifest) -> LoadedModel:
        self.loads.append(f"{verified.manifest.model_id} {verified.manifest.version}")
        return LoadedModel(verified, Engine())  # type: ignore[arg-type]  # nothing computes here


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def registry(store: Store) -> ModelRegistry:
    return ModelRegistry(Loader(store.fetch, store.load))


async def serve(registry: ModelRegistry, *sources: ModelSource) -> Generation | None:
    """Make a generation of these models the one that serves; return the one before."""
    models = {source.model_id: await registry.get(source) for source in sources}
    identity = Identity(PUBLISHER, LIMITS, [model.served for model in models.values()])
    return registry.switch(Generation(identity, models, b""))


async def test_manifest_that_is_in_memory_is_not_loaded_again(registry: ModelRegistry, store: Store) -> None:
    a1, b1, a2 = store.put("a/1", "a", 1), store.put("b/1", "b", 1), store.put("a/2", "a", 2)
    await serve(registry, a1, b1)
    await serve(registry, a2, b1)
    assert store.loads == ["a 1", "b 1", "a 2"]


async def test_a_session_is_served_the_models_of_its_own_generation_until_it_ends(
    registry: ModelRegistry, store: Store
) -> None:
    await serve(registry, store.put("a/1", "a", 1))
    old = await serve(registry, store.put("a/2", "a", 2))
    assert old is not None
    assert old.models["a"].served.version == 1
    assert registry.current.models["a"].served.version == 2
    assert old.model_set_digest != registry.current.model_set_digest


@pytest.mark.parametrize("gap", [False, True], ids=["at once", "after the model was taken away"])
async def test_host_cannot_bring_back_an_older_version(registry: ModelRegistry, store: Store, *, gap: bool) -> None:
    a1, a2, b1 = store.put("a/1", "a", 1), store.put("a/2", "a", 2), store.put("b/1", "b", 1)
    await serve(registry, a1, b1)
    await serve(registry, a2, b1)
    if gap:
        await serve(registry, b1)
        registry.forget_others([registry.current])
    assert await refused(registry, a1) == "MODEL_DOWNGRADE"
    assert await refused(registry, store.put("a/1b", "a", 1, created_at=1)) == "MODEL_DOWNGRADE"
    assert (await registry.get(a2)).served.version == 2


async def test_host_cannot_replace_a_version_by_another_of_the_same_number(
    registry: ModelRegistry, store: Store
) -> None:
    await serve(registry, store.put("a/1", "a", 1))
    other = store.put("other", "a", 1, created_at=1)
    assert await refused(registry, other) == "MODEL_CHANGED"


async def test_version_that_was_loaded_but_never_served_sets_no_floor(registry: ModelRegistry, store: Store) -> None:
    await serve(registry, store.put("a/1", "a", 1))
    await registry.get(store.put("a/9", "a", 9))
    registry.forget_others([registry.current])
    assert (await registry.get(store.put("a/2", "a", 2))).served.version == 2


async def test_what_no_generation_names_is_forgotten_and_its_memory_goes(registry: ModelRegistry, store: Store) -> None:
    await serve(registry, store.put("a/1", "a", 1), store.put("b/1", "b", 1))
    before = registry.current
    gone = weakref.ref(before.models["a"].engine)
    await serve(registry, store.put("a/2", "a", 2), store.put("b/1", "b", 1))
    assert registry.forget_others([before, registry.current]) == []
    await before.release()
    assert [(served.model_id, served.version) for served in registry.forget_others([registry.current])] == [("a", 1)]
    gc.collect()
    assert gone() is None
    assert {(served.model_id, served.version) for served in registry.loaded} == {("a", 2), ("b", 1)}


async def test_generation_keeps_its_models_while_a_request_runs(registry: ModelRegistry, store: Store) -> None:
    await serve(registry, store.put("a/1", "a", 1))
    generation = registry.current
    with generation.in_use():
        releasing = asyncio.create_task(generation.release())
        await asyncio.sleep(0)
        assert generation.over
        assert set(generation.models) == {"a"}
    await releasing
    assert not generation.models


async def refused(registry: ModelRegistry, source: ModelSource) -> str:
    with pytest.raises(EphemeralError) as caught:
        await registry.get(source)
    assert isinstance(caught.value, ManifestError)
    return caught.value.code
