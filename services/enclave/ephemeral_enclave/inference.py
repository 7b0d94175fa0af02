"""From an opened request to the message that answers it. Refusals are answers too: they travel sealed."""

import secrets
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from ephemeral.errors import RequestRefused
from ephemeral.protocol import MAX_FRAME_BYTES, SALT_BYTES, SHA256_BYTES
from ephemeral.trusted.channel import Request
from ephemeral.wire import (
    DescribeResult,
    EmbedResult,
    Failure,
    FailureCode,
    InferenceRequest,
    InferenceResponse,
    InferenceResult,
    StartupStage,
    Timings,
)
from ephemeral_enclave.batcher import Batcher, Computed
from ephemeral_enclave.boot import LIMITS, BootedEnclave
from ephemeral_enclave.counters import Counters
from ephemeral_enclave.generation import Generation
from ephemeral_enclave.model import LoadedModel
from ephemeral_enclave.quota import Quotas
from ephemeral_enclave.receipts import ReceiptIssuer
from ephemeral_enclave.report import Stage
from ephemeral_enclave.sessions import Session

_FLOAT_BYTES: Final = 4
# Receipt, timings and salt, and up to 12 % of padding.
_ANSWER_OVERHEAD: Final = MAX_FRAME_BYTES // 8


class Inference:
    """Answers requests with the enclave's models."""

    def __init__(self, enclave: BootedEnclave, batcher: Batcher, counters: Counters) -> None:
        self._counters = counters
        self._quotas = Quotas(enclave.config.quotas)
        self._build = enclave.build
        self._report = enclave.report
        self._batcher = batcher
        self._receipts = ReceiptIssuer(enclave)

    def require_room(self, session: Session) -> None:
        """Return if a session may ask for something now; to be asked before its request is opened.

        Raises:
            Overloaded: the queue, or the session's share of it, is full; nothing was executed.
        """
        self._batcher.require_room(session.channel.session_id)

    async def answer(self, session: Session, request: Request) -> bytes:
        """Return the serialised InferenceResponse.

        Raises:
            Overloaded: nothing was executed.
        """
        try:
            inference = parse_request(request.message)
            with session.generation.in_use():
                model = _model(inference, session.generation)
                if inference.HasField("describe"):
                    self._counters.uncomputed()
                    return self._description(model)
                texts = list(inference.embed.texts)  # a message makes each of them anew whenever it is asked
                _fit(texts, model)
                computed = await self._compute(session, model, texts)
        except RequestRefused as refusal:
            self._counters.uncomputed()
            return _failure(refusal)
        outcome = _result(computed)
        self._counters.answered(outcome)
        result = outcome.SerializeToString(deterministic=True)
        receipt = self._receipts.issue(session, request.sequence, model, request.message, result, computed.compute_us)
        return InferenceResponse(result=result, receipt=receipt).SerializeToString(deterministic=True)

    async def _compute(self, session: Session, model: LoadedModel, texts: Sequence[str]) -> Computed:
        with self._quotas.admitted(model.verified.manifest.model_id, len(texts)):
            return await self._batcher.submit(model.engine, texts, session.channel.session_id)

    def _description(self, model: LoadedModel) -> bytes:
        """What is described was attested already or is no claim about an answer, and nothing ran: no receipt."""
        stages = self._report.concerning(model.served.model_id)
        described = DescribeResult(manifest=model.verified.raw, build=self._build, startup=map(_stage, stages))
        result = InferenceResult(salt=secrets.token_bytes(SALT_BYTES), describe=described)
        return _unreceipted(result)


def _model(inference: InferenceRequest, generation: Generation) -> LoadedModel:
    model = generation.models.get(inference.model_id)
    if model is None:
        served = ", ".join(sorted(generation.models))
        raise RequestRefused(f"no such model; this enclave serves {served}", code="UNKNOWN_MODEL")
    if inference.manifest_digest and inference.manifest_digest != model.verified.digest:
        raise RequestRefused("the model is served from another manifest", code="MANIFEST_MISMATCH")
    return model


def _fit(texts: Sequence[str], model: LoadedModel) -> None:
    """Refuse before computing what would not fit into one frame afterwards."""
    size = len(texts) * model.engine.dimension * _FLOAT_BYTES
    if size > MAX_FRAME_BYTES - _ANSWER_OVERHEAD:
        most = (MAX_FRAME_BYTES - _ANSWER_OVERHEAD) // (model.engine.dimension * _FLOAT_BYTES)
        raise RequestRefused(f"the answer would not fit into one frame: send at most {most} texts", code="TOO_LARGE")


def parse_request(message: bytes) -> InferenceRequest:
    """Parse and bound one request.

    Raises:
        RequestRefused: malformed, empty, too large, or not a task of this enclave.
    """
    try:
        request = InferenceRequest.FromString(message)
    except DecodeError:
        raise RequestRefused("the request is malformed", code="INVALID_REQUEST") from None
    if len(request.salt) != SALT_BYTES or len(request.manifest_digest) not in (0, SHA256_BYTES):
        raise RequestRefused("the request's salt or manifest digest has the wrong length", code="INVALID_REQUEST")
    task = request.WhichOneof("task")
    if task not in ("embed", "describe"):
        raise RequestRefused("this enclave computes embeddings only", code="UNSUPPORTED_TASK")
    if task == "embed":
        _bound(request.embed.texts)
    return request


def _bound(texts: Sequence[str]) -> None:
    if len(texts) > LIMITS.max_texts:  # before any is looked at: a frame has room for a million
        raise RequestRefused(f"{len(texts)} texts; at most {LIMITS.max_texts}", code="TOO_LARGE")
    if not texts or not all(texts):
        raise RequestRefused("there must be at least one text, and none may be empty", code="INVALID_REQUEST")
    size = sum(len(text.encode()) for text in texts)
    if size > LIMITS.max_text_bytes:
        text = f"{len(texts)} texts of {size} bytes; at most {LIMITS.max_text_bytes} bytes together"
        raise RequestRefused(text, code="TOO_LARGE")


def _result(computed: Computed) -> InferenceResult:
    vectors = computed.result.vectors
    embedded = EmbedResult(
        count=vectors.shape[0],
        dimension=vectors.shape[1],
        values=vectors.astype("<f4", copy=False).tobytes(),
        tokens=computed.result.tokens,
    )
    timings = Timings(tokenize_us=computed.tokenize_us, queue_us=computed.queue_us, compute_us=computed.compute_us)
    return InferenceResult(salt=secrets.token_bytes(SALT_BYTES), embed=embedded, timings=timings)


def _stage(stage: Stage) -> StartupStage:
    duration = round(stage.milliseconds * 1000)
    return StartupStage(name=stage.name, model_id=stage.model_id, duration_us=duration, bytes=stage.bytes)


def _failure(refusal: RequestRefused) -> bytes:
    failure = Failure(code=FailureCode.Value(f"FAILURE_CODE_{refusal.code}"), detail=refusal.detail)
    return _unreceipted(InferenceResult(salt=secrets.token_bytes(SALT_BYTES), failure=failure))


def _unreceipted(result: InferenceResult) -> bytes:
    return InferenceResponse(result=result.SerializeToString(deterministic=True)).SerializeToString(deterministic=True)
