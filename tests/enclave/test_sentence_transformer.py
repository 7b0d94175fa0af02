"""The engine built from bytes against sentence-transformers' own loader, and against files that must not load."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import SentenceTransformer

from ephemeral.errors import ModelFormatError, RequestRefused
from ephemeral_enclave.engine import Engine
from ephemeral_enclave.engines import build_engine
from ephemeral_enclave.packed_bert import PackedBertEngine
from ephemeral_enclave.pipeline import Files, read_pipeline
from ephemeral_enclave.sentence_transformer import SentenceTransformerEngine
from tests.support import minilm

TEXTS = [
    "The patient reports chest pain.",
    "a",
    "naïve café — 東京 🙂",
    "word " * 600,
    "Short again.",
    "\n\t mixed   white space ",
]


def reference_engine(files: Files) -> SentenceTransformerEngine:
    return SentenceTransformerEngine.from_files(files, read_pipeline(files))


BUILDERS = pytest.mark.parametrize("build", [build_engine, reference_engine], ids=["packed", "reference"])
Build = Callable[[Files], Engine]


@pytest.fixture(scope="module")
def engine() -> SentenceTransformerEngine:
    return reference_engine(minilm.files())


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    return SentenceTransformer(str(minilm.FOLDER), device="cpu")


def embed(engine: SentenceTransformerEngine, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return engine.compute(engine.tokenize(texts))


def test_vectors_equal_sentence_transformers(engine: SentenceTransformerEngine, reference: SentenceTransformer) -> None:
    ours = embed(engine, TEXTS)
    assert np.abs(ours - reference.encode(TEXTS)).max() <= 1e-5
    assert ours.shape == (len(TEXTS), engine.dimension) == (len(TEXTS), 384)


def test_tokens_are_truncated_and_not_padded(engine: SentenceTransformerEngine) -> None:
    assert [len(row) for row in engine.tokenize(["a", "word " * 600])] == [3, 256]
    assert engine.longest == 256


def test_a_lone_surrogate_is_refused_and_the_next_text_still_embeds(engine: SentenceTransformerEngine) -> None:
    before = embed(engine, ["fine"])
    with pytest.raises(RequestRefused):
        engine.tokenize(["fine", "\ud800"])
    assert np.array_equal(embed(engine, ["fine"]), before)


def test_a_token_without_an_embedding_is_refused(engine: SentenceTransformerEngine) -> None:
    for row in ([101, 30_522, 102], [101, -1, 102], [101] * 513):
        with pytest.raises(RequestRefused):
            engine.compute([[101, 102], row])


def with_json(name: str, **changes: object) -> dict[str, memoryview]:
    files = minilm.files()
    contents = json.loads(bytes(files[name]))
    files[name] = memoryview(bytearray(json.dumps({**contents, **changes}).encode()))
    return files


def test_the_packed_engine_is_the_one_that_serves_minilm() -> None:
    assert isinstance(build_engine(minilm.files()), PackedBertEngine)


@BUILDERS
@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("config.json", {"hidden_size": 768}, "TENSORS_MISMATCH"),
        ("config.json", {"num_hidden_layers": 5}, "TENSORS_MISMATCH"),
        ("config.json", {"num_hidden_layers": "six"}, "CONFIG_MALFORMED"),
        ("config.json", {"num_hidden_layers": 100_000}, "CONFIG_MALFORMED"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "MODULE_UNSUPPORTED"),
        ("config.json", {"model_type": "no-such"}, "ARCHITECTURE_UNSUPPORTED"),
        ("config.json", {"auto_map": {"AutoModel": "evil.py"}}, "ARCHITECTURE_UNSUPPORTED"),
        ("sentence_bert_config.json", {"max_seq_length": 100_000}, "CONFIG_MALFORMED"),
        ("tokenizer.json", {"normalizer": {"type": "Replace"}}, "TOKENIZER_UNSUPPORTED"),
        (
            "tokenizer.json",
            {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}}},
            "TOKENIZER_UNSUPPORTED",
        ),
    ],
    ids=str,
)
def test_publisher_mistakes_and_bombs_are_refused_with_a_reason(
    name: str, changes: dict[str, object], code: str, build: Build
) -> None:
    with pytest.raises(ModelFormatError) as caught:
        build(with_json(name, **changes))
    assert caught.value.code == code


@BUILDERS
def test_infinite_weights_are_refused(build: Build) -> None:
    files = minilm.files()
    buffer = files["model.safetensors"]
    buffer[-4:] = torch.tensor([float("inf")]).numpy().tobytes()
    with pytest.raises(ModelFormatError) as caught:
        build(files)
    assert caught.value.code == "TENSORS_NOT_FINITE"


@BUILDERS
def test_missing_files_are_named(build: Build) -> None:
    for name in ("model.safetensors", "tokenizer.json", "config.json", "modules.json", "1_Pooling/config.json"):
        files = minilm.files()
        del files[name]
        with pytest.raises(ModelFormatError, match=name):
            build(files)
