"""The audit log takes codes and names, line by line, and nothing that could be content."""

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from ephemeral import rpc
from ephemeral.errors import ConfigError, InvalidRequest, Overloaded
from ephemeral.wire import AuditEvent, AuditKind, AuditServiceStub, add_AuditServiceServicer_to_server
from ephemeral_host.audit import AuditLog, AuditService
from tests.support.host_service import served

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOADED = AuditEvent(kind=AuditKind.AUDIT_KIND_MODEL_LOADED, time_ms=7, sequence=2, model_id="minilm", model_version=3)
FAILED = AuditEvent(kind=AuditKind.AUDIT_KIND_BOOT_FAILED, time_ms=8, sequence=3, reason="KMS_ACCESS_DENIED")


def publish(path: Path, *events: AuditEvent) -> int:
    log = AuditLog(path)
    try:
        with served(AuditService(log, clock=lambda: NOON), add_AuditServiceServicer_to_server) as channel:
            return int(AuditServiceStub(channel).Publish(iter(events)).accepted)
    finally:
        log.close()


def test_each_event_is_one_json_line_of_a_file_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    assert publish(path, LOADED, FAILED) == 2
    assert publish(path, LOADED) == 1  # appended
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    common = {"received": "2026-01-02T12:00:00.000+00:00"}
    loaded = {
        "kind": "MODEL_LOADED",
        "time_ms": 7,
        "sequence": 2,
        "reason": "",
        "model_id": "minilm",
        "model_version": 3,
    }
    failed = {
        "kind": "BOOT_FAILED",
        "time_ms": 8,
        "sequence": 3,
        "reason": "KMS_ACCESS_DENIED",
        "model_id": "",
        "model_version": 0,
    }
    assert lines == [common | loaded, common | failed, common | loaded]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "event",
    [
        AuditEvent(kind=AuditKind.AUDIT_KIND_UNSPECIFIED),
        AuditEvent(kind=99),  # type: ignore[arg-type]  # open enum: any number can arrive
        AuditEvent(kind=AuditKind.AUDIT_KIND_SERVING, reason="the patient said"),
        AuditEvent(kind=AuditKind.AUDIT_KIND_SERVING, reason="A" * 65),
        AuditEvent(kind=AuditKind.AUDIT_KIND_SERVING, model_id="m" * 129),
        AuditEvent(kind=AuditKind.AUDIT_KIND_SERVING, model_id='x","forged":"1'),
        AuditEvent(kind=AuditKind.AUDIT_KIND_SERVING, model_id="line\nbreak"),
    ],
)
def test_what_is_no_code_and_no_name_is_refused_and_not_written(tmp_path: Path, event: AuditEvent) -> None:
    path = tmp_path / "audit.log"
    with pytest.raises(grpc.RpcError) as caught:
        publish(path, LOADED, event, FAILED)
    assert isinstance(rpc.error_from(caught.value), InvalidRequest)
    assert len(path.read_text().splitlines()) == 1


def test_log_is_rotated_by_size_and_no_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(path, most_bytes=1024, kept_files=2)
    for number in range(200):
        log.append({"sequence": number})
    log.close()
    files = [path.with_name("audit.log.2"), path.with_name("audit.log.1"), path]
    assert sorted(tmp_path.iterdir()) == sorted(path for path in files if path.exists())
    numbers = [
        json.loads(line)["sequence"] for file in files if file.exists() for line in file.read_text().splitlines()
    ]
    assert numbers == list(range(200 - len(numbers), 200))
    assert all(
        stat.S_IMODE(file.stat().st_mode) == 0o600 and file.stat().st_size <= 1024 for file in files if file.exists()
    )


def test_one_call_cannot_fill_the_disk(tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        publish(tmp_path / "audit.log", *[LOADED] * 1_001)
    assert isinstance(rpc.error_from(caught.value), Overloaded)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_loses_events_and_says_so_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    assert publish(Path("/dev/full"), LOADED, FAILED) == 0
    assert caplog.text.count("audit event lost: No space left on device") == 2


def test_a_log_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="audit log"):
        AuditLog(tmp_path / "missing" / "audit.log")
