"""One model from its signed manifest to a built engine: verified, released, decrypted in memory, never on disk."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from ephemeral.errors import ManifestError, ModelFormatError
from ephemeral.protocol import MAX_MANIFEST_BYTES
from ephemeral.trusted.artifact import ContainerOpener, split_files
from ephemeral.trusted.manifest import VerifiedManifest, verify_manifest
from ephemeral.trusted.secrets import SecretBytes
from ephemeral.wire import ModelSource, ServedModel
from ephemeral_enclave.config import EnclaveConfig
from ephemeral_enclave.engine import Engine
from ephemeral_enclave.engines import build_engine, precision
from ephemeral_enclave.fetch import Pieces, fetch_object, find_object
from ephemeral_enclave.host_client import HostClient
from ephemeral_enclave.nsm import SecurityModule
from ephemeral_enclave.release import RecipientKeys, release_data_key
from ephemeral_enclave.report import Stage, StartupReport, timed

MAX_MODEL_BYTES: Final = 16 * 1024**3


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that serves, and the manifest that says what it is."""

    verified: VerifiedManifest
    engine: Engine

    @property
    def served(self) -> ServedModel:
        """How clients see the model."""
        manifest = self.verified.manifest
        return ServedModel(model_id=manifest.model_id, version=manifest.version, manifest_digest=self.verified.digest)


async def load_model(
    source: ModelSource,
    config: EnclaveConfig,
    module: SecurityModule,
    host: HostClient,
    report: StartupReport,
    keys: RecipientKeys | None = None,
) -> LoadedModel:
    """Load one model; the host only says where it lies. `keys` may have an RSA key ready for its data key.

    1. the manifest is signed by a baked-in publisher, names this model, and is no older than the baked-in floor
    2. KMS releases the data key to this enclave, and it is the one the manifest commits to
    3. every byte of the container decrypts and hashes to what the manifest says
    4. the engine is built from those very buffers

    Raises:
        ModelError: step 1, 3 or 4; the leaf says how.
        ReleaseError: step 2.
        StorageError: the host could not deliver.
    """
    with report.stage("manifest", source.model_id):
        verified = await fetch_manifest(source, config, host)  # 1
    return await load_verified(verified, module, host, report, keys or RecipientKeys(1))  # 2 to 4


async def load_verified(
    verified: VerifiedManifest, module: SecurityModule, host: HostClient, report: StartupReport, keys: RecipientKeys
) -> LoadedModel:
    """Load the model of a verified manifest: steps 2 to 4 of load_model(), and what they raise."""
    model_id = verified.manifest.model_id
    dtype = precision(verified.manifest.architecture)
    with report.stage("kms", model_id):
        data_key = await release_data_key(verified, module, host, keys)  # 2
    with data_key:
        plaintext = await fetch_plaintext(verified, data_key, host, report)  # 3
    with report.stage("load", model_id):
        files = split_files(plaintext, verified.manifest.files)
        engine = await asyncio.to_thread(build_engine, files, dtype)  # others may be served meanwhile
        return LoadedModel(verified, engine)  # 4


async def fetch_manifest(source: ModelSource, config: EnclaveConfig, host: HostClient) -> VerifiedManifest:
    """Fetch and verify a manifest.

    Raises:
        ManifestError: not signed by a baked-in publisher, another model's, or below the minimum version.
        StorageError: the host could not deliver.
    """
    size, etag = await host.head(source.manifest_key)
    if not 0 < size <= MAX_MANIFEST_BYTES:
        raise ManifestError(f"the manifest has {size} bytes, at most {MAX_MANIFEST_BYTES} are read")
    raw = b"".join([part async for part in host.fetch(source.manifest_key, 0, size, etag)])
    verified = verify_manifest(raw, config.publishers)
    manifest = verified.manifest
    if manifest.model_id != source.model_id:
        raise ManifestError("the manifest is another model's", code="MANIFEST_OTHER_MODEL")
    floor = config.minimum_versions.get(manifest.model_id)
    if floor is None:
        raise ManifestError("this image does not admit the model", code="MODEL_NOT_ADMITTED")
    if manifest.version < floor:
        raise ManifestError(f"version {manifest.version} is below the floor {floor}", code="MODEL_ROLLBACK")
    return verified


async def fetch_plaintext(
    verified: VerifiedManifest, data_key: SecretBytes, host: HostClient, report: StartupReport
) -> memoryview:
    """Stream the container through verification and decryption into one buffer.

    Raises:
        ContainerError: damaged, cut short, reordered or another's.
        StorageError: the host could not deliver.
    """
    manifest = verified.manifest
    if manifest.plaintext_size > MAX_MODEL_BYTES:
        text = f"the model has {manifest.plaintext_size} bytes, at most {MAX_MODEL_BYTES} are loaded"
        raise ModelFormatError(text, code="MODEL_TOO_LARGE")
    container = manifest.container
    with report.stage("fetch", manifest.model_id) as fetching:
        fetching.bytes = container.size
        etag = await find_object(host, container.key, container.size)
        opener = ContainerOpener(container, manifest.plaintext_size, data_key)
        # Decryption runs in a thread while the next ranges are on their way: its time is part of the stage above.
        decrypting = Stage("decrypt", manifest.model_id, bytes=manifest.plaintext_size)
        async with aclosing(fetch_object(host, container.key, container.size, etag)) as ranges:
            async for pieces in ranges:
                with timed(decrypting):
                    await asyncio.to_thread(_push, opener, pieces)
        report.stages.append(decrypting)
        return opener.finish()


def _push(opener: ContainerOpener, pieces: Pieces) -> None:
    for piece in pieces:
        opener.push(piece)
