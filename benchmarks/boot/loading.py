"""A fresh process that fetches, verifies, decrypts and builds a model whose host serves it from memory.

`python -m benchmarks.boot.loading` prints one JSON object: seconds, and resident memory in bytes.
"""

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.boot.sealed import SealedModel
from ephemeral.transport import Address
from ephemeral.trusted.artifact import ContainerOpener, split_files
from ephemeral_enclave.engine import Engine
from ephemeral_enclave.engines import build_engine
from ephemeral_enclave.fetch import fetch_object, find_object
from ephemeral_enclave.host_client import HostClient
from ephemeral_enclave.model import fetch_plaintext
from ephemeral_enclave.report import StartupReport

_RESET_PEAK: Final = "5"  # proc(5), /proc/pid/clear_refs
_KIB: Final = 1024


def main() -> None:
    """Measure once, and print."""
    with tempfile.TemporaryDirectory() as folder:
        sealed = SealedModel.seal(Path(folder) / "container")
        address = Address.parse(f"unix://{folder}/host")
        with _host(sealed.container, f"{folder}/host"):
            print(json.dumps(asyncio.run(_measure(sealed, address))))


@contextmanager
def _host(container: Path, socket: str) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.boot.memory_host", str(container), socket]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        host.stdout.readline()
        yield


async def _measure(sealed: SealedModel, address: Address) -> dict[str, float]:
    async with HostClient.connect(address) as host:
        await host.head("container")  # the connection is there before the clock runs, as after the manifest
        gc.collect()
        _forget_peak()
        times, engine = await _load(sealed, host)
        gc.collect()
        memory = _memory()
        assert engine.dimension
        transport = await _transport(sealed, host)
    container = sealed.verified.manifest.container
    return {
        **times,
        "transport": transport,
        "decryption": _decryption(sealed),
        "bytes": container.size,
        "steady": memory["VmRSS"],
        "peak": memory["VmHWM"],
    }


async def _load(sealed: SealedModel, host: HostClient) -> tuple[dict[str, float], Engine]:
    begun = time.perf_counter()
    plaintext = await fetch_plaintext(sealed.verified, sealed.data_key, host, StartupReport())
    fetched = time.perf_counter()
    files = split_files(plaintext, sealed.verified.manifest.files)
    hashed = time.perf_counter()
    engine = build_engine(files)
    built = time.perf_counter()
    return {"fetch": fetched - begun, "hash": hashed - fetched, "build": built - hashed}, engine


async def _transport(sealed: SealedModel, host: HostClient) -> float:
    """Fetch and throw away: what no decryption can be faster than."""
    container = sealed.verified.manifest.container
    begun = time.perf_counter()
    etag = await find_object(host, container.key, container.size)
    async for _ in fetch_object(host, container.key, container.size, etag):
        pass
    return time.perf_counter() - begun


def _decryption(sealed: SealedModel) -> float:
    """Verify and decrypt what is in memory already."""
    manifest, raw = sealed.verified.manifest, sealed.container.read_bytes()
    begun = time.perf_counter()
    opener = ContainerOpener(manifest.container, manifest.plaintext_size, sealed.data_key)
    opener.push(raw)
    opener.finish()
    return time.perf_counter() - begun


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)


def _memory() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * _KIB for words in lines if words[0].startswith("Vm")}


if __name__ == "__main__":
    main()
