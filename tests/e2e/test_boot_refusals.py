"""Everything a host, a store or a publisher can get wrong at boot: the enclave does not serve, and says why."""

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ephemeral.errors import (
    ConfigError,
    ContainerError,
    EphemeralError,
    ForgedRelease,
    KmsDenied,
    ManifestError,
    ObjectMissing,
    StorageError,
    StorageUnavailable,
)
from ephemeral.trusted.attestation import parse_document
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.wire import BootConfig, BootContents, KmsDecryptRequest, KmsDecryptResponse, ModelSource
from ephemeral_devstack.cms import seal_for_recipient
from ephemeral_devstack.files import enclave_config
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeral_devstack.processes import ZoneProcess
from ephemeral_enclave.audit import AuditTrail
from ephemeral_enclave.boot import BootedEnclave, boot
from ephemeral_enclave.model import load_model
from ephemeral_enclave.report import StartupReport
from tests.support.cloud import Cloud, running_cloud
from tests.support.hostile_services import HostileServices, hostile_services
from tests.support.invariants import tally
from tests.support.simulated_kms import MODEL_ID, PCRS

OTHER_PCRS = {**PCRS, 0: b"\x66" * 48}


@pytest.fixture(scope="module")
def module_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture
def cloud(module_cloud: Cloud) -> Cloud:
    module_cloud.kms.plan()
    return module_cloud


@pytest.fixture
def liar(cloud: Cloud) -> Iterator[HostileServices]:
    with hostile_services(cloud.services) as services:
        yield services


async def refused(
    cloud: Cloud,
    error: type[EphemeralError],
    *,
    source: ModelSource | None = None,
    nsm: SimulatedNsm | None = None,
    host: str | None = None,
    floor: int = 1,
) -> str:
    """Load the model in vain; return the reason's code."""
    async with cloud.host(host) as client:
        with tally("INV-6", 1), pytest.raises(error) as caught:
            await load_model(
                source or cloud.source, cloud.config(floor=floor), cloud.module(nsm), client, StartupReport()
            )
    return caught.value.code


async def booted(cloud: Cloud, address: str) -> BootedEnclave:
    async with cloud.host(address) as host:
        return await boot(cloud.config(address), cloud.module(), host, AuditTrail(host))


async def test_honest_boot_serves_what_was_published(cloud: Cloud) -> None:
    enclave = await booted(cloud, cloud.services)
    engine = enclave.generation.models[MODEL_ID].engine
    ours = engine.compute(engine.tokenize(["one", "and another text"]))
    theirs = SentenceTransformer(str(cloud.folder), device="cpu").encode(["one", "and another text"])
    assert np.abs(ours - theirs).max() <= 1e-5
    assert enclave.measured.security_mode == "evaluation"
    assert (
        enclave.generation.boot_config_digest
        == hashlib.sha256(BootContents(models=[cloud.source]).SerializeToString(deterministic=True)).digest()
    )


class TestKms:
    async def test_denial_for_another_build(self, cloud: Cloud) -> None:
        assert await refused(cloud, KmsDenied, nsm=other_build(cloud)) == "KMS_ACCESS_DENIED"

    async def test_denial_for_registers_mixed_from_two_builds(self, cloud: Cloud) -> None:
        nsm = other_build(cloud)
        nsm._pcrs = {**nsm._pcrs, 0: PCRS[0], 1: b"\x66" * 48}
        assert await refused(cloud, KmsDenied, nsm=nsm) == "KMS_ACCESS_DENIED"

    async def test_denial_for_a_debug_enclave(self, cloud: Cloud) -> None:
        nsm = other_build(cloud)
        nsm._pcrs = dict.fromkeys(range(16), bytes(48))
        assert await refused(cloud, KmsDenied, nsm=nsm)

    async def test_denial_for_a_module_under_a_foreign_root(self, cloud: Cloud) -> None:
        assert await refused(cloud, KmsDenied, nsm=SimulatedNsm(PCRS)) == "KMS_VALIDATION"

    async def test_wrong_encryption_context(self, cloud: Cloud) -> None:
        source = cloud.resigned("version-2", version=2)
        assert await refused(cloud, KmsDenied, source=source) == "KMS_INVALID_CIPHERTEXT"

    async def test_denial_is_final_and_not_retried(self, cloud: Cloud) -> None:
        cloud.kms.plan({"operation": "Decrypt", "nth": 0, "fault": "deny"})
        before = len(cloud.kms.audit())
        assert await refused(cloud, KmsDenied) == "KMS_ACCESS_DENIED"
        assert len(cloud.kms.audit()) == before + 1

    async def test_outage_is_retried_and_then_named(self, cloud: Cloud) -> None:
        cloud.kms.plan({"operation": "Decrypt", "nth": 1, "fault": "error500"})
        async with cloud.host() as host:
            assert await load_model(cloud.source, cloud.config(), cloud.module(), host, StartupReport())

    async def test_wrapped_key_of_another_data_key(self, cloud: Cloud) -> None:
        cloud.kms.plan({"operation": "Decrypt", "nth": 1, "fault": "swap_wrapped_key"})
        assert await refused(cloud, ForgedRelease) == "FORGED_RELEASE"

    async def test_forged_cms_from_the_host_that_saw_the_public_key(self, cloud: Cloud, liar: HostileServices) -> None:
        def forge(_honest: KmsDecryptResponse) -> KmsDecryptResponse:
            key = parse_document(liar.last_document).public_key
            assert key is not None
            return KmsDecryptResponse(ciphertext_for_recipient=seal_for_recipient(b"\x42" * 32, key))

        liar.on_decrypt_answer = forge
        assert await refused(cloud, ForgedRelease, host=liar.address) == "FORGED_RELEASE"

    async def test_every_forgery_gives_the_same_error(self, cloud: Cloud, liar: HostileServices) -> None:
        answers = [b"", b"\x30\x80", b"junk" * 100, b"\0" * 8192, b"\0" * 8193]
        texts = set()
        for answer in answers:
            liar.on_decrypt_answer = lambda _a, answer=answer: KmsDecryptResponse(ciphertext_for_recipient=answer)
            async with cloud.host(liar.address) as host:
                with pytest.raises(ForgedRelease) as caught:
                    await load_model(cloud.source, cloud.config(), cloud.module(), host, StartupReport())
            texts.add((str(caught.value), caught.value.code))
        assert len(texts) == 1

    async def test_replayed_answer_of_an_earlier_boot(self, cloud: Cloud, liar: HostileServices) -> None:
        kept: list[KmsDecryptResponse] = []

        def replay(honest: KmsDecryptResponse) -> KmsDecryptResponse:
            kept.append(honest)
            return kept[0]

        liar.on_decrypt_answer = replay
        async with cloud.host(liar.address) as host:
            await load_model(cloud.source, cloud.config(), cloud.module(), host, StartupReport())
        assert await refused(cloud, ForgedRelease, host=liar.address)

    async def test_host_that_changes_the_call(self, cloud: Cloud, liar: HostileServices) -> None:
        def change(request: KmsDecryptRequest) -> KmsDecryptRequest:
            request.encryption_context["version"] = "2"
            return request

        liar.on_decrypt = change
        assert await refused(cloud, KmsDenied, host=liar.address)


class TestContainer:
    @pytest.mark.parametrize("place", [0, 60, 1_000_000, 2_000_000, -1])
    async def test_flipped_bit(self, cloud: Cloud, liar: HostileServices, place: int) -> None:
        def flip(key: str, data: bytes) -> bytes:
            if key.endswith(".cose"):
                return data
            return data[:place] + bytes([data[place] ^ 1]) + (data[place:][1:] if place != -1 else b"")

        liar.on_object = flip
        assert await refused(cloud, ContainerError, host=liar.address)

    async def test_truncated(self, cloud: Cloud, liar: HostileServices) -> None:
        liar.on_object = lambda key, data: data if key.endswith(".cose") else data[:-1]
        assert await refused(cloud, StorageUnavailable, host=liar.address) == "STORAGE_SHORT_READ"

    async def test_truncated_object_in_the_store(self, cloud: Cloud) -> None:
        container = cloud.manifest.container
        cut = cloud.put("attacks/cut.bin", cloud.get(container.key)[:-1])
        manifest = cloud.manifest
        source = cloud.resigned("cut", container=replaced(manifest.container, key=cut))
        assert await refused(cloud, StorageError, source=source)

    async def test_longer_than_asked_for(self, cloud: Cloud, liar: HostileServices) -> None:
        liar.on_object = lambda key, data: data if key.endswith(".cose") else data + b"x"
        assert await refused(cloud, StorageError, host=liar.address) == "STORAGE_TOO_LONG"

    async def test_swapped_for_another_models(self, cloud: Cloud) -> None:
        container = cloud.manifest.container
        other = cloud.put("attacks/other.bin", bytes(reversed(cloud.get(container.key))))
        source = cloud.resigned("swapped", container=replaced(container, key=other))
        assert await refused(cloud, ContainerError, source=source)

    async def test_two_chunks_swapped(self, cloud: Cloud, liar: HostileServices) -> None:
        chunk = cloud.manifest.container.chunk_bytes + 16

        def swap(key: str, data: bytes) -> bytes:
            if key.endswith(".cose"):
                return data
            end = len(data)
            start = end - (end % chunk) - 2 * chunk
            return (
                data[:start]
                + data[start + chunk : start + 2 * chunk]
                + data[start : start + chunk]
                + data[start + 2 * chunk :]
            )

        liar.on_object = swap
        assert await refused(cloud, ContainerError, host=liar.address)

    async def test_missing(self, cloud: Cloud) -> None:
        source = cloud.resigned("gone", container=replaced(cloud.manifest.container, key="models/none.bin"))
        assert await refused(cloud, ObjectMissing, source=source) == "OBJECT_MISSING"


class TestManifest:
    async def test_forged_by_a_stranger(self, cloud: Cloud) -> None:
        stranger = SigningKey.generate()
        digest = hashlib.sha256(stranger.verifying_key.raw).digest()
        source = cloud.resigned("stranger", stranger, publisher_key_id=digest)
        assert await refused(cloud, ManifestError, source=source) == "MANIFEST_UNKNOWN_PUBLISHER"

    async def test_forged_in_the_publishers_name(self, cloud: Cloud) -> None:
        signed = bytearray(cloud.published.manifest)
        signed[-1] ^= 1
        assert await refused(cloud, ManifestError, source=cloud.stored("forged", bytes(signed))) == "MANIFEST_FORGED"

    async def test_altered_after_signing(self, cloud: Cloud) -> None:
        altered = cloud.published.manifest.replace(b"sentence-transformers", b"sentence-transformerz")
        assert await refused(cloud, ManifestError, source=cloud.stored("altered", altered)) == "MANIFEST_FORGED"

    async def test_of_another_model(self, cloud: Cloud) -> None:
        source = cloud.resigned("other-model", model_id="other")
        assert await refused(cloud, ManifestError, source=source) == "MANIFEST_OTHER_MODEL"

    async def test_that_the_image_does_not_admit(self, cloud: Cloud) -> None:
        source = cloud.resigned("unadmitted", model_id="other")
        source.model_id = "other"
        assert await refused(cloud, ManifestError, source=source) == "MODEL_NOT_ADMITTED"

    async def test_rolled_back_below_the_floor(self, cloud: Cloud) -> None:
        assert await refused(cloud, ManifestError, floor=2) == "MODEL_ROLLBACK"

    async def test_too_large(self, cloud: Cloud) -> None:
        assert await refused(cloud, ManifestError, source=cloud.stored("large", bytes(300_000)))

    async def test_missing(self, cloud: Cloud) -> None:
        source = ModelSource(model_id=MODEL_ID, manifest_key="none.cose")
        assert await refused(cloud, ObjectMissing, source=source)


class TestBootConfig:
    @pytest.mark.parametrize(
        "contents",
        [
            b"",
            b"\xff",
            BootContents(models=[ModelSource(model_id="a", manifest_key="k")] * 2).SerializeToString(),
            BootContents(models=[ModelSource(model_id=str(n)) for n in range(17)]).SerializeToString(),
            BootContents(models=[ModelSource(model_id="a", manifest_key="k")]).SerializeToString() + b"\x10\x01",
        ],
        ids=["empty", "junk", "one model twice", "too many", "unknown field"],
    )
    async def test_outside_the_closed_schema(self, cloud: Cloud, liar: HostileServices, contents: bytes) -> None:
        liar.on_boot_config = lambda _honest: BootConfig(contents=contents)
        with pytest.raises(ConfigError) as caught:
            await booted(cloud, liar.address)
        assert caught.value.code == "BOOT_CONFIG_MALFORMED"


@pytest.mark.slow
def test_enclave_process_that_may_not_serve_says_why_in_one_line(cloud: Cloud, tmp_path: Path) -> None:
    config = tmp_path / "enclave.toml"
    config.write_bytes(enclave_config("tcp://127.0.0.1:0", cloud.services, SigningKey.generate(), MODEL_ID))
    registers = [f"--pcr={index}={value.hex()}" for index, value in PCRS.items()]
    socket = str(tmp_path / "nsm")
    module = ZoneProcess.start(
        "nsm", "ephemeral_devstack.security_module", *registers, "--socket", socket, logs=tmp_path
    )
    try:
        module.ready(60)
        command = [
            sys.executable,
            "-m",
            "ephemeral_devstack.enclave",
            "--config",
            str(config),
            "--security-module",
            socket,
        ]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    finally:
        module.stop()
    assert ended.returncode == 3
    assert ended.stderr.strip().startswith("enclave: not serving: MANIFEST_UNKNOWN_PUBLISHER: ")
    assert "Traceback" not in ended.stderr
    assert "ready" not in ended.stdout


def other_build(cloud: Cloud) -> SimulatedNsm:
    return SimulatedNsm(OTHER_PCRS, root=cloud.nsm._root)


def replaced(container: object, **changes: object) -> object:
    return dataclasses.replace(container, **changes)  # type: ignore[type-var]
