"""From a baked configuration to an enclave that can serve: keys, self-measurement, boot configuration, models."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from google.protobuf.message import DecodeError

from ephemeral.errors import ConfigError, EphemeralError
from ephemeral.protocol import (
    MAX_FRAME_BYTES,
    MAX_MODELS,
    MAX_REQUESTS,
    MAX_TEXT_BYTES,
    MAX_TEXTS,
    SESSION_IDLE,
    SESSION_LIFETIME,
)
from ephemeral.trusted.attestation import SessionBinding, build_digest
from ephemeral.trusted.handshake import Identity
from ephemeral.trusted.manifest import VerifiedManifest
from ephemeral.wire import AuditKind, BootContents, BuildInfo, ModelSource, SessionLimits
from ephemeral_enclave.audit import AuditTrail
from ephemeral_enclave.config import EnclaveConfig
from ephemeral_enclave.engines import fingerprint
from ephemeral_enclave.generation import Generation
from ephemeral_enclave.host_client import HostClient
from ephemeral_enclave.keys import EnclaveKeys
from ephemeral_enclave.measurement import SelfMeasurement, measure
from ephemeral_enclave.model import LoadedModel, fetch_manifest, load_verified
from ephemeral_enclave.nsm import SecurityModule
from ephemeral_enclave.registry import Loader, ModelRegistry
from ephemeral_enclave.release import RecipientKeys
from ephemeral_enclave.report import StartupReport

LIMITS: Final = SessionLimits(
    lifetime_seconds=int(SESSION_LIFETIME.total_seconds()),
    idle_seconds=int(SESSION_IDLE.total_seconds()),
    max_requests=MAX_REQUESTS,
    max_frame_bytes=MAX_FRAME_BYTES,
    max_texts=MAX_TEXTS,
    max_text_bytes=MAX_TEXT_BYTES,
)


@dataclass(frozen=True, slots=True)
class BootedEnclave:
    """Everything an enclave serves with. What a client is told is derived from here, and attested."""

    config: EnclaveConfig
    keys: EnclaveKeys
    module: SecurityModule
    measured: SelfMeasurement
    registry: ModelRegistry
    report: StartupReport

    @property
    def generation(self) -> Generation:
        """The model set that new handshakes attest."""
        return self.registry.current

    @property
    def build(self) -> BuildInfo:
        """What the attested build digest is the hash of."""
        return build_info(self.config)

    def next_generation(
        self, contents: bytes, models: Mapping[str, LoadedModel], refused: Mapping[str, str] | None = None
    ) -> Generation:
        """Return a generation of `models`, which the boot configuration `contents` asked for."""
        identity = Identity(self.keys.identity, LIMITS, [model.served for model in models.values()])
        return Generation(identity, models, hashlib.sha256(contents).digest(), refused)

    def binding(self, generation: Generation) -> SessionBinding:
        """Return what every session document of a generation attests beside the receipt key."""
        build = self.build
        return SessionBinding(
            identity_key=self.keys.identity.verifying_key,
            boot_config_digest=generation.boot_config_digest,
            model_set_digest=generation.model_set_digest,
            build_digest=build_digest(
                build.protocol_version, build.enclave_version, build.libraries, build.configuration
            ),
        )

    def attest(self, generation: Generation, nonce: bytes | None) -> bytes:
        """Return an attestation document for a session that `generation` serves.

        Raises:
            AttestationError: the security module refused.
        """
        return self.module.attest(
            public_key=self.keys.receipt.verifying_key.raw, user_data=self.binding(generation).encode(), nonce=nonce
        )


def build_info(config: EnclaveConfig) -> BuildInfo:
    """Return what this build is: protocol library, enclave, computing libraries, baked configuration."""
    return BuildInfo(
        protocol_version=version("ephemeralml-protocol"),
        enclave_version=version("ephemeralml-enclave"),
        libraries=fingerprint(),
        configuration=config.digest,
    )


async def boot(config: EnclaveConfig, module: SecurityModule, host: HostClient, trail: AuditTrail) -> BootedEnclave:
    """Boot: what goes wrong is reported to the host as a reason code, and raised.

    Raises:
        EphemeralError: the enclave may not serve; the leaf and its code say why.
    """
    contents = await host.boot_config()
    await trail.record(AuditKind.AUDIT_KIND_BOOT_STARTED)
    try:
        booted = await _boot(config, module, host, trail, contents)
    except EphemeralError as error:
        await trail.record(AuditKind.AUDIT_KIND_BOOT_FAILED, reason=error.code)
        raise
    await trail.record(AuditKind.AUDIT_KIND_SERVING)
    return booted


async def _boot(
    config: EnclaveConfig, module: SecurityModule, host: HostClient, trail: AuditTrail, contents: bytes
) -> BootedEnclave:
    sources = parse_boot_config(contents)
    keys, recipients = EnclaveKeys(), RecipientKeys(len(sources))
    report = StartupReport()
    with report.stage("attestation"):
        probe = await asyncio.to_thread(
            lambda: module.attest(public_key=keys.receipt.verifying_key.raw, user_data=None, nonce=None)
        )
    registry = ModelRegistry(model_loader(config, module, host, report, recipients))
    enclave = BootedEnclave(config, keys, module, measure(probe), registry, report)
    models, refused = await _load_models(sources, registry, trail)
    registry.switch(enclave.next_generation(contents, models, refused))
    return enclave


def model_loader(
    config: EnclaveConfig, module: SecurityModule, host: HostClient, report: StartupReport, keys: RecipientKeys
) -> Loader:
    """Return what loads models from this host's store, past every check that a boot makes.

    `report` keeps the stages of each model's last load that succeeded.
    """
    begun: dict[str, StartupReport] = {}

    async def fetch(source: ModelSource) -> VerifiedManifest:
        begun[source.model_id] = stages = StartupReport()
        with stages.stage("manifest", source.model_id):
            return await fetch_manifest(source, config, host)

    async def load(verified: VerifiedManifest) -> LoadedModel:
        model_id = verified.manifest.model_id
        stages = begun.pop(model_id, StartupReport())
        model = await load_verified(verified, module, host, stages, keys)
        report.replace(model_id, stages)
        return model

    return Loader(fetch, load)


async def _load_models(
    sources: list[ModelSource], registry: ModelRegistry, trail: AuditTrail
) -> tuple[dict[str, LoadedModel], dict[str, str]]:
    """Load what may be loaded: one model's fault is its own, unless no other is left to serve."""
    models: dict[str, LoadedModel] = {}
    refused: dict[str, str] = {}
    for source in sources:
        try:
            model = models[source.model_id] = await registry.get(source)
        except EphemeralError as error:
            refused[source.model_id] = error.code
            await trail.record(AuditKind.AUDIT_KIND_MODEL_FAILED, reason=error.code, model_id=source.model_id)
            if not models and source is sources[-1]:
                raise
        else:
            await trail.model(AuditKind.AUDIT_KIND_MODEL_LOADED, model.served)
    return models, refused


def parse_boot_config(raw: bytes) -> list[ModelSource]:
    """Parse the host's boot configuration against its closed schema.

    Raises:
        ConfigError: malformed, with unknown fields, empty, too many models, or one model twice.
    """
    try:
        contents = BootContents.FromString(raw)
    except DecodeError:
        raise ConfigError("the boot configuration is malformed", code="BOOT_CONFIG_MALFORMED") from None
    canonical = BootContents()
    canonical.CopyFrom(contents)
    canonical.DiscardUnknownFields()
    sources = list(contents.models)
    names = {source.model_id for source in sources}
    if canonical.SerializeToString(deterministic=True) != raw or not 0 < len(names) == len(sources) <= MAX_MODELS:
        text = f"the boot configuration must name 1 to {MAX_MODELS} models, each once, and nothing else"
        raise ConfigError(text, code="BOOT_CONFIG_MALFORMED")
    return sources
