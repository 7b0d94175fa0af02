"""An answer is data only with the receipt that proves it: every way to lose, forge or swap one is refused."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from ephemeral.errors import FrameRejected, ReceiptError, RequestRefused
from ephemeral.protocol import Method
from ephemeral.trusted.channel import Request
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.handshake import Accepted, ClientSession
from ephemeral.trusted.receipt import ReceiptClaims, issue_receipt
from ephemeral.wire import EmbedResult, Failure, InferenceResponse, InferenceResult
from ephemeralml.session import PendingEmbed, attested_measurements, seal_embed
from tests.support.invariants import tally
from tests.support.peers import MODELS, Enclave, now, open_session

VECTORS = np.arange(6, dtype="<f4").reshape(2, 3)
Change = Callable[[ReceiptClaims], ReceiptClaims]


class Pair:
    """A client's pending request and the enclave's half of it."""

    def __init__(self) -> None:
        self.enclave = Enclave()
        self.session: ClientSession
        self.accepted: Accepted
        self.session, self.accepted = open_session(self.enclave)

    def ask(self) -> tuple[PendingEmbed, Request]:
        pending = seal_embed(self.session, MODELS[0], ["one", "two"])
        return pending, self.accepted.channel.open(pending.frame, Method.INFER)

    def claims(self, request: Request, result: bytes) -> ReceiptClaims:
        document = self.session.enclave.document
        return ReceiptClaims(
            iss="test",
            iat=int(now().timestamp()),
            cti=b"\x01" * 16,
            model_id=MODELS[0].model_id,
            model_version="1",
            model_hash=MODELS[0].manifest_digest,
            request_hash=hashlib.sha256(request.message).digest(),
            response_hash=hashlib.sha256(result).digest(),
            attestation_doc_hash=document.payload_sha256,
            measurements=attested_measurements(document.pcrs),
            policy_version="test",
            sequence_number=request.sequence,
            execution_time_ms=1,
            memory_peak_mb=1,
            security_mode="evaluation",
            eat_nonce=self.session.nonce,
            model_hash_scheme="sha256-manifest",
        )


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair()


def embedded(**changes: object) -> bytes:
    fields = {"count": 2, "dimension": 3, "values": VECTORS.tobytes(), "tokens": 8} | changes
    return InferenceResult(salt=bytes(32), embed=EmbedResult(**fields)).SerializeToString()


def reply(request: Request, result: bytes, receipt: bytes) -> bytes:
    return InferenceResponse(result=result, receipt=receipt).SerializeToString()


def test_proven_answer_is_data(pair: Pair) -> None:
    pending, request = pair.ask()
    receipt = issue_receipt(pair.claims(request, embedded()), pair.enclave.receipt_key)
    answer = pending.open(request.seal(reply(request, embedded(), receipt)), now())
    assert np.array_equal(answer.vectors, VECTORS)
    assert answer.receipt.raw == receipt


def test_answer_stripped_of_its_receipt_is_no_data(pair: Pair) -> None:
    pending, request = pair.ask()
    with tally("INV-5", 1), pytest.raises(ReceiptError) as caught:
        pending.open(request.seal(reply(request, embedded(), b"")), now())
    assert caught.value.code == "RECEIPT_MISSING"


def test_receipt_by_another_key_is_refused(pair: Pair) -> None:
    pending, request = pair.ask()
    receipt = issue_receipt(pair.claims(request, embedded()), SigningKey.generate())
    with tally("INV-5", 1), pytest.raises(ReceiptError) as caught:
        pending.open(request.seal(reply(request, embedded(), receipt)), now())
    assert caught.value.code == "SIG_FAILED"


def test_receipt_by_the_identity_key_is_refused(pair: Pair) -> None:
    pending, request = pair.ask()
    receipt = issue_receipt(pair.claims(request, embedded()), pair.enclave.identity_key)
    with pytest.raises(ReceiptError):
        pending.open(request.seal(reply(request, embedded(), receipt)), now())


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("request_hash", b"\x09" * 32, "REQUEST_HASH_MISMATCH"),
        ("response_hash", b"\x09" * 32, "RESPONSE_HASH_MISMATCH"),
        ("attestation_doc_hash", b"\x09" * 32, "ATTESTATION_DOC_HASH_MISMATCH"),
        ("model_hash", b"\x09" * 32, "MODEL_HASH_MISMATCH"),
        ("model_id", "other", "MODEL_ID_MISMATCH"),
        ("sequence_number", 2**20, "SEQUENCE_MISMATCH"),
        ("security_mode", "production", "SECURITY_MODE_MISMATCH"),
        ("eat_nonce", b"\x09" * 32, "NONCE_MISMATCH"),
        ("eat_nonce", None, "NONCE_MISSING"),
        ("iat", 2**40, "TIMESTAMP_FUTURE"),
    ],
)
def test_receipt_of_something_else_is_refused(pair: Pair, field: str, value: object, code: str) -> None:
    pending, request = pair.ask()
    claims = dataclasses.replace(pair.claims(request, embedded()), **{field: value})
    receipt = issue_receipt(claims, pair.enclave.receipt_key)
    with tally("INV-5", 1), pytest.raises(ReceiptError) as caught:
        pending.open(request.seal(reply(request, embedded(), receipt)), now())
    assert code in caught.value.failures


def test_receipt_with_other_measurements_is_refused(pair: Pair) -> None:
    pending, request = pair.ask()
    claims = pair.claims(request, embedded())
    other = dataclasses.replace(claims, measurements=dataclasses.replace(claims.measurements, pcr1=b"\x09" * 48))
    receipt = issue_receipt(other, pair.enclave.receipt_key)
    with pytest.raises(ReceiptError):
        pending.open(request.seal(reply(request, embedded(), receipt)), now())


def test_receipt_of_an_earlier_answer_is_refused(pair: Pair) -> None:
    _, earlier = pair.ask()
    receipt = issue_receipt(pair.claims(earlier, embedded()), pair.enclave.receipt_key)
    pending, request = pair.ask()
    with pytest.raises(ReceiptError):
        pending.open(request.seal(reply(request, embedded(), receipt)), now())


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1},
        {"count": 3},
        {"dimension": 0},
        {"dimension": 4},
        {"values": b""},
        {"values": VECTORS.tobytes()[:-1]},
    ],
    ids=str,
)
def test_result_without_one_row_per_text_is_refused(pair: Pair, changes: dict[str, object]) -> None:
    pending, request = pair.ask()
    result = embedded(**changes)
    receipt = issue_receipt(pair.claims(request, result), pair.enclave.receipt_key)
    with pytest.raises(FrameRejected):
        pending.open(request.seal(reply(request, result, receipt)), now())


def test_sealed_junk_is_refused(pair: Pair) -> None:
    pending, request = pair.ask()
    with pytest.raises(FrameRejected):
        pending.open(request.seal(b"\xff\xff"), now())


def test_sealed_refusal_names_its_code_and_stays_one_line(pair: Pair) -> None:
    for code, name in ((1, "UNKNOWN_MODEL"), (999, "UNKNOWN")):
        pending, request = pair.ask()
        failure = InferenceResult(salt=bytes(32), failure=Failure(code=code, detail="x\n" * 1000))  # type: ignore[arg-type]
        with pytest.raises(RequestRefused) as caught:
            pending.open(request.seal(reply(request, failure.SerializeToString(), b"")), now())
        assert caught.value.code == name
        assert len(caught.value.detail) <= 300
