"""Sections 6 and 11.6: trust policies, signed and plain, and bundles."""

from datetime import timedelta
from typing import Any, Final

from ephemeral.trusted.cose import parse_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.trusted.policy.signed import sign_policy, verify_policy
from ephemeralml.bundle import Build, Bundle, Messages
from tests.vectors import authority
from tests.vectors.attested_cases import BUILD as BUILDS
from tests.vectors.attested_cases import PCRS
from tests.vectors.cases import Values, VectorFile, counting
from tests.vectors.model_cases import MANIFEST, MANIFESTS
from tests.vectors.worked_example import BUILD, BUILD_DIGEST, INPUTS, SESSION

SIGNER_SEED: Final = counting(0xD0, 32)
PUBLISHER: Final[bytes] = MANIFESTS.derive(MANIFEST)["publisher_key"]
SMALLEST: Final = f"""version = 1
[[measurements]]
label = "the build"
pcr0 = "{PCRS[0].hex()}"
pcr1 = "{PCRS[1].hex()}"
pcr2 = "{PCRS[2].hex()}"
"""
FULL: Final = f"""# Every key of the format.
version = 1
name = "test vectors"
serial = 7
not_after = 2026-02-01T00:00:00Z
max_document_age_seconds = 120

[[roots]]
name = "test vectors"
sha256 = "{authority.root_sha256().hex()}"
evaluation = true

[[measurements]]
label = "second"
pcr0 = "{"b0" * 48}"
pcr1 = "{"b1" * 48}"
pcr2 = "{"b2" * 48}"
pcr3 = "{"b3" * 48}"
pcr8 = "{"b8" * 48}"
not_before = 2026-01-10T00:00:00+01:00

[[measurements]]
label = "first"
pcr0 = "{PCRS[0].hex()}"
pcr1 = "{PCRS[1].hex()}"
pcr2 = "{PCRS[2].hex()}"
not_after = 2026-01-20T12:00:00.5Z

[[models]]
model_id = "m"
min_version = 1

[[models]]
model_id = "a"
min_version = 24
manifest_sha256 = "{counting(0, 32).hex()}"

[[publishers]]
name = "test vectors"
public_key = "{PUBLISHER.hex()}"
"""


def _digest(inputs: Values) -> Values:
    policy = TrustPolicy.parse(inputs["toml"])
    if "signer_seed" not in inputs:
        return {"policy_digest": policy.digest}
    key, toml = SigningKey.from_seed(inputs["signer_seed"]), inputs["toml"].encode()
    raw = sign_policy(toml, key, now=authority.AT)
    assert verify_policy(raw, key.verifying_key, now=authority.AT + timedelta(days=1)).policy == policy
    envelope = parse_sign1(raw, max_bytes=len(raw))
    return {
        "policy_digest": policy.digest,
        "signer_key": key.verifying_key.raw,
        "sig_structure": sig_structure(envelope.protected, toml),
        "signature": envelope.signature,
        "signed_policy": raw,
    }


POLICIES: Final = VectorFile(
    name="policy",
    section="6",
    description="The digest of a policy from its TOML, and the signed policy where the signer's Ed25519 seed is given. "
    "Without [[roots]] the root is AWS Nitro Root-G1, named as in section 6.",
    derive=_digest,
    cases={"the smallest": {"toml": SMALLEST}, "every key, signed": {"toml": FULL, "signer_seed": SIGNER_SEED}},
)


def _bundle(inputs: Values) -> Values:
    build = inputs["build"]
    bundle = Bundle(
        document=inputs["document"],
        receipt=inputs["receipt"],
        manifest=inputs["manifest"],
        models=tuple((name, version, bytes.fromhex(digest)) for name, version, digest in inputs["models"]),
        policy_digest=inputs["policy_digest"],
        sdk_version=inputs["sdk_version"],
        build=Build(build["protocol_version"], build["enclave_version"], build["libraries"], build["configuration"]),
        messages=Messages(inputs["request"], inputs["result"]) if "request" in inputs else None,
    )
    assert bundle.build.digest == BUILD_DIGEST
    return {"bundle": bundle.encode()}


_SESSION: Final = SESSION.derive(INPUTS)
BUNDLE: Final[dict[str, Any]] = {
    "document": INPUTS["document"],
    "receipt": _SESSION["receipt"],
    "manifest": MANIFESTS.derive(MANIFEST)["manifest"],
    "models": INPUTS["models"],
    "policy_digest": POLICIES.derive({"toml": FULL})["policy_digest"],
    "sdk_version": "0.1.0",
    "build": {
        "protocol_version": BUILD["protocol_version"],
        "enclave_version": BUILD["enclave_version"],
        "libraries": BUILDS.derive(BUILD)["fingerprint"],
        "configuration": BUILD["config_digest"],
    },
}
BUNDLES: Final = VectorFile(
    name="bundle",
    section="11.6",
    description="Bundles of the session in session.json, under the policy of policy.json, with and without plaintext. "
    "They verify: document, receipt, manifest, models and build belong together.",
    derive=_bundle,
    cases={
        "without plaintext": BUNDLE,
        "with request and result": BUNDLE | {"request": _SESSION["request"], "result": _SESSION["result"]},
    },
)
FILES: Final = (POLICIES, BUNDLES)
