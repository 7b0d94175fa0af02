"""What an enclave boots against: a KMS, an S3 and a host, each a process, with a small model published."""

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import cbor2

from ephemeral.transport import Address
from ephemeral.trusted.artifact import ModelFile, container_size
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.cose import encode_sign1, parse_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import (
    KmsKeyInfo,
    ModelManifest,
    content_digest,
    dek_commitment,
    encryption_context,
    sign_manifest,
    verify_manifest,
)
from ephemeral.trusted.secrets import SecretBytes
from ephemeral.wire import ModelSource
from ephemeral_devstack.files import enclave_config
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeral_devstack.processes import ZoneProcess
from ephemeral_devstack.security_module import answer
from ephemeral_enclave.config import EnclaveConfig
from ephemeral_enclave.host_client import HostClient
from ephemeral_enclave.nsm import NitroSecurityModule
from ephemeralml.publishing.checks import CheckedModel, check_model
from ephemeralml.publishing.folder import pack_folder
from ephemeralml.publishing.release import PublishedModel, Release
from ephemeralml.publishing.upload import publish
from tests.support.s3_front import S3Front
from tests.support.simulated_kms import MODEL_ID, PCRS, SimulatedKms, running_kms
from tests.support.simulated_service import running_service
from tests.support.tiny_model import save_tiny_model

BUCKET = "models"
SOURCE_KEY = f"models/{MODEL_ID}/1/manifest.cose"


@dataclasses.dataclass
class Cloud:
    """The published model, its publisher, and the services around it."""

    nsm: SimulatedNsm
    kms: SimulatedKms
    s3: Any
    publisher: SigningKey
    published: PublishedModel
    services: str
    folder: Path
    front: S3Front

    @property
    def source(self) -> ModelSource:
        return ModelSource(model_id=MODEL_ID, manifest_key=self.published.manifest_key)

    @property
    def manifest(self) -> ModelManifest:
        return verify_manifest(self.published.manifest, [self.publisher.verifying_key]).manifest

    def config(self, host: str | None = None, floor: int = 1) -> EnclaveConfig:
        raw = enclave_config("tcp://127.0.0.1:0", host or self.services, self.publisher, MODEL_ID)
        return EnclaveConfig.parse(raw.replace(b"minimum_version = 1", b"minimum_version = %d" % floor))

    def module(self, nsm: SimulatedNsm | None = None) -> NitroSecurityModule:
        return NitroSecurityModule(lambda request: answer(nsm or self.nsm, request))

    def put(self, key: str, body: bytes) -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        return key

    def get(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def resigned(self, name: str, key: SigningKey | None = None, **changes: Any) -> ModelSource:
        """Store another manifest, validly signed, that differs from the published one in `changes`."""
        manifest = dataclasses.replace(self.manifest, **changes)
        return self.stored(name, sign_manifest(manifest, key or self.publisher))

    def published_unchecked(self, folder: Path, version: int) -> ModelSource:
        """Publish what no honest publisher's tool lets pass."""
        release = Release(MODEL_ID, version)
        model = CheckedModel(folder, pack_folder(folder))
        kms, s3, key = self.kms.client("publisher"), self.s3, self.kms.create_key()
        published = publish(model, release, signing_key=self.publisher, key_arn=key, kms=kms, s3=s3, bucket=BUCKET)
        return ModelSource(model_id=MODEL_ID, manifest_key=published.manifest_key)

    def claimed(self, name: str, size: int) -> ModelSource:
        """Store a valid manifest that claims one file of `size` bytes, with a data key that KMS releases for it."""
        files = (ModelFile("model.safetensors", b"\x01" * 32, size),)
        context = encryption_context(MODEL_ID, 1, content_digest(MODEL_ID, 1, "sentence-transformers", files))
        key_arn = self.kms.create_key()
        plain, wrapped = self.kms.data_key(key_arn, context)
        chunk = self.manifest.container.chunk_bytes
        container = dataclasses.replace(self.manifest.container, size=container_size(size, chunk))
        kms = KmsKeyInfo(key_arn, wrapped, dek_commitment(SecretBytes(plain)))
        return self.resigned(name, files=files, container=container, kms=kms)

    def edited(self, name: str, edit: Callable[[dict[Any, Any]], None]) -> ModelSource:
        """Store the manifest with its fields edited, signed as they are: also what no manifest may say."""
        envelope = parse_sign1(self.published.manifest, max_bytes=1_000_000)
        assert envelope.payload is not None
        values = cbor2.loads(envelope.payload)
        edit(values)
        payload = encode(values)
        signature = self.publisher.sign(sig_structure(envelope.protected, payload))
        return self.stored(name, encode_sign1(envelope.protected, payload, signature, tagged=True))

    def stored(self, name: str, signed: bytes) -> ModelSource:
        return ModelSource(model_id=MODEL_ID, manifest_key=self.put(f"attacks/{name}.cose", signed))

    @asynccontextmanager
    async def host(self, address: str | None = None) -> AsyncIterator[HostClient]:
        async with HostClient.connect(Address.parse(address or self.services)) as client:
            yield client


@contextmanager
def running_cloud(directory: Path, **host_settings: str) -> Iterator[Cloud]:
    """Run KMS, S3 and host, and publish the tiny model; the host reaches S3 through a network that can fail."""
    nsm = SimulatedNsm(PCRS)
    folder = save_tiny_model(directory / "model")
    publisher = SigningKey.generate()
    with (
        running_kms(nsm, directory) as kms,
        running_service("ephemeral_devstack.s3", ["--bucket", BUCKET], directory / "s3.log") as store,
        S3Front(store.url).running() as front,
    ):
        s3 = kms.roles["publisher"].session().client("s3", endpoint_url=store.url)
        published = publish(
            check_model(folder),
            Release(MODEL_ID, 1),
            signing_key=publisher,
            key_arn=kms.create_key(),
            kms=kms.client("publisher"),
            s3=s3,
            bucket=BUCKET,
        )
        env = {
            "EPHEMERALML_S3_BUCKET": BUCKET,
            "EPHEMERALML_MODELS": f"{MODEL_ID}={published.manifest_key}",
            "EPHEMERALML_LISTEN": "tcp://127.0.0.1:0",
            "EPHEMERALML_ENCLAVE": "tcp://127.0.0.1:1",
            "EPHEMERALML_SERVICES": "tcp://127.0.0.1:0",
            "AWS_ENDPOINT_URL_KMS": kms.url,
            "AWS_ENDPOINT_URL_S3": front.url,
            **kms.roles["host"].environment(),
            **host_settings,
        }
        zone = ZoneProcess.start("host", "ephemeral_host", logs=directory, env=env)
        try:
            ready = dict(pair.split("=", 1) for pair in zone.ready(60).split())
            yield Cloud(nsm, kms, s3, publisher, published, ready["services"], folder, front)
        finally:
            zone.stop()
