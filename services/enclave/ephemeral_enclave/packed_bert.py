"""The packed engine: BERT without padding, whose vectors are the same bits whoever shares the batch.

Rows are sorted by length and packed into one matrix, so that no work is done for padding. Nothing that a row is
computed from depends on its neighbours: docs/adr/0015-packed-engine.md says what was measured, and where the promise
ends.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from ephemeral.bert import BUFFERS, BertConfig
from ephemeral.errors import ModelFormatError, RequestRefused
from ephemeral_enclave.bert_encoder import POOLINGS, BertEncoder
from ephemeral_enclave.cores import using
from ephemeral_enclave.engine import Tokens
from ephemeral_enclave.linear import Tensor, rounded
from ephemeral_enclave.pipeline import Files, Normalize, Pipeline, Pooling, require_file
from ephemeral_enclave.scripted import scripted
from ephemeral_enclave.tokenizer import encode, read_tokenizer
from ephemeral_enclave.weights import read_tensors, require_match

_SAMPLES: Final = (((0,),), ((0,) * 3, (0,) * 2, (0,) * 3))
"""Rows to try a compiled encoder with: one, and several of two lengths."""


class PackedBertEngine:
    """Engine over a BERT encoder with one pooling, in float32 or bfloat16."""

    def __init__(self, encoder: BertEncoder, tokenizer: Tokenizer, longest: int) -> None:
        """Take an encoder; it is compiled where that changes nothing."""
        self._in_blocks = encoder.in_blocks
        self._tokenizer = tokenizer
        self.dimension = encoder.width
        self.longest = longest
        with torch.inference_mode(), using(1 if self._in_blocks else None):
            self._encoder = scripted(encoder, [_packed(rows, in_blocks=self._in_blocks)[:3] for rows in _SAMPLES])

    @staticmethod
    def takes(pipeline: Pipeline) -> bool:
        """Tell whether this engine computes what the folder describes."""
        match pipeline.modules:
            case (Pooling(modes=[mode]), *rest) if mode in POOLINGS and all(isinstance(m, Normalize) for m in rest):
                kind, activation = pipeline.config.get("model_type"), pipeline.config.get("hidden_act", "gelu")
                absolute = pipeline.config.get("position_embedding_type", "absolute") == "absolute"
                return kind == "bert" and activation == "gelu" and absolute
        return False

    @classmethod
    def from_files(cls, files: Files, pipeline: Pipeline, dtype: torch.dtype = torch.float32) -> Self:
        """Build the engine from the folder's files by name; embeddings share memory with `model.safetensors`.

        Raises:
            ModelFormatError: a file is missing, malformed, or not what config.json calls for.
        """
        config = BertConfig.parse(pipeline.config)
        longest = pipeline.longest(config.max_position_embeddings)
        tensors = read_tensors(require_file(files, "model.safetensors"))
        require_match(tensors, config.tensors(), BUFFERS)
        pooling, *rest = pipeline.modules
        if not isinstance(pooling, Pooling) or pooling.width != config.hidden_size:
            raise ModelFormatError("the pooling is of another width than the transformer", code="CONFIG_MALFORMED")
        tokenizer = read_tokenizer(require_file(files, "tokenizer.json"), longest)
        with torch.inference_mode():
            encoder = BertEncoder(tensors, config, dtype, pooling=pooling.modes[0], normalize=bool(rest))
        return cls(encoder, tokenizer, longest)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text; see Engine.tokenize."""
        return encode(self._tokenizer, texts)

    @torch.inference_mode()
    def compute(self, rows: Sequence[Tokens], cores: int | None = None) -> npt.NDArray[np.float32]:
        """Compute one vector per row; see Engine.compute."""
        vectors = np.empty((len(rows), self.dimension), np.float32)
        try:
            *packed, order = _packed(rows, in_blocks=self._in_blocks)
            with using(1 if self._in_blocks else cores):  # kernels in blocks sum in an order that depends on the cores
                vectors[order] = self._encoder(*packed).numpy()
        except (ValueError, TypeError, RuntimeError, IndexError, torch.jit.Error):  # a token without an embedding, say
            raise RequestRefused("the model cannot embed this input", code="ENGINE") from None
        return vectors


def _packed(rows: Sequence[Tokens], *, in_blocks: bool) -> tuple[Tensor, list[int], list[int], list[int]]:
    """Return the arguments of BertEncoder.forward, and the rows' places in the order in which they lie there."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    counts = Counter(len(rows[place]) for place in order)
    used = sum(map(len, rows))
    tokens = np.zeros(rounded(used, in_blocks=in_blocks), np.int64)
    tokens[:used] = np.fromiter(chain.from_iterable(rows[place] for place in order), np.int64, used)
    return torch.from_numpy(tokens), list(counts.values()), list(counts), order
