"""Signed model manifests: the publisher's word on what a model is.

A manifest is deterministic CBOR with integer keys in a tagged COSE_Sign1 (Ed25519). It names the files of the model,
the encrypted container that holds them and the KMS key that wraps its data key. Everything else, the bucket and KMS
included, is unauthenticated input that has to agree with it.

The KMS encryption context is ``{model_id, version, content_sha256}``. It has to exist before the data key does, and the
manifest holds the wrapped data key, so it cannot contain the digest of the whole manifest. The digest of the content
part (model id, version, architecture, files) says which model the key is for just as exactly.
"""

from ephemeral.trusted.artifact import ContainerInfo, ModelFile
from ephemeral.trusted.manifest.model import (
    KmsKeyInfo,
    ModelManifest,
    content_digest,
    dek_commitment,
    encryption_context,
    model_set_digest,
)
from ephemeral.trusted.manifest.signing import (
    UnverifiedManifest,
    VerifiedManifest,
    key_id,
    parse_manifest,
    sign_manifest,
    verify_manifest,
)

__all__ = [
    "ContainerInfo",
    "KmsKeyInfo",
    "ModelFile",
    "ModelManifest",
    "UnverifiedManifest",
    "VerifiedManifest",
    "content_digest",
    "dek_commitment",
    "encryption_context",
    "key_id",
    "model_set_digest",
    "parse_manifest",
    "sign_manifest",
    "verify_manifest",
]
