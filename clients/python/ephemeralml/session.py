"""Requests and answers inside an open session, without IO: seal a request, open and verify its answer."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from ephemeral.errors import ConfigError, FrameRejected, ReceiptError, RequestRefused
from ephemeral.protocol import SALT_BYTES, Method
from ephemeral.trusted.channel import Answer
from ephemeral.trusted.handshake import ClientSession
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.trusted.receipt import (
    EnclaveMeasurements,
    ReceiptExpectations,
    VerifiedReceipt,
    verify_receipt,
)
from ephemeral.wire import (
    EmbedRequest,
    EmbedResult,
    FailureCode,
    InferenceRequest,
    InferenceResponse,
    InferenceResult,
    SealedFrame,
    ServedModel,
)
from ephemeralml.bundle import Messages
from ephemeralml.embeddings import Embeddings

_FAILURE_PREFIX: Final = "FAILURE_CODE_"
_DETAIL_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class PendingEmbed:
    """A sealed embedding request, and all that is needed to judge its answer."""

    _session: ClientSession
    _answer: Answer
    _message: bytes
    _model: ServedModel
    _count: int

    @property
    def frame(self) -> SealedFrame:
        """What goes to the enclave."""
        return self._answer.frame

    def open(self, frame: SealedFrame, now: datetime) -> Embeddings:
        """Open the answer and verify its receipt; nothing is returned without one.

        Raises:
            FrameRejected: not the authentic answer to this request.
            RequestRefused: the enclave's sealed answer is a refusal.
            ReceiptError: the receipt is absent or does not bind this request and this answer.
        """
        message = self._answer.open(frame)
        self._answer.finish()
        response, result = parse_answer(message)
        embed = self._embed_result(result)
        receipt = self._verify(response, now)
        vectors = np.frombuffer(embed.values, "<f4").reshape(embed.count, embed.dimension)
        return Embeddings(
            vectors=vectors.astype(np.float32, copy=False),
            receipt=receipt,
            document=self._session.enclave.document.raw,
            messages=Messages(self._message, response.result),
            model_id=self._model.model_id,
            tokens=int(embed.tokens),
            tokenize_us=int(result.timings.tokenize_us),
            queue_us=int(result.timings.queue_us),
            compute_us=int(result.timings.compute_us),
        )

    def _verify(self, response: InferenceResponse, now: datetime) -> VerifiedReceipt:
        if not response.receipt:
            raise ReceiptError("the answer has no receipt", code="RECEIPT_MISSING")
        enclave = self._session.enclave
        expected = ReceiptExpectations(
            model_id=self._model.model_id,
            model_hash=self._model.manifest_digest,
            request_hash=hashlib.sha256(self._message).digest(),
            response_hash=hashlib.sha256(response.result).digest(),
            attestation_doc_hash=enclave.document.payload_sha256,
            measurements=attested_measurements(enclave.document.pcrs),
            nonce=self._session.nonce,
            sequence_number=self._answer.sequence,
            security_mode=enclave.security_mode,
            accept_evaluation=enclave.security_mode == "evaluation",
        )
        return verify_receipt(response.receipt, enclave.receipt_key, expected, now=now)

    def _embed_result(self, result: InferenceResult) -> EmbedResult:
        if result.WhichOneof("outcome") == "failure":
            raise refusal_of(result)
        embed = result.embed
        if embed.count != self._count or not 0 < len(embed.values) == 4 * embed.count * embed.dimension:
            raise FrameRejected("the answer does not have one row per text", code="RESULT_SHAPE")
        return embed


def seal_embed(session: ClientSession, model: ServedModel, texts: Sequence[str]) -> PendingEmbed:
    """Seal a request for one vector per text.

    Raises:
        RequestRefused: no text, an empty one, one that is not Unicode, or more than the session's limits.
        SessionUnknown: the session's requests are used up.
    """
    _bound(session, texts)
    message = InferenceRequest(
        salt=secrets.token_bytes(SALT_BYTES),
        model_id=model.model_id,
        manifest_digest=model.manifest_digest,
        embed=EmbedRequest(texts=texts),
    ).SerializeToString(deterministic=True)
    return PendingEmbed(session, session.channel.seal(message, Method.INFER), message, model, len(texts))


def choose_model(session: ClientSession, trust: TrustPolicy, wanted: str | None) -> ServedModel:
    """Return the served model asked for, or the only one, if the policy accepts it.

    Raises:
        ConfigError: not served, or several are served and none was named.
        MeasurementMismatch: the policy does not accept the manifest it is served from.
    """
    served = {model.model_id: model for model in session.models}
    names = ", ".join(sorted(served)) or "no model"
    if wanted is None and len(served) != 1:
        raise ConfigError(f"the enclave serves {names}: name one", code="MODEL_AMBIGUOUS")
    model = served.get(wanted) if wanted is not None else next(iter(served.values()))
    if model is None:
        raise ConfigError(f"the enclave does not serve {wanted}; it serves {names}", code="UNKNOWN_MODEL")
    trust.accept_model(model.model_id, model.version, model.manifest_digest)
    return model


def attested_measurements(pcrs: Mapping[int, bytes]) -> EnclaveMeasurements:
    """Return the registers a receipt must name, out of a verified document's; those nobody extended are absent."""
    extended = {index: pcrs[index] for index in (3, 4, 8) if pcrs.get(index, b"").strip(b"\0")}
    return EnclaveMeasurements(
        pcrs[0], pcrs[1], pcrs[2], pcr3=extended.get(3), pcr4=extended.get(4), pcr8=extended.get(8)
    )


def _bound(session: ClientSession, texts: Sequence[str]) -> None:
    try:
        sizes = [len(text.encode()) for text in texts]
    except UnicodeEncodeError:
        raise RequestRefused("a text holds a lone surrogate: it is not valid Unicode", code="INVALID_REQUEST") from None
    limits = session.limits
    if not sizes or not all(sizes):
        raise RequestRefused("there must be at least one text, and none may be empty", code="INVALID_REQUEST")
    if len(sizes) > limits.max_texts or sum(sizes) > limits.max_text_bytes:
        text = (
            f"{len(sizes)} texts of {sum(sizes):,} bytes together; one request takes at most "
            f"{limits.max_texts:,} texts of {limits.max_text_bytes:,} bytes: send several"
        )
        raise RequestRefused(text, code="TOO_LARGE")


def parse_answer(message: bytes) -> tuple[InferenceResponse, InferenceResult]:
    """Parse an opened answer.

    Raises:
        FrameRejected: it is none.
    """
    try:
        response = InferenceResponse.FromString(message)
        result = InferenceResult.FromString(response.result)
    except DecodeError:
        raise FrameRejected("the frame was refused") from None
    return response, result


def refusal_of(result: InferenceResult) -> RequestRefused:
    """Return the error for a result that is a failure."""
    name = FailureCode.Name(result.failure.code) if result.failure.code in FailureCode.values() else "UNKNOWN"
    return RequestRefused(result.failure.detail[:_DETAIL_CHARACTERS], code=name.removeprefix(_FAILURE_PREFIX))
