"""The servers under load: each starts as processes of its own and ends with its context."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.serving.environments import environment
from benchmarks.serving.generator import MODEL
from benchmarks.serving.texts import model_folder
from ephemeral_devstack.processes import ZoneProcess
from ephemeral_devstack.stack import Stack, StackOptions

_SECONDS_TO_START: Final = 120.0
_SECONDS_TO_STOP: Final = 15.0
_POLL_SECONDS: Final = 0.1


class ServerFailed(Exception):
    """A server ended, or did not begin to listen."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens: where, how to speak to it, its processes, and which of them hold the model."""

    protocol: str
    address: str
    pids: tuple[int, ...]
    model_pids: tuple[int, ...]
    trust: Path | None = None


Start = Callable[[], AbstractContextManager[Running]]


@contextmanager
def sealed() -> Iterator[Running]:
    """Start every zone of the development stack; client, relay and enclave are the product's own."""
    with _folder() as folder, Stack.start(StackOptions(folder / "stack", "tcp://127.0.0.1:0")) as stack:
        host, enclave = (stack.zones[name].process.pid for name in ("host", "enclave"))
        yield Running("sealed", stack.address, (host, enclave), (enclave,), stack.trust)


@contextmanager
def unsealed() -> Iterator[Running]:
    """Start the same engine and batcher behind a bare gRPC service."""
    with _folder() as folder:
        server = ZoneProcess.start("unsealed", "benchmarks.serving.unsealed_server", logs=folder)
        try:
            address = server.ready(_SECONDS_TO_START)
            yield Running("unsealed", address, (server.process.pid,), (server.process.pid,))
        finally:
            server.stop()


@contextmanager
def infinity() -> Iterator[Running]:
    """Start infinity-emb: torch engine, float32, without the log line for each request that it writes otherwise."""
    port, program = _free_port(), str(environment("infinity") / "infinity_emb")
    model = ("--model-id", str(model_folder()), "--served-model-name", MODEL)
    engine = ("--engine", "torch", "--device", "cpu", "--dtype", "float32", "--no-bettertransformer")
    listen = ("--host", "127.0.0.1", "--port", str(port), "--url-prefix", "/v1", "--log-level", "error")
    with _http(port, (program, "v2", *model, *engine, *listen), {"DO_NOT_TRACK": "1"}) as running:
        yield running


@contextmanager
def fastapi() -> Iterator[Running]:
    """Start the FastAPI server with uvicorn's defaults, less its log line for each request."""
    port, program = _free_port(), str(environment("fastapi") / "uvicorn")
    folder = ("--app-dir", str(Path(__file__).parent))
    command = (program, "fastapi_server:app", *folder, "--port", str(port), "--no-access-log", "--log-level", "warning")
    with _http(port, command, {"MODEL_DIR": str(model_folder())}) as running:
        yield running


SERVERS: Final[Mapping[str, Start]] = {
    "sealed": sealed,
    "unsealed": unsealed,
    "infinity": infinity,
    "fastapi": fastapi,
}


@contextmanager
def _http(port: int, command: tuple[str, ...], variables: Mapping[str, str]) -> Iterator[Running]:
    with _folder() as folder, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, "HF_HUB_OFFLINE": "1", **variables}, stdout=log, stderr=log
        )
        try:
            _await_port(port, process, folder / "log")
            yield Running("http", f"http://127.0.0.1:{port}", (process.pid,), (process.pid,))
        finally:
            _stop(process)


def _await_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), _POLL_SECONDS).close()
        except OSError:
            time.sleep(_POLL_SECONDS)
        else:
            return
    raise ServerFailed(f"{process.args!r} does not listen: {log.read_text(errors='replace')[-500:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    """Return a port that was free a moment ago: these servers cannot be told to take any."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ephemeralml-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
