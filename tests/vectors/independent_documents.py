"""The second implementation, continued: what is signed, what is encrypted at rest, and the worked example.

Like independent.py it is written from docs/SPEC.md alone and imports nothing of the product.
"""

import struct
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA384

from tests.vectors.independent import (
    Reader,
    Refused,
    Values,
    cbor,
    derive_frame,
    derive_key_schedule,
    derive_transcript,
    ed25519,
    hexed,
    hkdf_expand,
    hkdf_extract,
    proto,
)

PRIME: Final = 2**255 - 19
_RULES: Final[dict[str, int]] = {"ephemeralml/session/v1": 4, "ephemeralml/kms/v1": 1}


# ---- section 5.3: bindings


def derive_binding(inputs: Values) -> Values:
    purpose, *strings = inputs.values()
    return {"user_data": cbor({0: purpose, **{label: hexed(value) for label, value in enumerate(strings, 1)}})}


def refuse_binding(inputs: Values) -> None:
    raw, purpose = hexed(inputs["user_data"]), inputs["purpose"]
    try:
        content = Reader(raw).whole()
    except Refused:
        raise Refused("MALFORMED_BINDING") from None
    if not isinstance(content, dict) or content.get(0) != purpose:
        raise Refused("WRONG_PURPOSE")
    labels = set(range(1, _RULES[purpose] + 1))
    if {key for key in content if type(key) is int} != labels | {0} or len(content) != len(labels) + 1:
        raise Refused("MALFORMED_BINDING")
    if any(not isinstance(content[label], bytes) or len(content[label]) != 32 for label in labels):
        raise Refused("MALFORMED_BINDING")
    if purpose == "ephemeralml/session/v1" and not _sound_key(content[1]):
        raise Refused("KEY_REJECTED")


def _sound_key(raw: bytes) -> bool:
    """Say whether the bytes are a canonical point of the curve whose order does not divide 8 (RFC 8032 section 5.1)."""
    y = int.from_bytes(raw, "little") & 2**255 - 1
    d = -121665 * pow(121666, -1, PRIME) % PRIME
    square = (y * y - 1) * pow(d * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    x = x if (x * x - square) % PRIME == 0 else x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    if y >= PRIME or (x * x - square) % PRIME:
        return False
    point = (x, y)
    for _ in range(3):
        point = _doubled(point, d)
    return point != (0, 1)


def _doubled(point: tuple[int, int], d: int) -> tuple[int, int]:
    x, y = point
    product = d * x * x * y * y
    return (
        2 * x * y * pow(1 + product, -1, PRIME) % PRIME,
        (y * y + x * x) * pow(1 - product, -1, PRIME) % PRIME,
    )


# ---- sections 5.1 and 5.2: documents


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    return cbor(["Signature1", protected, b"", payload])


def derive_document(inputs: Values) -> Values:
    raw = hexed(inputs["document"])
    protected, unprotected, payload, signature = Reader(raw.removeprefix(b"\xd2")).whole()
    assert (protected, unprotected, len(signature)) == (hexed("a1013822"), {}, 96)
    content = Reader(payload, nsm=True, depth=4).whole()
    certificates = [*content["cabundle"], content["certificate"]]
    _walk(certificates, hexed(inputs["root_sha256"]), datetime.fromisoformat(inputs["now"]))
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    leaf = x509.load_der_x509_certificate(certificates[-1]).public_key()
    assert isinstance(leaf, EllipticCurvePublicKey)
    leaf.verify(encode_dss_signature(r, s), sig_structure(protected, payload), ECDSA(SHA384()))
    return {
        "document_id": sha256(payload).digest(),
        "module_id": content["module_id"],
        "timestamp_ms": content["timestamp"],
        **{f"pcr{index}": content["pcrs"][index] for index in range(3)},
        "certificates": certificates,
        **{name: content[name] for name in ("public_key", "user_data", "nonce")},
    }


def _walk(certificates: list[bytes], root: bytes, now: datetime) -> None:
    assert sha256(certificates[0]).digest() == root
    chain = [x509.load_der_x509_certificate(der) for der in certificates]
    for above, below in pairwise([chain[0], *chain]):
        below.verify_directly_issued_by(above)
        key = below.public_key()
        assert isinstance(key, EllipticCurvePublicKey)
        assert isinstance(key.curve, SECP384R1)
        assert below.not_valid_before_utc <= now <= below.not_valid_after_utc


# ---- sections 5.3, 12.4, 15: digests


def derive_boot(inputs: Values) -> Values:
    contents = proto((1, [proto((1, model), (2, key)) for model, key in inputs["models"]]))
    return {"contents": contents, "boot_config_digest": sha256(contents).digest()}


def derive_model_set(inputs: Values) -> Values:
    encoded = cbor([[model, version, hexed(digest)] for model, version, digest in sorted(inputs["models"])])
    return {"encoded": encoded, "model_set_digest": sha256(encoded).digest()}


def derive_build(inputs: Values) -> Values:
    fingerprint = sha256(b"\0".join(version.encode() for version in inputs["libraries"])).digest()
    build = [inputs["protocol_version"], inputs["enclave_version"], fingerprint, hexed(inputs["config_digest"])]
    return {"fingerprint": fingerprint, "build_digest": sha256(cbor(build)).digest()}


# ---- sections 12 and 13: models


def derive_data_key(inputs: Values) -> Values:
    key, container = hexed(inputs["data_key"]), hexed(inputs["container_id"])
    return {
        "dek_commitment": sha256(b"ephemeralml/1 dek" + key).digest(),
        "container_key": hkdf_expand(hkdf_extract(container, key), b"ephemeralml/1 container", 32),
    }


def derive_container(inputs: Values) -> Values:
    size, plaintext = inputs["chunk_bytes"], bytes(index % 251 for index in range(inputs["plaintext_size"]))
    prefix, container_id = hexed(inputs["nonce_prefix"]), hexed(inputs["container_id"])
    header = b"EPHMODEL" + struct.pack(">HI", 1, size) + container_id + prefix
    cipher = ChaCha20Poly1305(derive_data_key(inputs)["container_key"])
    chunks, sealed = [], [header]
    for index in range(-(-len(plaintext) // size)):
        final = (index + 1) * size >= len(plaintext)
        chunks.append({"nonce": prefix + struct.pack(">Q", index), "aad": header + struct.pack(">QB", index, final)})
        piece = plaintext[index * size : (index + 1) * size]
        sealed.append(cipher.encrypt(chunks[-1]["nonce"], piece, chunks[-1]["aad"]))
    container = b"".join(sealed)
    digest = sha256(container).digest()
    return {"header": header, "chunks": chunks, "container": container, "size": len(container), "sha256": digest}


def derive_manifest(inputs: Values) -> Values:
    public, sign = ed25519(hexed(inputs["publisher_seed"]))
    files = [{1: file["name"], 2: hexed(file["sha256"]), 3: file["size"]} for file in inputs["files"]]
    content = {1: inputs["model_id"], 2: inputs["version"], 3: inputs["architecture"], 4: files}
    where, kms = inputs["container"], inputs["kms"]
    payload = cbor(
        {
            0: 1,
            1: content,
            2: {
                1: where["key"],
                2: hexed(where["sha256"]),
                3: where["size"],
                4: where["chunk_bytes"],
                5: hexed(where["container_id"]),
            },
            3: {1: kms["key_arn"], 2: hexed(kms["wrapped_data_key"]), 3: hexed(kms["dek_commitment"])},
            4: inputs["created_at"],
            5: sha256(public).digest(),
        }
    )
    content_digest = sha256(cbor(content)).digest()
    context = {
        "model_id": inputs["model_id"],
        "version": str(inputs["version"]),
        "content_sha256": content_digest.hex(),
    }
    protected = cbor({1: -8, 3: "application/vnd.ephemeralml.manifest+cbor"})
    signed = sig_structure(protected, payload)
    return {
        "publisher_key": public,
        "publisher_key_id": sha256(public).digest(),
        "content_part": cbor(content),
        "content_digest": content_digest,
        "encryption_context": context,
        "protected": protected,
        "payload": payload,
        "sig_structure": signed,
        "signature": sign(signed),
        "manifest": b"\xd2" + cbor([protected, {}, payload, sign(signed)]),
        "manifest_digest": sha256(payload).digest(),
    }


# ---- section 11: receipts

_LABELS: Final = {
    "iss": 1,
    "iat": 6,
    "cti": 7,
    "eat_nonce": 10,
    "eat_profile": 265,
    "model_id": -65537,
    "model_version": -65538,
    "model_hash": -65539,
    "request_hash": -65540,
    "response_hash": -65541,
    "attestation_doc_hash": -65542,
    "enclave_measurements": -65543,
    "policy_version": -65544,
    "sequence_number": -65545,
    "execution_time_ms": -65546,
    "memory_peak_mb": -65547,
    "security_mode": -65548,
    "model_hash_scheme": -65549,
}
_BYTES: Final = {"cti", "eat_nonce", "model_hash", "request_hash", "response_hash", "attestation_doc_hash"}


def _claim(name: str, value: Any) -> Any:
    if name == "enclave_measurements":
        return {key: item if key == "measurement_type" else hexed(item) for key, item in value.items()}
    return hexed(value) if name in _BYTES else value


def derive_receipt(inputs: Values) -> Values:
    public, sign = ed25519(hexed(inputs["receipt_seed"]))
    payload = cbor({_LABELS[name]: _claim(name, value) for name, value in inputs["claims"].items()})
    protected = hexed("a2012703183d")
    signed = sig_structure(protected, payload)
    return {
        "receipt_key": public,
        "payload": payload,
        "sig_structure": signed,
        "signature": sign(signed),
        "receipt": b"\xd2" + cbor([protected, {}, payload, sign(signed)]),
    }


# ---- the worked example


class _Session:
    """The client's and the enclave's computations of one session."""

    def __init__(self, inputs: Values) -> None:
        self.inputs = inputs
        self.client_hello = proto((1, 1), (2, [b"\x01"]), (3, hexed(inputs["client_nonce"])), (4, 1))
        schedule = {name: inputs[name] for name in ("kem_private_key", "ephemeral_private_key", "document")}
        kem = derive_key_schedule(schedule | {"client_hello": "", "server_hello": ""})["kem_public_key"]
        offer = hexed(inputs["offer_id"])
        self.server_hello = proto((1, 1), (2, hexed(inputs["server_nonce"])), (3, offer), (4, kem))
        hellos = {"client_hello": self.client_hello.hex(), "server_hello": self.server_hello.hex()}
        self.keys = derive_key_schedule(schedule | hellos)
        signing = hellos | {"document": "", "encapsulated_key": "", "identity_seed": inputs["identity_seed"]}
        self.signature = derive_transcript(signing)["signature"]

    def frame(self, direction: int, method: int, sequence: int, message: bytes) -> bytes:
        place = {"direction": direction, "method": method, "sequence": sequence, "chunk": 0, "final": True}
        secret = self.keys["c2s" if direction == 1 else "s2c"].hex()
        session = self.keys["session_id"].hex()
        frame = derive_frame({**place, "secret": secret, "session_id": session, "message": message.hex()})["frame"]
        assert isinstance(frame, bytes)
        return frame

    def finished(self) -> bytes:
        limits = proto(*enumerate(self.inputs["limits"].values(), 1))
        models = [proto((1, name), (2, version), (3, hexed(sha))) for name, version, sha in self.inputs["models"]]
        return proto((1, self.keys["verify_data"]), (2, [limits]), (3, models))

    def request(self, model: str, manifest: bytes) -> bytes:
        task = proto((1, self.inputs["texts"]))
        return proto((1, hexed(self.inputs["request_salt"])), (2, model), (3, manifest), (4, [task]))

    def result(self, *outcome: tuple[int, Any], timed: bool) -> bytes:
        timings = proto((1, self.inputs["queue_us"]), (2, self.inputs["compute_us"]))
        last = [(5, [timings])] if timed else []
        return proto((1, hexed(self.inputs["result_salt"])), *outcome, *last)

    def embedding(self) -> bytes:
        numbers, texts = self.inputs["values"], self.inputs["texts"]
        values = b"".join(struct.pack("<f", number) for number in numbers)
        embed = proto((1, len(texts)), (2, self.inputs["dimension"]), (3, values), (4, self.inputs["tokens"]))
        return self.result((2, [embed]), timed=True)

    def receipt(self, request: bytes, result: bytes, document: Values) -> bytes:
        name, version, manifest = self.inputs["models"][0]
        claims = {
            **self.inputs["receipt_claims"],
            "eat_nonce": self.inputs["client_nonce"],
            "eat_profile": "https://spec.cyntrisec.com/air/v1",
            "model_id": name,
            "model_version": str(version),
            "model_hash": manifest,
            "model_hash_scheme": "sha256-manifest",
            "request_hash": sha256(request).hexdigest(),
            "response_hash": sha256(result).hexdigest(),
            "attestation_doc_hash": document["document_id"].hex(),
            "enclave_measurements": {f"pcr{index}": document[f"pcr{index}"].hex() for index in range(3)}
            | {"measurement_type": "nitro-pcr"},
            "sequence_number": 1,
            "security_mode": "evaluation",
        }
        receipt = derive_receipt({"claims": claims, "receipt_seed": self.inputs["receipt_seed"]})["receipt"]
        assert isinstance(receipt, bytes)
        return receipt


def derive_session(inputs: Values) -> Values:
    session, document = _Session(inputs), derive_document(inputs)
    identity = ed25519(hexed(inputs["identity_seed"]))[0]
    bound = Reader(document["user_data"]).whole()
    assert (bound[1], document["public_key"]) == (identity, ed25519(hexed(inputs["receipt_seed"]))[0])
    assert bound[3] == derive_model_set(inputs)["model_set_digest"]
    name, _, manifest = inputs["models"][0]
    request, result = session.request(name, hexed(manifest)), session.embedding()
    receipt = session.receipt(request, result, document)
    unknown = session.request(inputs["unknown_model"], b"")
    refusal = proto((1, 1), (2, inputs["failure_detail"]))
    failure = proto((1, session.result((4, [refusal]), timed=False)))
    return {
        "client_hello": session.client_hello,
        "server_hello": session.server_hello,
        "signature": session.signature,
        "document_id": document["document_id"],
        **{key: session.keys[key] for key in ("encapsulated_key", "th", "c2s", "s2c", "session_id")},
        "finished": session.finished(),
        "finished_frame": session.frame(2, 1, 0, session.finished()),
        "request": request,
        "request_frame": session.frame(1, 2, 1, request),
        "result": result,
        "receipt": receipt,
        "response": proto((1, result), (2, receipt)),
        "answer_frame": session.frame(2, 2, 1, proto((1, result), (2, receipt))),
        "refused_request": unknown,
        "refused_request_frame": session.frame(1, 2, 2, unknown),
        "failure": failure,
        "failure_frame": session.frame(2, 2, 2, failure),
        "close_frame": session.frame(1, 4, 3, b""),
    }


DERIVE: Final[dict[str, Callable[[Values], Values]]] = {
    "bindings": derive_binding,
    "document": derive_document,
    "boot-config": derive_boot,
    "model-set": derive_model_set,
    "build": derive_build,
    "data-key": derive_data_key,
    "container": derive_container,
    "manifest": derive_manifest,
    "receipt": derive_receipt,
    "session": derive_session,
}
REFUSE: Final[dict[str, Callable[[Values], None]]] = {"bindings": refuse_binding}
