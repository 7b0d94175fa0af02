"""Computing an answer again: the texts, the model's folder, and the engine of the enclave's own distribution.

The receipt says which model answered what with what; that the model gives these vectors, only computing shows. The same
kind of processor gives the same bits (docs/adr/0015-packed-engine.md). Another one rounds otherwise: that is drift, and
is told apart from a different answer.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from ephemeral.errors import ConfigError, EvidenceError, ModelFormatError, RequestRefused
from ephemeral.trusted.artifact import ModelFile
from ephemeral.trusted.manifest import ModelManifest
from ephemeral.wire import InferenceRequest, InferenceResult
from ephemeralml.bundle import Messages
from ephemeralml.examination import Examination

REPLAY: Final = ("replay.model", "replay.vectors")
TOLERANCE: Final[Mapping[str, float]] = {"sentence-transformers": 1e-5, "sentence-transformers.bfloat16": 2e-2}
"""The largest difference of one value that rounding explains, by the manifest's architecture."""
_ENGINES: Final = "ephemeralml.engines"
_FLOAT_BYTES: Final = 4
Vectors = npt.NDArray[np.float32]
Engine = Callable[[Mapping[str, memoryview], str, Sequence[str]], Vectors]


def find_engine() -> Engine:
    """Return the installed engine.

    Raises:
        ConfigError: there is none.
    """
    for point in entry_points(group=_ENGINES, name="replay"):
        return cast("Engine", point.load())
    raise ConfigError("--replay needs the engine: pip install 'ephemeralml[replay]'", code="NO_ENGINE")


def take_replay(
    exam: Examination, manifest: ModelManifest, messages: Messages | None, folder: Path, engine: Engine
) -> None:
    """Hold an answer against the same computation made here; both messages are those whose hashes the receipt holds.

    1. the folder's files are those of the manifest
    2. the engine computes the texts again: the same bits, or within what rounding explains

    Raises:
        EvidenceError: another model, nothing to compute, or another answer.
    """
    if messages is None:
        for check in REPLAY:
            exam.skip(check, "not computed again: the bundle does not include texts and vectors")
        return
    texts, answered = _texts(messages.request), _vectors(messages.result)
    files = {file.name: _read(folder, file) for file in manifest.files}  # 1
    exam.passed("replay.model", f"{len(files)} files of {folder} have the SHA-256 that the manifest states")
    try:
        computed = engine(files, manifest.architecture, texts)  # 2
    except (ModelFormatError, RequestRefused) as error:
        raise EvidenceError(f"the engine here refuses: {error.detail}", code="REPLAY_REFUSED") from None
    _compare(exam, answered, computed, TOLERANCE.get(manifest.architecture, 0.0))


def _texts(request: bytes) -> list[str]:
    try:
        texts = list(InferenceRequest.FromString(request).embed.texts)
    except DecodeError:
        texts = []
    if not texts:
        raise EvidenceError("the request does not ask for embeddings", code="REPLAY_MESSAGES")
    return texts


def _vectors(result: bytes) -> Vectors:
    try:
        embed = InferenceResult.FromString(result).embed
    except DecodeError:
        raise EvidenceError("the result cannot be read", code="REPLAY_MESSAGES") from None
    if not embed.count or len(embed.values) != embed.count * embed.dimension * _FLOAT_BYTES:
        raise EvidenceError("the result does not hold embeddings", code="REPLAY_MESSAGES")
    return np.frombuffer(embed.values, "<f4").reshape(embed.count, embed.dimension).astype(np.float32)


def _read(folder: Path, file: ModelFile) -> memoryview:
    path = folder / file.name
    try:
        content = bytearray(path.read_bytes()) if path.stat().st_size == file.size else bytearray()
    except OSError as error:
        raise EvidenceError(f"cannot read {path}: {error.strerror}", code="REPLAY_MODEL") from None
    if sha256(content).digest() != file.sha256:
        text = f"{path} is not the file of the manifest: another version, or another model"
        raise EvidenceError(text, code="REPLAY_MODEL")
    return memoryview(content)


def _compare(exam: Examination, answered: Vectors, computed: Vectors, tolerance: float) -> None:
    shape = f"{answered.shape[0]} vectors of {answered.shape[1]} values"
    if answered.shape == computed.shape and answered.tobytes() == computed.tobytes():
        exam.passed("replay.vectors", f"{shape}, computed again: the same bits")
        exam.proven.append(
            "the model named gives exactly these vectors for these texts: they were computed again here."
        )
        return
    same_shape = answered.shape == computed.shape
    apart = float(np.abs(answered - computed).max()) if same_shape else float("inf")
    if not apart <= tolerance:
        text = f"{shape}, computed again: they differ by up to {apart:.2g}, and rounding explains {tolerance:.0e}"
        raise EvidenceError(text, code="REPLAY_DIFFERENT")
    exam.passed(
        "replay.vectors",
        f"{shape}, computed again: equal within {tolerance:.0e}, by up to {apart:.2g}; another processor rounds so",
    )
    exam.proven.append(f"the model named gives these vectors for these texts, to within {apart:.2g} on this machine.")
