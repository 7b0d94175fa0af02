"""One whole session, byte for byte: both ends of the product with every random value fixed."""

import struct
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ephemeral.protocol import Method
from ephemeral.trusted.attestation import SessionBinding
from ephemeral.trusted.channel import EnclaveChannel
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.handshake import ClientSession, Greeting, Identity, Offer, schedule
from ephemeral.trusted.handshake.hpke import KemKey
from ephemeral.trusted.handshake.schedule import Transcript
from ephemeral.trusted.manifest import model_set_digest
from ephemeral.trusted.policy import Measurements, RootOfTrust, TrustPolicy
from ephemeral.trusted.receipt import ReceiptExpectations, issue_receipt, verify_receipt
from ephemeral.wire import (
    ClientHello,
    CloseNotice,
    EmbedRequest,
    EmbedResult,
    Failure,
    FailureCode,
    HelloResponse,
    InferenceRequest,
    InferenceResponse,
    InferenceResult,
    OpenRequest,
    ServedModel,
    ServerHello,
    SessionLimits,
    Timings,
)
from tests.vectors import authority
from tests.vectors.attested_cases import BUILD as BUILDS
from tests.vectors.attested_cases import IDENTITY_SEED, PCRS, RECEIPT_KEY, RECEIPT_SEED
from tests.vectors.cases import Values, VectorFile, counting
from tests.vectors.channel_cases import exports
from tests.vectors.model_cases import CLAIMS, MANIFEST, MANIFESTS, claims_of

LIMITS: Final = {
    "lifetime_seconds": 3600,
    "idle_seconds": 600,
    "max_requests": 1_048_576,
    "max_frame_bytes": 4_194_304,
    "max_texts": 512,
    "max_text_bytes": 1_048_576,
}
BUILD: Final[dict[str, Any]] = dict(BUILDS.cases["one build"])
BUILD_DIGEST: Final[bytes] = BUILDS.derive(BUILD)["build_digest"]
MANIFEST_DIGEST: Final[bytes] = MANIFESTS.derive(MANIFEST)["manifest_digest"]
BINDING: Final = SessionBinding(
    SigningKey.from_seed(IDENTITY_SEED).verifying_key,
    boot_config_digest=b"\x0b" * 32,
    model_set_digest=model_set_digest([("m", 1, MANIFEST_DIGEST)]),
    build_digest=BUILD_DIGEST,
)
POLICY: Final = TrustPolicy(
    (RootOfTrust("test vectors", authority.root_sha256(), evaluation=True),),
    (Measurements(PCRS[0], PCRS[1], PCRS[2], label="test vectors"),),
)
INPUTS: Final[dict[str, Any]] = {
    "client_nonce": counting(0, 32),
    "server_nonce": counting(0x20, 32),
    "offer_id": counting(0x90, 16),
    "kem_private_key": counting(0x40, 32),
    "ephemeral_private_key": counting(0x80, 32),
    "identity_seed": IDENTITY_SEED,
    "receipt_seed": RECEIPT_SEED,
    "document": authority.document(PCRS, public_key=RECEIPT_KEY, user_data=BINDING.encode(), nonce=counting(0, 32)),
    "root_sha256": authority.root_sha256(),
    "now": "2026-01-15T12:00:00Z",
    "limits": LIMITS,
    "models": [["m", 1, MANIFEST_DIGEST.hex()]],
    "request_salt": counting(0xA0, 32),
    "texts": ["hello", "Grüße"],
    "result_salt": counting(0xC0, 32),
    "dimension": 3,
    "values": [0.5, -1.25, 2.0, 0.0, 1.0, -0.0078125],
    "tokens": 7,
    "queue_us": 11,
    "compute_us": 7000,
    "receipt_claims": {
        name: CLAIMS[name] for name in ("iss", "iat", "cti", "policy_version", "execution_time_ms", "memory_peak_mb")
    },
    "unknown_model": "another",
    "failure_detail": "no such model; this enclave serves m",
}


def _hellos(inputs: Values) -> tuple[bytes, bytes]:
    client = ClientHello(version=1, suites=[1], nonce=inputs["client_nonce"], fresh_attestation=True)
    kem = X25519PrivateKey.from_private_bytes(inputs["kem_private_key"]).public_key().public_bytes_raw()
    server = ServerHello(suite=1, nonce=inputs["server_nonce"], offer_id=inputs["offer_id"], kem_public_key=kem)
    return client.SerializeToString(deterministic=True), server.SerializeToString(deterministic=True)


def _models(inputs: Values) -> list[ServedModel]:
    rows = ((model, version, bytes.fromhex(digest)) for model, version, digest in inputs["models"])
    return [ServedModel(model_id=m, version=v, manifest_digest=digest) for m, v, digest in rows]


class _Ends:
    """Both ends of one session after an honest handshake, and what went over the wire for it."""

    def __init__(self, inputs: Values) -> None:
        before = Transcript(*_hellos(inputs), inputs["document"])
        key = KemKey.of(X25519PrivateKey.from_private_bytes(inputs["kem_private_key"]))
        identity_key = SigningKey.from_seed(inputs["identity_seed"])
        identity = Identity(identity_key, SessionLimits(**inputs["limits"]), _models(inputs))
        offer = Offer(identity, inputs["client_nonce"], key, inputs["offer_id"], before)
        self.encapsulated, self.exported = exports(before, inputs["kem_private_key"], inputs["ephemeral_private_key"])
        self.transcript = replace(before, encapsulated_key=self.encapsulated)
        accepted = offer.open(self.encapsulated, None)
        self.hello, self.opened = offer.response, accepted.response
        self.enclave: EnclaveChannel = accepted.channel
        self.client = self._client(inputs, key)

    def _client(self, inputs: Values, key: KemKey) -> ClientSession:
        """Verify and confirm as a client does; only its random values are put in their place."""
        greeting = Greeting(POLICY)
        greeting._nonce, greeting._hello = inputs["client_nonce"], self.transcript.client_hello
        response = HelloResponse.FromString(self.hello.SerializeToString())
        peer = greeting.verify(response, authority.AT)
        request = OpenRequest(offer_id=inputs["offer_id"], encapsulated_key=self.encapsulated)
        keys = schedule.decapsulate(key, self.transcript)
        self.finished = keys.enclave_to_client.open(self.opened.finished, Method.OPEN)
        return replace(peer.open(), request=request, _keys=keys).confirm(self.opened)

    def exchange(self, message: bytes, answer: bytes, method: Method) -> tuple[bytes, bytes]:
        """Carry one request and its answer; return both frames."""
        waiting = self.client.channel.seal(message, method)
        request = self.enclave.open(waiting.frame, method)
        assert request.message == message
        frame = request.seal(answer)
        assert waiting.open(frame) == answer
        waiting.finish()
        return waiting.frame.SerializeToString(deterministic=True), frame.SerializeToString(deterministic=True)


def _request(inputs: Values, model: str) -> bytes:
    digest = bytes.fromhex(inputs["models"][0][2]) if model == inputs["models"][0][0] else b""
    task = EmbedRequest(texts=inputs["texts"])
    request = InferenceRequest(salt=inputs["request_salt"], model_id=model, manifest_digest=digest, embed=task)
    return request.SerializeToString(deterministic=True)


def _result(inputs: Values) -> bytes:
    values = struct.pack(f"<{len(inputs['values'])}f", *inputs["values"])
    embed = EmbedResult(
        count=len(inputs["texts"]), dimension=inputs["dimension"], values=values, tokens=inputs["tokens"]
    )
    timings = Timings(queue_us=inputs["queue_us"], compute_us=inputs["compute_us"])
    result = InferenceResult(salt=inputs["result_salt"], embed=embed, timings=timings)
    return result.SerializeToString(deterministic=True)


def _failure(inputs: Values) -> bytes:
    result = InferenceResult(
        salt=inputs["result_salt"],
        failure=Failure(code=FailureCode.FAILURE_CODE_UNKNOWN_MODEL, detail=inputs["failure_detail"]),
    )
    response = InferenceResponse(result=result.SerializeToString(deterministic=True))
    return response.SerializeToString(deterministic=True)


def _receipt(inputs: Values, ends: _Ends, sequence: int) -> bytes:
    """Issue the receipt of one answer, and hold it against what a client must demand."""
    request, result = _request(inputs, "m"), _result(inputs)
    enclave = ends.client.enclave
    claims = claims_of(
        {
            **inputs["receipt_claims"],
            "eat_nonce": inputs["client_nonce"],
            "model_id": "m",
            "model_version": "1",
            "model_hash": bytes.fromhex(inputs["models"][0][2]),
            "model_hash_scheme": "sha256-manifest",
            "request_hash": sha256(request).digest(),
            "response_hash": sha256(result).digest(),
            "attestation_doc_hash": enclave.document.payload_sha256,
            "enclave_measurements": CLAIMS["enclave_measurements"],
            "sequence_number": sequence,
            "security_mode": "evaluation",
        }
    )
    receipt = issue_receipt(claims, SigningKey.from_seed(inputs["receipt_seed"]))
    expected = ReceiptExpectations(
        model_id="m",
        model_hash=claims.model_hash,
        request_hash=claims.request_hash,
        response_hash=claims.response_hash,
        attestation_doc_hash=enclave.document.payload_sha256,
        measurements=claims.measurements,
        nonce=ends.client.nonce,
        sequence_number=sequence,
        security_mode=enclave.security_mode,
        accept_evaluation=True,
    )
    verify_receipt(receipt, enclave.receipt_key, expected, now=authority.AT)
    return receipt


def _session(inputs: Values) -> Values:
    ends = _Ends(inputs)
    request, result, receipt = _request(inputs, "m"), _result(inputs), _receipt(inputs, ends, 1)
    response = InferenceResponse(result=result, receipt=receipt).SerializeToString(deterministic=True)
    request_frame, answer_frame = ends.exchange(request, response, Method.INFER)
    unknown, failure = _request(inputs, inputs["unknown_model"]), _failure(inputs)
    unknown_frame, failure_frame = ends.exchange(unknown, failure, Method.INFER)
    close = ends.client.channel.seal(CloseNotice().SerializeToString(), Method.CLOSE)
    ends.enclave.open(close.frame, Method.CLOSE)
    return {
        "client_hello": ends.transcript.client_hello,
        "server_hello": ends.transcript.server_hello,
        "signature": ends.hello.signature,
        "document_id": ends.client.enclave.document.payload_sha256,
        "encapsulated_key": ends.encapsulated,
        "th": ends.transcript.hash,
        **ends.exported,
        "finished": ends.finished,
        "finished_frame": ends.opened.finished.SerializeToString(deterministic=True),
        "request": request,
        "request_frame": request_frame,
        "result": result,
        "receipt": receipt,
        "response": response,
        "answer_frame": answer_frame,
        "refused_request": unknown,
        "refused_request_frame": unknown_frame,
        "failure": failure,
        "failure_frame": failure_frame,
        "close_frame": close.frame.SerializeToString(deterministic=True),
    }


SESSION: Final = VectorFile(
    name="session",
    section="20",
    description="The worked example: one session from the first message to Close. Every value that is random in use is "
    "an input. Frames are serialised SealedFrames; the receipt answers sequence 1.",
    derive=_session,
    cases={"one session": INPUTS},
)
FILES: Final = (SESSION,)
