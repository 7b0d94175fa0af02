"""An enclave is believed about its model and its build only as far as it attested them."""

from dataclasses import dataclass, replace

import pytest

from ephemeral.errors import BindingMismatch, EphemeralError, FrameRejected, ManifestError, RequestRefused
from ephemeral.protocol import Method
from ephemeral.trusted.attestation import SessionBinding
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import VerifiedManifest, model_set_digest, sign_manifest
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.wire import (
    BuildInfo,
    DescribeResult,
    EmbedResult,
    Failure,
    InferenceRequest,
    InferenceResponse,
    InferenceResult,
    ServedModel,
)
from ephemeralml.description import ModelDescription, StartupStage, seal_description
from tests.support.kept_evidence import BUILD, MANIFEST, PUBLISHER, KeptEvidence
from tests.support.peers import Enclave, open_session

KEPT = KeptEvidence()
SERVED = (ServedModel(model_id=MANIFEST.model_id, version=MANIFEST.version, manifest_digest=KEPT.manifest_digest),)
STATED = BuildInfo(
    protocol_version=BUILD.protocol_version,
    enclave_version=BUILD.enclave_version,
    libraries=BUILD.libraries,
    configuration=BUILD.configuration,
)


@dataclass
class Attested(Enclave):
    """An enclave that attests the kept manifest and build."""

    models: tuple[ServedModel, ...] = SERVED

    @property
    def binding(self) -> SessionBinding:
        return SessionBinding(
            self.identity_key.verifying_key, b"\x06" * 32, model_set_digest(KEPT.models), BUILD.digest
        )


def answered(result: InferenceResult, publisher: SigningKey | None = None) -> ModelDescription:
    """Ask an enclave that answers with `result`; return what the client makes of it."""
    enclave = Attested()
    session, accepted = open_session(enclave)
    pending = seal_description(session, SERVED[0])
    request = accepted.channel.open(pending.frame, Method.INFER)
    assert InferenceRequest.FromString(request.message).WhichOneof("task") == "describe"
    frame = request.seal(InferenceResponse(result=result.SerializeToString()).SerializeToString())
    policy: TrustPolicy = enclave.policy()
    if publisher is not None:
        policy = replace(policy, publishers=(publisher.verifying_key,))
    return pending.open(frame, policy)


def described(manifest: bytes = KEPT.manifest, **build: object) -> InferenceResult:
    info = BuildInfo.FromString(STATED.SerializeToString())
    for name, value in build.items():
        setattr(info, name, value)
    return InferenceResult(salt=bytes(32), describe=DescribeResult(manifest=manifest, build=info))


def test_attested_manifest_and_build_are_believed() -> None:
    description = answered(described())
    assert description.manifest.manifest == MANIFEST
    assert description.build == BUILD
    assert description.models == KEPT.models


def test_start_is_what_the_enclave_tells() -> None:
    result = described()
    result.describe.startup.add(name="fetch", model_id=MANIFEST.model_id, duration_us=1500, bytes=7)
    assert answered(result).startup == (StartupStage("fetch", MANIFEST.model_id, 1.5, 7),)


def test_publisher_is_verified_when_the_policy_names_one() -> None:
    assert isinstance(answered(described(), PUBLISHER).manifest, VerifiedManifest)


@pytest.mark.parametrize(
    ("result", "publisher", "kind", "code"),
    [
        (described(sign_manifest(replace(MANIFEST, version=4), PUBLISHER)), None, ManifestError, "MANIFEST_DIGEST"),
        (described(b""), None, ManifestError, "MANIFEST_MALFORMED"),
        (described(), SigningKey.generate(), ManifestError, "MANIFEST_UNKNOWN_PUBLISHER"),
        (described(protocol_version="9"), None, BindingMismatch, "BUILD_MISMATCH"),
        (described(enclave_version=""), None, BindingMismatch, "BUILD_MISMATCH"),
        (described(libraries=bytes(32)), None, BindingMismatch, "BUILD_MISMATCH"),
        (described(configuration=b""), None, BindingMismatch, "BUILD_MISMATCH"),
        (InferenceResult(embed=EmbedResult(count=1)), None, ManifestError, "MANIFEST_MALFORMED"),
        (InferenceResult(failure=Failure(code=1, detail="no")), None, RequestRefused, "UNKNOWN_MODEL"),
    ],
)
def test_anything_else_is_refused(
    result: InferenceResult, publisher: SigningKey | None, kind: type[EphemeralError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        answered(result, publisher)
    assert caught.value.code == code


def test_answer_to_another_request_is_refused() -> None:
    session, accepted = open_session(Attested())
    first, second = seal_description(session, SERVED[0]), seal_description(session, SERVED[0])
    request = accepted.channel.open(first.frame, Method.INFER)
    frame = request.seal(InferenceResponse(result=described().SerializeToString()).SerializeToString())
    with pytest.raises(FrameRejected):
        second.open(frame, Attested().policy())
