"""AuditService: keeps the enclave's security events as JSON lines. They carry codes and names, never content."""

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, NoReturn

import grpc

from ephemeral import rpc
from ephemeral.errors import ConfigError, InvalidRequest, Overloaded
from ephemeral.wire import AuditEvent, AuditKind, AuditServiceServicer, PublishSummary

_log = logging.getLogger(__name__)

MAX_BYTES: Final = 10 * 1024 * 1024
KEPT_FILES: Final = 5
_MAX_EVENTS: Final = 1_000  # in one call
_REASON: Final = re.compile(r"[A-Z0-9_:]{0,64}", re.ASCII)
_MODEL_ID: Final = re.compile(r"[A-Za-z0-9._/-]{0,128}", re.ASCII)
_KIND_PREFIX: Final = "AUDIT_KIND_"


class _OwnersFile(RotatingFileHandler):
    """A rotating file that only its owner reads, and that raises what goes wrong."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=_private)

    def handleError(self, record: logging.LogRecord) -> NoReturn:  # noqa: ARG002, N802 - logging's own signature
        raise  # noqa: PLE0704 - logging calls this from its except block


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class AuditLog:
    """Appends one JSON object per line to a file of the owner's, rotated by size, or to the program's log."""

    def __init__(self, path: Path | None, *, most_bytes: int = MAX_BYTES, kept_files: int = KEPT_FILES) -> None:
        """Open the file, so that a wrong path is noticed at start; at `most_bytes` it becomes `path`.1, and so on.

        Raises:
            ConfigError: the file cannot be opened for appending.
        """
        try:
            self._file = None if path is None else _OwnersFile(path, maxBytes=most_bytes, backupCount=kept_files)
        except OSError as error:
            raise ConfigError(f"cannot append to the audit log {path}: {error.strerror}") from None

    def append(self, record: dict[str, object]) -> None:
        """Write one line.

        Raises:
            OSError: the disk is full or gone.
        """
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":"))
        if self._file is None:
            _log.info("audit %s", line)
        else:
            self._file.handle(logging.makeLogRecord({"msg": line}))  # takes the handler's lock: one line at a time

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take was counted as lost already
                self._file.close()
            self._file = None


class AuditService(AuditServiceServicer):
    """Keeps well-formed events and refuses all else: a field that could carry content is not a code or a name."""

    def __init__(self, log: AuditLog, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._audit = log
        self._clock = clock

    @rpc.serving
    def Publish(  # noqa: N802
        self,
        requests: Iterator[AuditEvent],
        context: grpc.ServicerContext,  # noqa: ARG002 - the shape of a gRPC handler
    ) -> PublishSummary:
        """Keep events until the stream ends, and say how many."""
        accepted = 0
        for event in requests:
            if accepted == _MAX_EVENTS:
                raise Overloaded(f"one call may publish {_MAX_EVENTS} events")
            record = self._record(event)
            try:
                self._audit.append(record)
            except OSError as error:
                _log.error("audit event lost: %s", error.strerror)
            else:
                accepted += 1
        return PublishSummary(accepted=accepted)

    def _record(self, event: AuditEvent) -> dict[str, object]:
        if event.kind == AuditKind.AUDIT_KIND_UNSPECIFIED or event.kind not in AuditKind.values():
            raise InvalidRequest(f"audit event of unknown kind {event.kind}")
        if not _REASON.fullmatch(event.reason) or not _MODEL_ID.fullmatch(event.model_id):
            raise InvalidRequest("an audit event's reason is a code, and its model_id the name of a model")
        return {
            "received": self._clock().isoformat(timespec="milliseconds"),
            "kind": AuditKind.Name(event.kind).removeprefix(_KIND_PREFIX),
            "time_ms": event.time_ms,
            "sequence": event.sequence,
            "reason": event.reason,
            "model_id": event.model_id,
            "model_version": event.model_version,
        }
