"""Faults that pass: the enclave tries again where that can help, with fresh keys, and never mixes two objects."""

from collections.abc import Iterator

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ephemeral.errors import KmsUnavailable, ObjectMissing, StorageUnavailable
from ephemeral.trusted.attestation import parse_document
from ephemeral.wire import AuditKind, BootConfig, BootContents, KmsDecryptRequest, ModelSource
from ephemeral_enclave import fetch
from ephemeral_enclave.audit import AuditTrail
from ephemeral_enclave.boot import boot
from ephemeral_enclave.host_client import HostClient
from ephemeral_enclave.model import load_model
from ephemeral_enclave.report import StartupReport
from ephemeral_enclave.server import serving
from tests.support.cloud import Cloud, running_cloud
from tests.support.hostile_services import HostileServices, hostile_services
from tests.support.simulated_kms import MODEL_ID


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def faulty(cloud: Cloud) -> Iterator[HostileServices]:
    with hostile_services(cloud.services) as services:
        yield services


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RANGE_BYTES", 1024 * 1024)


async def load(cloud: Cloud, address: str) -> None:
    async with cloud.host(address) as host:
        await load_model(cloud.source, cloud.config(), cloud.module(), host, StartupReport())


@pytest.mark.usefixtures("small_ranges")
async def test_ranges_come_together_in_order(cloud: Cloud, faulty: HostileServices) -> None:
    await load(cloud, faulty.address)


@pytest.mark.usefixtures("small_ranges")
async def test_range_that_failed_is_asked_for_again(cloud: Cloud, faulty: HostileServices) -> None:
    calls: list[str] = []

    def fail_twice(key: str, data: bytes) -> bytes:
        if key.endswith(".bin"):
            calls.append(key)
            if len(calls) <= 2:
                raise StorageUnavailable("down for a moment")
        return data

    faulty.on_object = fail_twice
    await load(cloud, faulty.address)


async def test_store_that_stays_away_is_named_after_some_attempts(cloud: Cloud, faulty: HostileServices) -> None:
    calls: list[str] = []

    def fail(key: str, data: bytes) -> bytes:
        if key.endswith(".bin"):
            calls.append(key)
            raise StorageUnavailable("down")
        return data

    faulty.on_object = fail
    with pytest.raises(StorageUnavailable):
        await load(cloud, faulty.address)
    assert len(calls) == fetch.ATTEMPTS


async def test_kms_that_was_away_is_asked_again_with_another_key(cloud: Cloud, faulty: HostileServices) -> None:
    keys: list[bytes | None] = []

    def fail_once(request: KmsDecryptRequest) -> KmsDecryptRequest:
        keys.append(parse_document(request.attestation_document).public_key)
        if len(keys) == 1:
            raise KmsUnavailable("throttled")
        return request

    faulty.on_decrypt = fail_once
    await load(cloud, faulty.address)
    assert len(set(keys)) == len(keys) == 2


class RecordingTrail(AuditTrail):
    """Keeps what goes to the host."""

    def __init__(self, host: HostClient) -> None:
        super().__init__(host)
        self.kept: list[tuple[str, str, str]] = []

    async def record(
        self, kind: "AuditKind.ValueType", *, reason: str = "", model_id: str = "", model_version: int = 0
    ) -> None:
        self.kept.append((AuditKind.Name(kind), reason, model_id))
        await super().record(kind, reason=reason, model_id=model_id, model_version=model_version)


async def test_model_that_may_not_load_leaves_the_others_serving(cloud: Cloud, faulty: HostileServices) -> None:
    ports: list[int] = []
    sources = [ModelSource(model_id="other", manifest_key="none.cose"), cloud.source]
    contents = BootContents(models=sources).SerializeToString(deterministic=True)
    faulty.on_boot_config = lambda _honest: BootConfig(contents=contents)
    async with cloud.host(faulty.address) as host:
        trail = RecordingTrail(host)
        enclave = await boot(cloud.config(faulty.address), cloud.module(), host, trail)
        async with serving(enclave, lambda server: ports.append(server.add_insecure_port("127.0.0.1:0"))):
            health = {name: await status(ports[0], name) for name in ("", f"models/{MODEL_ID}", "models/other")}
    assert health == {"": "SERVING", f"models/{MODEL_ID}": "SERVING", "models/other": "NOT_SERVING"}
    assert list(enclave.generation.models) == [MODEL_ID]
    assert enclave.generation.refused == {"other": "OBJECT_MISSING"}
    assert ("AUDIT_KIND_MODEL_FAILED", "OBJECT_MISSING", "other") in trail.kept
    assert trail.kept[-1] == ("AUDIT_KIND_SERVING", "", "")


async def status(port: int, service: str) -> str:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_report_names_each_stage_with_its_time_and_bytes(cloud: Cloud) -> None:
    report = StartupReport()
    async with cloud.host() as host:
        await load_model(cloud.source, cloud.config(), cloud.module(), host, report)
    assert [stage.name for stage in report.stages] == ["manifest", "kms", "fetch", "decrypt", "load"]
    assert all(stage.milliseconds > 0 and stage.model_id == MODEL_ID for stage in report.stages)
    assert report.stages[2].bytes == cloud.manifest.container.size
    assert report.lines()[0].startswith(f"boot manifest {MODEL_ID}: ")


async def test_boot_without_any_model_fails_with_the_reason(cloud: Cloud, faulty: HostileServices) -> None:
    contents = BootContents(models=[ModelSource(model_id="other", manifest_key="none.cose")])
    faulty.on_boot_config = lambda _honest: BootConfig(contents=contents.SerializeToString(deterministic=True))
    async with cloud.host(faulty.address) as host:
        trail = RecordingTrail(host)
        with pytest.raises(ObjectMissing):
            await boot(cloud.config(faulty.address), cloud.module(), host, trail)
    assert trail.kept[-1] == ("AUDIT_KIND_BOOT_FAILED", "OBJECT_MISSING", "")


async def test_host_that_takes_no_audit_events_stops_no_boot(cloud: Cloud, faulty: HostileServices) -> None:
    async with cloud.host(faulty.address) as host:
        trail = AuditTrail(host)
        await boot(cloud.config(faulty.address), cloud.module(), host, trail)
    assert trail.lost == 3  # the lying host serves no audit
