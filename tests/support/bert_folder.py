"""A small sentence-transformers folder as bytes by name: everything real, the weights random, made without torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from ephemeral.bert import BertConfig

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
MODULES: list[dict[str, Any]] = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number}" for number in range(60))]
TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {word: number for number, word in enumerate(WORDS)},
    },
}


def tensors(dtype: Any = np.float32, **changes: Any) -> dict[str, Any]:
    """Return random weights for the configuration."""
    random = np.random.default_rng(7)
    shapes = BertConfig.parse({**CONFIG, **changes}).tensors()
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def bert_files(**changes: Any) -> dict[str, bytes]:
    """Return the files; `changes` go into config.json, and the weights fit."""
    width = {**CONFIG, **changes}["hidden_size"]
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    return {
        "config.json": json.dumps({**CONFIG, **changes}).encode(),
        "modules.json": json.dumps(MODULES).encode(),
        "sentence_bert_config.json": b'{"max_seq_length": 16}',
        "tokenizer.json": json.dumps(TOKENIZER).encode(),
        "1_Pooling/config.json": json.dumps(pooling).encode(),
        "model.safetensors": save(tensors(**changes)),
    }


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
