"""An answer computed again: the same bits, drift, another answer, another model, or nothing to compute."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

from ephemeral.errors import EvidenceError, ReceiptError
from ephemeral.trusted.artifact import ModelFile, container_size
from ephemeral.trusted.manifest import sign_manifest
from ephemeral.wire import EmbedRequest, EmbedResult, InferenceRequest, InferenceResult
from ephemeral_enclave.replay import replay
from ephemeralml import report_of, verify_bundle
from ephemeralml.bundle import Bundle, Messages
from ephemeralml.cli import cli
from ephemeralml.report import Verdict
from tests.support.bert_folder import bert_files, write_files
from tests.support.kept_evidence import MANIFEST, PUBLISHER, KeptEvidence, policy_toml

TEXTS = ["word1 word2", "word3", "word4 word5 word6"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("model"), bert_files())


def evidence(change: float = 0.0) -> tuple[KeptEvidence, Messages]:
    """Return the kept evidence of an answer whose first value is off by `change`."""
    contents = bert_files()
    files = tuple(ModelFile(name, sha256(raw).digest(), len(raw)) for name, raw in contents.items())
    size = container_size(sum(map(len, contents.values())), MANIFEST.container.chunk_bytes)
    manifest = replace(MANIFEST, files=files, container=replace(MANIFEST.container, size=size))
    vectors = replay({name: memoryview(bytearray(raw)) for name, raw in contents.items()}, manifest.architecture, TEXTS)
    vectors[0, 0] += change
    messages = Messages(_request(), _result(vectors))
    hashes = {
        name: sha256(raw).digest()
        for name, raw in (("request_hash", messages.request), ("response_hash", messages.result))
    }
    return KeptEvidence(manifest=sign_manifest(manifest, PUBLISHER), claims=hashes), messages


def _request() -> bytes:
    return InferenceRequest(
        salt=bytes(32), model_id=MANIFEST.model_id, embed=EmbedRequest(texts=TEXTS)
    ).SerializeToString()


def _result(vectors: npt.NDArray[np.float32]) -> bytes:
    count, dimension = vectors.shape
    embed = EmbedResult(count=count, dimension=dimension, values=vectors.astype("<f4").tobytes(), tokens=6)
    return InferenceResult(salt=bytes(32), embed=embed).SerializeToString()


def bundle(change: float = 0.0) -> tuple[KeptEvidence, Bundle]:
    kept, messages = evidence(change)
    return kept, kept.bundle(messages=messages)


def test_the_same_bits_are_reported_as_such(folder: Path) -> None:
    kept, made = bundle()
    report = verify_bundle(made.encode(), kept.policy, replay=folder).report
    (check,) = [check for check in report.checks if check.id == "replay.vectors"]
    assert "the same bits" in check.compared


def test_drift_of_another_processor_is_told_from_tampering(folder: Path) -> None:
    kept, made = bundle(change=1e-6)
    report = verify_bundle(made.encode(), kept.policy, replay=folder).report
    (check,) = [check for check in report.checks if check.id == "replay.vectors"]
    assert "equal within" in check.compared


@pytest.mark.parametrize("change", [1e-3, float("nan")])
def test_enclave_that_signs_another_answer_than_its_models_is_caught(folder: Path, change: float) -> None:
    kept, made = bundle(change)
    with pytest.raises(EvidenceError) as caught:
        verify_bundle(made.encode(), kept.policy, replay=folder)
    assert caught.value.code == "REPLAY_DIFFERENT"


def test_answer_changed_after_it_was_signed_is_tampering_and_never_replayed(folder: Path) -> None:
    kept, made = bundle()
    _, other = bundle(change=1e-6)
    with pytest.raises(ReceiptError) as caught:
        verify_bundle(replace(made, messages=other.messages).encode(), kept.policy, replay=folder)
    report = report_of(caught.value)
    assert report is not None
    verdicts = {check.id: check.verdict for check in report.checks}
    assert (verdicts["receipt.response_hash"], verdicts["replay.vectors"]) == (Verdict.FAIL, Verdict.SKIP)


def test_another_model_is_not_replayed(folder: Path, tmp_path: Path) -> None:
    kept, made = bundle()
    other = write_files(tmp_path / "other", {**bert_files(), "modules.json": b"[]"})
    with pytest.raises(EvidenceError) as caught:
        verify_bundle(made.encode(), kept.policy, replay=other)
    assert caught.value.code == "REPLAY_MODEL"


def test_without_plaintext_there_is_nothing_to_compute_and_that_is_no_pass(folder: Path) -> None:
    kept, made = bundle()
    with pytest.raises(EvidenceError) as caught:
        verify_bundle(replace(made, messages=None).encode(), kept.policy, replay=folder)
    assert caught.value.code == "INCOMPLETE"


def test_command_replays_a_receipt_with_the_rest_of_its_bundle(folder: Path, tmp_path: Path) -> None:
    kept, made = bundle()
    files = write_files(
        tmp_path, {"bundle": made.encode(), "receipt": made.receipt, "trust.toml": policy_toml(kept.policy).encode()}
    )
    words = ["verify", "receipt", str(files / "receipt"), "--trust", str(files / "trust.toml"), "--replay", str(folder)]
    without = CliRunner().invoke(cli, words)
    assert without.exit_code == 2
    ran = CliRunner().invoke(cli, [*words, "--bundle", str(files / "bundle"), "--json"])
    assert '"replay.vectors"' in ran.output
