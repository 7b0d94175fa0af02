"""The enclave's process from its start until it serves, beside every zone of the development stack."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from ephemeral.trusted.policy import TrustPolicy
from ephemeral_devstack.stack import MODEL_ID, Stack, StackOptions
from ephemeralml import Client


def measure_starts(times: int) -> list[Mapping[str, float]]:
    """Start the enclave again and again; return the seconds until it serves, and those of its stages.

    Raises:
        Unavailable: a zone did not start.
    """
    with tempfile.TemporaryDirectory() as state:
        options = StackOptions(state=Path(state), listen="tcp://127.0.0.1:0")
        with Stack.start(options) as stack:
            return [_start(stack) for _ in range(times)]


def _start(stack: Stack) -> Mapping[str, float]:
    stack.zones["enclave"].stop()
    begun = time.perf_counter()
    stack.start_enclave()
    seconds = time.perf_counter() - begun
    with Client.connect(stack.address, trust=TrustPolicy.load(stack.trust)) as client:
        stages = client.describe(model=MODEL_ID).startup
    return {"total": seconds, **{stage.name: stage.milliseconds / 1000 for stage in stages}}
