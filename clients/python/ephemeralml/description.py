"""What an enclave says of a model and of itself when asked, held against what it attested."""

import secrets
from dataclasses import dataclass
from importlib.metadata import version

from ephemeral.errors import BindingMismatch, ManifestError
from ephemeral.protocol import SALT_BYTES, Method
from ephemeral.trusted.attestation import SessionBinding
from ephemeral.trusted.channel import Answer
from ephemeral.trusted.handshake import ClientSession
from ephemeral.trusted.manifest import UnverifiedManifest, VerifiedManifest, parse_manifest, verify_manifest
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.wire import BuildInfo, DescribeRequest, DescribeResult, InferenceRequest, SealedFrame, ServedModel
from ephemeralml.bundle import Build, Bundle
from ephemeralml.embeddings import Embeddings
from ephemeralml.session import parse_answer, refusal_of


@dataclass(frozen=True, slots=True)
class StartupStage:
    """One stage of the enclave's start; `model_id` is empty where it concerns the enclave as a whole."""

    name: str
    model_id: str
    milliseconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What an attested enclave serves and was built from: manifest and build hash to digests in its document.

    `manifest` is a VerifiedManifest if the policy names publishers; otherwise only the enclave, which admits no
    manifest without a publisher's signature, vouches for it. `models` are all that the enclave serves. `startup` is how
    the enclave and this model started, as the enclave tells it by its own clock.
    """

    manifest: VerifiedManifest | UnverifiedManifest
    build: Build
    models: tuple[tuple[str, int, bytes], ...]
    startup: tuple[StartupStage, ...] = ()


@dataclass(frozen=True, slots=True)
class PendingDescription:
    """A sealed question, and all that is needed to judge its answer."""

    _session: ClientSession
    _answer: Answer
    _model: ServedModel

    @property
    def frame(self) -> SealedFrame:
        """What goes to the enclave."""
        return self._answer.frame

    def open(self, frame: SealedFrame, policy: TrustPolicy) -> ModelDescription:
        """Open the answer and hold it against the attested digests.

        Raises:
            FrameRejected: not the authentic answer to this question.
            RequestRefused: the enclave's sealed answer is a refusal.
            ManifestError: not the attested manifest, or not of a publisher the policy names.
            BindingMismatch: not the attested build.
        """
        message = self._answer.open(frame)
        self._answer.finish()
        _, result = parse_answer(message)
        if result.WhichOneof("outcome") == "failure":
            raise refusal_of(result)
        described: DescribeResult = result.describe
        return ModelDescription(
            manifest=_attested_manifest(described.manifest, self._model.manifest_digest, policy),
            build=_attested_build(described.build, self._session.enclave.binding),
            models=tuple((model.model_id, model.version, model.manifest_digest) for model in self._session.models),
            startup=tuple(
                StartupStage(stage.name, stage.model_id, stage.duration_us / 1000, stage.bytes)
                for stage in described.startup
            ),
        )


def seal_description(session: ClientSession, model: ServedModel) -> PendingDescription:
    """Seal the question what `model` is.

    Raises:
        SessionUnknown: the session's requests are used up.
    """
    message = InferenceRequest(
        salt=secrets.token_bytes(SALT_BYTES),
        model_id=model.model_id,
        manifest_digest=model.manifest_digest,
        describe=DescribeRequest(),
    ).SerializeToString(deterministic=True)
    return PendingDescription(session, session.channel.seal(message, Method.INFER), model)


def bundle_of(
    answer: Embeddings, description: ModelDescription, policy: TrustPolicy, *, include_plaintext: bool
) -> Bundle:
    """Put an answer and the description of its model together; nothing is verified here."""
    return Bundle(
        document=answer.document,
        receipt=answer.receipt.raw,
        manifest=description.manifest.raw,
        models=description.models,
        policy_digest=policy.digest,
        sdk_version=version("ephemeralml"),
        build=description.build,
        messages=answer.messages if include_plaintext else None,
    )


def _attested_manifest(raw: bytes, digest: bytes, policy: TrustPolicy) -> VerifiedManifest | UnverifiedManifest:
    manifest = verify_manifest(raw, policy.publishers) if policy.publishers else parse_manifest(raw)
    if manifest.digest != digest:
        raise ManifestError("the enclave shows another manifest than it attested", code="MANIFEST_DIGEST")
    return manifest


def _attested_build(info: BuildInfo, binding: SessionBinding) -> Build:
    build = Build(info.protocol_version, info.enclave_version, info.libraries, info.configuration)
    if build.digest != binding.build_digest:
        raise BindingMismatch("the enclave states another build than it attested", code="BUILD_MISMATCH")
    return build
