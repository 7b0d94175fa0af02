"""One answer's kept evidence, sound and made in process, with a knob for each part that a test wants wrong."""

from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

import cbor2

from ephemeral.trusted.artifact import ContainerInfo, ModelFile, container_size
from ephemeral.trusted.attestation import SessionBinding, parse_document
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.cose import encode_sign1, parse_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import (
    KmsKeyInfo,
    ModelManifest,
    key_id,
    model_set_digest,
    parse_manifest,
    sign_manifest,
)
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.trusted.receipt import EnclaveMeasurements, ReceiptClaims, issue_receipt
from ephemeralml.bundle import Build, Bundle, Messages
from tests.support.minting import AT, BINDING, NONCE, PCR0, PCR1, PCR2, Mint

RECEIPT_SIGNER = SigningKey.from_seed(b"receipts".ljust(32, b"\0"))
PUBLISHER = SigningKey.from_seed(b"publisher".ljust(32, b"\0"))
BUILD = Build("0.1.0", "0.1.0", b"\x1b" * 32, b"\xcf" * 32)
MESSAGES = Messages(b"the exact request", b"the exact result")
FILES = tuple(
    ModelFile(name, sha256(name.encode()).digest(), size)
    for name, size in (("model.safetensors", 5000), ("tokenizer.json", 700), ("config.json", 60))
)
MANIFEST = ModelManifest(
    model_id="all-MiniLM-L6-v2",
    version=3,
    architecture="sentence-transformers",
    files=FILES,
    container=ContainerInfo("models/container", b"\x0c" * 32, container_size(5760, 4096), 4096, b"\x1d" * 16),
    kms=KmsKeyInfo("arn:aws:kms:us-east-1:123456789012:key/abc", b"wrapped", b"\x0d" * 32),
    created_at=1_760_000_000,
    publisher_key_id=key_id(PUBLISHER.verifying_key),
)


@cache
def mint() -> Mint:
    """Return one PKI for all tests: making one is slow."""
    return Mint()


def sound_claims(document: bytes, manifest_digest: bytes) -> ReceiptClaims:
    return ReceiptClaims(
        iss="ephemeralml",
        iat=int(AT.timestamp()),
        cti=bytes(range(1, 17)),
        model_id=MANIFEST.model_id,
        model_version="3",
        model_hash=manifest_digest,
        request_hash=sha256(MESSAGES.request).digest(),
        response_hash=sha256(MESSAGES.result).digest(),
        attestation_doc_hash=sha256(parse_document(document).payload).digest(),
        measurements=EnclaveMeasurements(PCR0, PCR1, PCR2),
        policy_version=f"enclave-config sha256:{BUILD.configuration.hex()}",
        sequence_number=1,
        execution_time_ms=10,
        memory_peak_mb=500,
        security_mode="evaluation",
        eat_nonce=NONCE,
        model_hash_scheme="sha256-manifest",
    )


@dataclass(frozen=True)
class KeptEvidence:
    """A document, a receipt, a manifest and the policy that accepts them; `claims` changes claims of the receipt."""

    manifest: bytes = field(default_factory=lambda: sign_manifest(MANIFEST, PUBLISHER))
    build: Build = BUILD
    document_claims: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)

    @property
    def policy(self) -> TrustPolicy:
        return replace(mint().policy, publishers=(PUBLISHER.verifying_key,))

    @property
    def manifest_digest(self) -> bytes:
        return parse_manifest(self.manifest).digest

    @property
    def models(self) -> tuple[tuple[str, int, bytes], ...]:
        return ((MANIFEST.model_id, MANIFEST.version, self.manifest_digest),)

    def bundle(self, *, plaintext: bool = False, **parts: Any) -> Bundle:
        """Return a bundle of it all; `parts` replace parts."""
        binding = SessionBinding(
            BINDING.identity_key, BINDING.boot_config_digest, model_set_digest(self.models), self.build.digest
        )
        document = mint().document(**{"user_data": binding.encode(), **self.document_claims})
        claims = replace(sound_claims(document, self.manifest_digest), **self.claims)
        sound = Bundle(
            document=document,
            receipt=issue_receipt(claims, RECEIPT_SIGNER),
            manifest=self.manifest,
            models=self.models,
            policy_digest=self.policy.digest,
            sdk_version="0.1.0",
            build=self.build,
            messages=MESSAGES if plaintext else None,
        )
        return replace(sound, **parts)


def receipt_with_mode(mode: str) -> bytes:
    """Return a receipt, soundly signed, in a security mode that no issuer of ours would write."""
    receipt = parse_sign1(KeptEvidence().bundle().receipt, max_bytes=65_536)
    assert receipt.payload is not None
    payload = encode({**cbor2.loads(receipt.payload), -65548: mode})
    signature = RECEIPT_SIGNER.sign(sig_structure(receipt.protected, payload))
    return encode_sign1(receipt.protected, payload, signature, tagged=True)


def policy_toml(policy: TrustPolicy) -> str:
    """Return a policy file that parses to `policy`."""
    (root,), (build,) = policy.roots, policy.measurements
    registers = "\n".join(f'pcr{index} = "{value.hex()}"' for index, value in build.pinned.items())
    publishers = "".join(
        f'[[publishers]]\nname = "p{number}"\npublic_key = "{key.raw.hex()}"\n'
        for number, key in enumerate(policy.publishers)
    )
    return (
        f'version = 1\n[[roots]]\nname = "{root.name}"\nsha256 = "{root.sha256.hex()}"\nevaluation = true\n'
        f'[[measurements]]\nlabel = "{build.label}"\n{registers}\n{publishers}'
    )
