"""Sections 5.1, 5.3, 12.4 and 15: attestation documents, what they bind, and the digests in it."""

from base64 import b64decode
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

import cbor2

from ephemeral.errors import BindingMismatch
from ephemeral.protocol import PURPOSE_KMS
from ephemeral.trusted.attestation import KmsBinding, SessionBinding, build_digest, parse_document, verify_document
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import model_set_digest
from ephemeral.trusted.policy import RootOfTrust
from ephemeral.wire import BootContents, ModelSource
from tests.vectors import authority
from tests.vectors.cases import Values, VectorFile, counting

PCRS: Final = {index: bytes([0xA0 + index]) * 48 if index < 3 else bytes(48) for index in range(16)}
IDENTITY_SEED: Final = counting(0x10, 32)
RECEIPT_SEED: Final = counting(0x20, 32)
IDENTITY_KEY: Final = SigningKey.from_seed(IDENTITY_SEED).verifying_key.raw
RECEIPT_KEY: Final = SigningKey.from_seed(RECEIPT_SEED).verifying_key.raw
# A public key whose private half was thrown away: nobody has to open anything with it.
RSA_SPKI: Final = b64decode(
    """
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1eJ4fb1kB9t1WoT64iXPGiYiZR8+JtW5IaDRGOkGKDgn2EOihX/Ht5c2
8Wbvmj+mxeCPmLx4jimnvjUi0CCMHkbBNdaYstFKaxw05dRF/spJ2CnHoUmORq5oXyANeRyY3pGtgt5dgTC/OPhTmIOxvBlWsNWN
IAZp16jzSGyRlifY7UqRVONxNmwQV4hJHIAICkJm1CT2Dldo6Wl7ldmZ4ePsCpCiDEcg7jLGwoh9UGhn/E/EVhbDuxALfQWTtZvr
WdJXLiqy0cHpKAphQP/6YlfLrdJabAPqoqTeoPsVM+ibYKO+QMlPhwCth8xvb6TDnOSbLxOwVT1Ik8lnexK9iQIDAQAB
    """
)


def _binding(inputs: Values) -> Values:
    if inputs["purpose"] == PURPOSE_KMS:
        binding: SessionBinding | KmsBinding = KmsBinding(inputs["manifest_digest"])
    else:
        digests = (inputs[name] for name in ("boot_config_digest", "model_set_digest", "build_digest"))
        binding = SessionBinding(SigningKey.from_seed(IDENTITY_SEED).verifying_key, *digests)
        assert binding.identity_key.raw == inputs["identity_key"]
    encoded = binding.encode()
    assert type(binding).parse(encoded) == binding
    return {"user_data": encoded}


_SESSION: Final[dict[str, Any]] = {
    "purpose": "ephemeralml/session/v1",
    "identity_key": IDENTITY_KEY,
    "boot_config_digest": b"\x0b" * 32,
    "model_set_digest": b"\x0c" * 32,
    "build_digest": b"\x0d" * 32,
}
_SESSION_MAP: Final = dict(enumerate(_SESSION.values()))


def _refuse_binding(inputs: Values) -> str:
    parser = KmsBinding if inputs["purpose"] == PURPOSE_KMS else SessionBinding
    try:
        parser.parse(inputs["user_data"])
    except BindingMismatch as error:
        return error.code
    raise AssertionError("accepted")


def _bad(content: object, purpose: str = "ephemeralml/session/v1") -> Values:
    return {"purpose": purpose, "user_data": content if isinstance(content, bytes) else encode(content)}


BINDINGS: Final = VectorFile(
    name="bindings",
    section="5.3",
    description="user_data of both purposes. The reader of a refused one expects `purpose`.",
    derive=_binding,
    cases={
        "session": _SESSION,
        "KMS": {"purpose": PURPOSE_KMS, "manifest_digest": counting(0, 32)},
    },
    refuse=_refuse_binding,
    refused={
        "made for KMS, read as a session's": _bad({0: PURPOSE_KMS, 1: bytes(32)}),
        "made for a session, read as one for KMS": _bad(_SESSION_MAP, PURPOSE_KMS),
        "no purpose": _bad({1: bytes(32)}),
        "no map": _bad([PURPOSE_KMS]),
        "a digest missing": _bad({key: value for key, value in _SESSION_MAP.items() if key != 4}),
        "a digest of 31 bytes": _bad(_SESSION_MAP | {4: bytes(31)}),
        "another key": _bad(_SESSION_MAP | {5: bytes(32)}),
        "true instead of 1": _bad({0: PURPOSE_KMS, True: bytes(32)}, PURPOSE_KMS),
        "not deterministic": _bad(b"\xbf" + encode({0: PURPOSE_KMS, 1: bytes(32)})[1:] + b"\xff", PURPOSE_KMS),
        "an identity key of low order": _bad(_SESSION_MAP | {1: b"\x01" + bytes(31)}),
        "an identity key that is not canonical": _bad(_SESSION_MAP | {1: b"\xff" * 31 + b"\x7f"}),
    },
)


def _document(inputs: Values) -> Values:
    root = RootOfTrust("test vectors", inputs["root_sha256"], evaluation=True)
    verified = verify_document(inputs["document"], [root], now=authority.AT, max_age=timedelta(minutes=5))
    parsed = parse_document(inputs["document"])
    return {
        "document_id": verified.payload_sha256,
        "module_id": verified.module_id,
        "timestamp_ms": int(verified.timestamp.timestamp() * 1000),
        "pcr0": verified.pcrs[0],
        "pcr1": verified.pcrs[1],
        "pcr2": verified.pcrs[2],
        "certificates": [*parsed.cabundle, parsed.certificate],
        "public_key": verified.public_key,
        "user_data": verified.user_data,
        "nonce": verified.nonce,
    }


def _genuine(document: bytes) -> Values:
    return {"document": document, "root_sha256": authority.root_sha256(), "now": "2026-01-15T12:00:00Z"}


_CLAIMS: Final[dict[str, bytes | None]] = {
    "public_key": RECEIPT_KEY,
    "user_data": encode(_SESSION_MAP),
    "nonce": counting(0, 32),
}
_PAYLOAD: Final = cbor2.dumps(authority.payload(PCRS, **_CLAIMS))
_KMS: Final[dict[str, bytes | None]] = {
    "public_key": RSA_SPKI,
    "user_data": KmsBinding(counting(0, 32)).encode(),
    "nonce": None,
}
DOCUMENT: Final = VectorFile(
    name="document",
    section="5.1 and 5.2",
    description="Complete attestation documents under a root made for these vectors, valid at `now`. All variants of "
    "the session's document but the last have one id: it is over the payload, not over the signature.",
    derive=_document,
    cases={
        "session": _genuine(authority.sign(_PAYLOAD)),
        "session, with tag 18": _genuine(authority.sign(_PAYLOAD, tagged=True)),
        "session, with the other form of s": _genuine(authority.sign(_PAYLOAD, other_s=True)),
        "session, payload of indefinite length": _genuine(authority.sign(authority.indefinite(PCRS, **_CLAIMS))),
        "KMS": _genuine(authority.document(PCRS, **_KMS)),
    },
)


def _boot(inputs: Values) -> Values:
    models = [ModelSource(model_id=model, manifest_key=key) for model, key in inputs["models"]]
    contents = BootContents(models=models).SerializeToString(deterministic=True)
    return {"contents": contents, "boot_config_digest": sha256(contents).digest()}


BOOT: Final = VectorFile(
    name="boot-config",
    section="15",
    description="Serialised BootContents from pairs of model id and manifest key, and its digest in user_data.",
    derive=_boot,
    cases={
        "one model": {"models": [["m", "models/m/1/manifest"]]},
        "two models, in the order given": {"models": [["b", "b.manifest"], ["a", "a.manifest"]]},
    },
)


def _model_set(inputs: Values) -> Values:
    served = [(model, version, bytes.fromhex(digest)) for model, version, digest in inputs["models"]]
    return {"encoded": encode(sorted(served)), "model_set_digest": model_set_digest(served)}


MODEL_SET: Final = VectorFile(
    name="model-set",
    section="12.4",
    description="The model-set digest of models given as model id, version, manifest digest.",
    derive=_model_set,
    cases={
        "one model": {"models": [["m", 1, "00" * 32]]},
        "sorted, whatever the order": {"models": [["m", 2, "00" * 32], ["m", 1, "ff" * 32], ["a", 3, "01" * 32]]},
        "by model id as text, then version, then digest": {
            "models": [["b", 1, "00" * 32], ["aa", 1, "00" * 32], ["aa", 10, "00" * 32], ["aa", 2, "00" * 32]]
        },
    },
)


def _build(inputs: Values) -> Values:
    libraries = sha256("\0".join(inputs["libraries"]).encode()).digest()
    versions = inputs["protocol_version"], inputs["enclave_version"]
    return {"fingerprint": libraries, "build_digest": build_digest(*versions, libraries, inputs["config_digest"])}


BUILD: Final = VectorFile(
    name="build",
    section="5.3",
    description="The build digest, from the versions of both packages, of torch, transformers, sentence-transformers "
    "and tokenizers in this order, and the SHA-256 of the configuration baked into the image.",
    derive=_build,
    cases={
        "one build": {
            "protocol_version": "0.1.0",
            "enclave_version": "0.1.0",
            "libraries": ["2.7.0", "4.52.0", "5.0.0", "0.22.0"],
            "config_digest": counting(0, 32),
        }
    },
)
FILES: Final = (BINDINGS, DOCUMENT, BOOT, MODEL_SET, BUILD)
