"""The true path: text in, vectors and a verified receipt out, over every process the product has."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ephemeral.errors import ConfigError, MeasurementMismatch, RequestRefused, SessionUnknown
from ephemeral.protocol import MAX_TEXTS, Method
from ephemeral.trusted.handshake import Greeting
from ephemeral.trusted.policy import AcceptedModel, TrustPolicy
from ephemeral.wire import (
    CloseRequest,
    EmbedRequest,
    Failure,
    FailureCode,
    GenerateRequest,
    InferenceRequest,
    InferenceResponse,
    InferenceResult,
)
from ephemeral_devstack.stack import MODEL_ID, Stack
from ephemeralml import Client
from ephemeralml.offline import verify_offline
from tests.support import minilm

TEXTS = ["The patient reports chest pain.", "Invoice 4711 is unpaid.", "naïve café 東京 🙂", "word " * 400]


def test_vectors_equal_sentence_transformers_in_process(client: Client) -> None:
    reference = SentenceTransformer(str(minilm.FOLDER), device="cpu").encode(TEXTS)
    answer = client.embed(TEXTS)
    assert np.abs(answer.vectors - reference).max() <= 1e-5
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.shape == (4, 384)


def test_receipt_names_what_ran_and_says_evaluation(client: Client, stack: Stack) -> None:
    answer = client.embed(TEXTS)
    claims = answer.receipt.claims
    assert claims.model_id == MODEL_ID
    assert claims.model_hash == client.models[0].manifest_digest
    assert claims.security_mode == "evaluation"
    assert claims.measurements.pcr0 == client.enclave.document.pcrs[0]
    assert claims.policy_version.endswith(
        hashlib.sha256((stack.options.state / "enclave.toml").read_bytes()).hexdigest()
    )
    assert 0 < claims.memory_peak_mb < 4096
    assert abs(datetime.now(UTC).timestamp() - claims.iat) < 60


def test_receipts_number_the_answers_of_a_session(client: Client) -> None:
    numbers = [client.embed(["x"]).receipt.claims.sequence_number for _ in range(3)]
    assert numbers == [1, 2, 3]


def test_receipt_verifies_offline_from_two_files(client: Client, trust: TrustPolicy) -> None:
    answer = client.embed(TEXTS)
    verdict = verify_offline(answer.receipt.raw, answer.document, trust)
    assert verdict.receipt.claims == answer.receipt.claims


def test_lost_session_is_renewed_without_the_caller_noticing(client: Client) -> None:
    first = client.embed(["x"])
    session = client._current()
    frame = session.channel.seal(b"", Method.CLOSE).frame
    client._connection.sessions.Close(CloseRequest(frame=frame), timeout=5)
    second = client.embed(["x"])
    assert np.array_equal(first.vectors, second.vectors)
    assert second.receipt.claims.sequence_number == 1
    assert second.receipt.claims.eat_nonce != first.receipt.claims.eat_nonce


def test_closed_session_answers_nobody(stack: Stack, trust: TrustPolicy) -> None:
    client = Client.connect(stack.address, trust=trust)
    session = client._current()
    client.close()
    with Client.connect(stack.address, trust=trust) as other, pytest.raises(Exception) as caught:
        other._connection.inference.Infer(session.channel.seal(b"x", Method.INFER).frame, timeout=5)
    assert caught.value.code().name == "UNAUTHENTICATED"
    assert SessionUnknown.default_code in str(caught.value.trailing_metadata())


def test_thirty_two_threads_share_one_client(client: Client) -> None:
    texts = [f"text number {number}" for number in range(32)]
    alone = [client.embed([text]).vectors for text in texts]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda text: client.embed([text]).vectors, texts))
    assert all(np.abs(a - b).max() <= 1e-5 for a, b in zip(alone, together, strict=True))


def test_stream_of_an_embedding_is_one_final_chunk(client: Client) -> None:
    session = client._current()
    message = InferenceRequest(salt=os.urandom(32), model_id=MODEL_ID, embed=EmbedRequest(texts=["x"]))
    answer = session.channel.seal(message.SerializeToString(), Method.INFER_STREAM)
    chunks = [answer.open(frame) for frame in client._connection.inference.InferStream(answer.frame, timeout=30)]
    answer.finish()
    assert len(chunks) == 1
    assert InferenceResult.FromString(InferenceResponse.FromString(chunks[0]).result).embed.count == 1


def refusal(client: Client, message: InferenceRequest | bytes) -> Failure:
    """Send a request that the SDK would not; return the sealed refusal."""
    raw = message if isinstance(message, bytes) else message.SerializeToString()
    answer = client._current().channel.seal(raw, Method.INFER)
    response = InferenceResponse.FromString(answer.open(client._connection.inference.Infer(answer.frame, timeout=30)))
    assert not response.receipt
    return InferenceResult.FromString(response.result).failure


def test_refusals_travel_sealed_with_a_reason(client: Client) -> None:
    salt, embed = bytes(32), EmbedRequest(texts=["x"])
    cases = {
        FailureCode.FAILURE_CODE_INVALID_REQUEST: [
            b"\xff\xff",
            InferenceRequest(salt=b"short", model_id=MODEL_ID, embed=embed),
            InferenceRequest(salt=salt, model_id=MODEL_ID, manifest_digest=b"short", embed=embed),
            InferenceRequest(salt=salt, model_id=MODEL_ID, embed=EmbedRequest(texts=[])),
            InferenceRequest(salt=salt, model_id=MODEL_ID, embed=EmbedRequest(texts=["x", ""])),
        ],
        FailureCode.FAILURE_CODE_UNKNOWN_MODEL: [InferenceRequest(salt=salt, model_id="other", embed=embed)],
        FailureCode.FAILURE_CODE_MANIFEST_MISMATCH: [
            InferenceRequest(salt=salt, model_id=MODEL_ID, manifest_digest=bytes(32), embed=embed)
        ],
        FailureCode.FAILURE_CODE_UNSUPPORTED_TASK: [
            InferenceRequest(salt=salt, model_id=MODEL_ID, generate=GenerateRequest(prompt="x")),
            InferenceRequest(salt=salt, model_id=MODEL_ID),
        ],
        FailureCode.FAILURE_CODE_TOO_LARGE: [
            InferenceRequest(salt=salt, model_id=MODEL_ID, embed=EmbedRequest(texts=["x"] * (MAX_TEXTS + 1))),
            InferenceRequest(salt=salt, model_id=MODEL_ID, embed=EmbedRequest(texts=["x" * (1024 * 1024 + 1)])),
        ],
    }
    for code, messages in cases.items():
        for message in messages:
            assert refusal(client, message).code == code


def test_sdk_refuses_bad_texts_before_anything_is_sealed(client: Client) -> None:
    for texts, code in (
        ([], "INVALID_REQUEST"),
        ([""], "INVALID_REQUEST"),
        (["\ud800"], "INVALID_REQUEST"),
        (["x" * 10**7], "TOO_LARGE"),
    ):
        with pytest.raises(RequestRefused) as caught:
            client.embed(texts)
        assert caught.value.code == code
    assert client.embed(["x"]).receipt.claims.sequence_number == 1
    with pytest.raises(TypeError):
        client.embed("one string")
    with pytest.raises(ConfigError):
        client.embed(["x"], model="other")


def test_model_that_the_policy_does_not_accept_is_not_asked(stack: Stack, trust: TrustPolicy) -> None:
    refused = {
        "MODEL_NOT_ACCEPTED": AcceptedModel("other"),
        "MODEL_ROLLBACK": AcceptedModel(MODEL_ID, min_version=2),
        "MODEL_MANIFEST": AcceptedModel(MODEL_ID, manifest_sha256=b"\x01" * 32),
    }
    for code, model in refused.items():
        policy = TrustPolicy(trust.roots, trust.measurements, (model,))
        with Client.connect(stack.address, trust=policy) as client, pytest.raises(MeasurementMismatch) as caught:
            client.embed(["x"])
        assert caught.value.code == code
    digest = None
    with Client.connect(stack.address, trust=trust) as client:
        digest = client.models[0].manifest_digest
    policy = TrustPolicy(trust.roots, trust.measurements, (AcceptedModel(MODEL_ID, manifest_sha256=digest),))
    with Client.connect(stack.address, trust=policy) as client:
        client.embed(["x"])


def test_enclave_process_writes_no_file_but_its_logs(client: Client, stack: Stack) -> None:
    client.embed(["x"])
    folder = Path(f"/proc/{stack.zones['enclave'].process.pid}/fd")
    open_files = {str(link.readlink()) for link in folder.iterdir()}
    written = {
        path for path in open_files if path.startswith("/") and not path.startswith(("/dev/", "/proc/", "/sys/"))
    }
    assert written <= {str(stack.logs / "enclave.log"), *(p for p in written if ".coverage" in p)}


def test_document_without_a_nonce_is_shared_between_clients_that_ask_for_none(
    client: Client, trust: TrustPolicy
) -> None:
    documents = set()
    for _ in range(2):
        greeting = Greeting(trust, fresh=False)
        answer = client._connection.sessions.Hello(greeting.request, timeout=10)
        greeting.verify(answer, datetime.now(UTC))
        documents.add(answer.attestation_document)
    assert len(documents) == 1
