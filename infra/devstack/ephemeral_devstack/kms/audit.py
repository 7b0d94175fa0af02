"""One JSON line per call, as CloudTrail keeps it: who asked for what and how it ended; never a key or a plaintext."""

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

SIMULATED: Final = "EphemeralML-Simulated-KMS"


class AuditLog:
    """Appends to one text stream; safe for the server's threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, entry: Mapping[str, object]) -> None:
        """Append one entry with the time and the mark that it is simulated."""
        line = json.dumps({"simulated": SIMULATED, "time": datetime.now(UTC).isoformat(), **entry})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()
