"""The second implementation, continued: policies and bundles (docs/SPEC.md, sections 6 and 11.6)."""

import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from tests.vectors.independent import Values, cbor, ed25519, hexed
from tests.vectors.independent_documents import sig_structure

_AWS: Final = {
    "name": "aws-nitro-root-g1",
    "sha256": "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _time(table: dict[str, Any], name: str) -> int | None:
    return (table[name] - _EPOCH) // timedelta(microseconds=1) if name in table else None


def policy_digest(toml: str) -> bytes:
    policy = tomllib.loads(toml)
    builds = [
        [
            build.get("label", ""),
            {int(key[3:]): hexed(value) for key, value in build.items() if key.startswith("pcr")},
            _time(build, "not_before"),
            _time(build, "not_after"),
        ]
        for build in policy["measurements"]
    ]
    models = [
        [
            model["model_id"],
            model.get("min_version", 1),
            hexed(model["manifest_sha256"]) if "manifest_sha256" in model else None,
        ]
        for model in policy.get("models", [])
    ]
    roots = [[r["name"], hexed(r["sha256"]), r.get("evaluation", False)] for r in policy.get("roots", [_AWS])]
    content = {
        "version": 1,
        "name": policy.get("name", ""),
        "serial": policy.get("serial"),
        "not_after": _time(policy, "not_after"),
        "max_document_age": 1000 * policy.get("max_document_age_seconds", 300),
        "roots": sorted(roots),
        "measurements": sorted(cbor(build) for build in builds),
        "models": sorted(cbor(model) for model in models),
        "publishers": sorted(hexed(publisher["public_key"]) for publisher in policy.get("publishers", [])),
    }
    return sha256(cbor(content)).digest()


def derive_policy(inputs: Values) -> Values:
    digest = policy_digest(inputs["toml"])
    if "signer_seed" not in inputs:
        return {"policy_digest": digest}
    public, sign = ed25519(hexed(inputs["signer_seed"]))
    protected, payload = cbor({1: -8, 3: "application/vnd.ephemeralml.policy+toml"}), inputs["toml"].encode()
    signed = sig_structure(protected, payload)
    return {
        "policy_digest": digest,
        "signer_key": public,
        "sig_structure": signed,
        "signature": sign(signed),
        "signed_policy": b"\xd2" + cbor([protected, {}, payload, sign(signed)]),
    }


def derive_bundle(inputs: Values) -> Values:
    build = inputs["build"]
    versions = [build["protocol_version"], build["enclave_version"]]
    content: dict[int, Any] = {
        0: "ephemeralml/bundle/v1",
        1: hexed(inputs["document"]),
        2: hexed(inputs["receipt"]),
        3: hexed(inputs["manifest"]),
        4: [[name, version, hexed(digest)] for name, version, digest in inputs["models"]],
        5: hexed(inputs["policy_digest"]),
        6: {1: inputs["sdk_version"], 2: 1, 3: [*versions, hexed(build["libraries"]), hexed(build["configuration"])]},
    }
    if "request" in inputs:
        content |= {7: hexed(inputs["request"]), 8: hexed(inputs["result"])}
    return {"bundle": cbor({**content, 9: sha256(cbor(content)).digest()})}


DERIVE: Final[dict[str, Callable[[Values], Values]]] = {"policy": derive_policy, "bundle": derive_bundle}
