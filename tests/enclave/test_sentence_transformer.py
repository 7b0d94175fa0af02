"""The engine built from bytes against sentence-transformers' own loader, and against files that must not load."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from ephemeral.errors import ModelFormatError, RequestRefused
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


@pytest.fixture(scope="module")
def engine() -> SentenceTransformerEngine:
    return SentenceTransformerEngine.from_files(minilm.files())


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    return SentenceTransformer(str(minilm.FOLDER), device="cpu")


def test_vectors_equal_sentence_transformers(engine: SentenceTransformerEngine, reference: SentenceTransformer) -> None:
    ours = engine.embed(TEXTS)
    assert np.abs(ours.vectors - reference.encode(TEXTS)).max() <= 1e-5
    assert ours.vectors.shape == (len(TEXTS), engine.dimension) == (len(TEXTS), 384)


def test_tokens_are_counted_after_truncation(engine: SentenceTransformerEngine) -> None:
    assert engine.embed(["a"]).tokens == 3
    assert engine.embed(["word " * 600]).tokens == 256


def test_a_lone_surrogate_is_refused_and_the_next_text_still_embeds(engine: SentenceTransformerEngine) -> None:
    before = engine.embed(["fine"]).vectors
    with pytest.raises(RequestRefused):
        engine.embed(["\ud800"])
    assert np.array_equal(engine.embed(["fine"]).vectors, before)


def with_json(name: str, **changes: object) -> dict[str, memoryview]:
    files = minilm.files()
    contents = json.loads(bytes(files[name]))
    files[name] = memoryview(bytearray(json.dumps({**contents, **changes}).encode()))
    return files


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
    name: str, changes: dict[str, object], code: str
) -> None:
    with pytest.raises(ModelFormatError) as caught:
        SentenceTransformerEngine.from_files(with_json(name, **changes))
    assert caught.value.code == code


def test_infinite_weights_are_refused() -> None:
    files = minilm.files()
    buffer = files["model.safetensors"]
    buffer[-4:] = torch.tensor([float("inf")]).numpy().tobytes()
    with pytest.raises(ModelFormatError) as caught:
        SentenceTransformerEngine.from_files(files)
    assert caught.value.code == "TENSORS_NOT_FINITE"


def test_missing_files_are_named() -> None:
    for name in ("model.safetensors", "tokenizer.json", "config.json", "modules.json", "1_Pooling/config.json"):
        files = minilm.files()
        del files[name]
        with pytest.raises(ModelFormatError, match=name):
            SentenceTransformerEngine.from_files(files)
