"""A real, very small BERT with a real tokenizer: random weights, saved by transformers itself."""

import json
import shutil
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from tests.support import minilm

COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "modules.json")


def save_tiny_model(folder: Path, *, seed: int = 7, hidden_size: int = 32) -> Path:
    """Write a sentence-transformers folder of a few megabytes."""
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config, add_pooling_layer=True).save_pretrained(folder)
    for name in COPIED:
        shutil.copy(minilm.FOLDER / name, folder / name)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": hidden_size, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder
