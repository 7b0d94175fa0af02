"""The packed engine: BERT without padding, whose vectors are the same bits whoever shares the batch.

The tokens of all rows lie one after the other in one matrix, so that no work is done for padding. Linear layers and
layer norms see that matrix; attention sees the rows of one length together. Nothing that a row is computed from depends
on its neighbours: docs/adr/0015-packed-engine.md says what was measured, and where the promise ends.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from ephemeral.bert import BUFFERS, BertConfig
from ephemeral.errors import ModelFormatError, RequestRefused
from ephemeral_enclave.engine import Tokens
from ephemeral_enclave.linear import Linear, Tensor, Then, keep_rows_apart, rounded
from ephemeral_enclave.pipeline import Files, Normalize, Pipeline, Pooling, require_file
from ephemeral_enclave.tokenizer import encode, read_tokenizer
from ephemeral_enclave.weights import read_tensors, require_match

_POOLINGS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {  # of float[rows, length, width]
    "cls": lambda x: x[:, 0],
    "mean": lambda x: x.mean(1),
    "max": lambda x: x.amax(1),
    "mean_sqrt_len_tokens": lambda x: x.sum(1) / x.shape[1] ** 0.5,
}


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of one length, as they lie in the packed matrix from `start` on; `places` are theirs in the batch."""

    places: list[int]
    length: int
    start: int

    @property
    def span(self) -> slice:
        return slice(self.start, self.start + len(self.places) * self.length)


class PackedBertEngine:
    """Engine over a BERT encoder with one pooling, in float32 or bfloat16."""

    def __init__(
        self, encoder: "_Encoder", tokenizer: Tokenizer, longest: int, finish: Callable[[Tensor], Tensor]
    ) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._finish = finish
        self.dimension = encoder.width
        self.longest = longest

    @staticmethod
    def takes(pipeline: Pipeline) -> bool:
        """Tell whether this engine computes what the folder describes."""
        match pipeline.modules:
            case (Pooling(modes=[mode]), *rest) if mode in _POOLINGS and all(isinstance(m, Normalize) for m in rest):
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
        pool, normalize = _POOLINGS[pooling.modes[0]], bool(rest)
        with torch.inference_mode():
            encoder = _Encoder(tensors, config, dtype)
        return cls(
            encoder, tokenizer, longest, lambda x: functional.normalize(pool(x), dim=1) if normalize else pool(x)
        )

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text; see Engine.tokenize."""
        return encode(self._tokenizer, texts)

    @torch.inference_mode()
    def compute(self, rows: Sequence[Tokens]) -> npt.NDArray[np.float32]:
        """Compute one vector per row; see Engine.compute."""
        groups = list(_grouped(rows))
        vectors = np.empty((len(rows), self.dimension), np.float32)
        try:
            packed = self._encoder(rows, groups).float()
            for group in groups:
                shaped = packed[group.span].view(len(group.places), group.length, self.dimension)
                vectors[group.places] = self._finish(shaped).numpy()
        except (ValueError, TypeError, RuntimeError, IndexError):  # such as a token without an embedding
            raise RequestRefused("the model cannot embed this input", code="ENGINE") from None
        return vectors


class _Encoder:
    """Embeddings and layers, over packed rows."""

    def __init__(self, tensors: Mapping[str, Tensor], config: BertConfig, dtype: torch.dtype) -> None:
        def of(name: str) -> Tensor:
            return tensors[name].to(dtype)

        self.width = config.hidden_size
        self._norm = _norm(of, "embeddings.LayerNorm", config)
        self._words = of("embeddings.word_embeddings.weight")
        kind = tensors["embeddings.token_type_embeddings.weight"][0].float()  # a text alone is all of the first type
        self._places = (tensors["embeddings.position_embeddings.weight"].float() + kind).to(dtype)
        self._layers = [_Layer(of, f"encoder.layer.{n}.", config) for n in range(config.num_hidden_layers)]
        linears = [linear for layer in self._layers for linear in layer.linears]
        apart = keep_rows_apart(linears, probed=self._layers[0].linears)  # all layers are of one shape
        self._in_blocks = not apart

    def __call__(self, rows: Sequence[Tokens], groups: Sequence[_Group]) -> Tensor:
        """Return float[tokens, width], and rows of no meaning behind them that make the number a round one."""
        ids = [token for group in groups for place in group.places for token in rows[place]]
        at = [position for group in groups for _ in group.places for position in range(group.length)]
        company = [0] * (rounded(len(ids), in_blocks=self._in_blocks) - len(ids))
        words = functional.embedding(torch.tensor(ids + company), self._words)
        x = self._norm(words + functional.embedding(torch.tensor(at + company), self._places))
        for layer in self._layers:
            x = layer(x, groups)
        return x


class _Layer:
    """Attention and feed-forward network, each with what came in added before the norm (Vaswani et al. 2017)."""

    def __init__(self, of: Callable[[str], Tensor], prefix: str, config: BertConfig) -> None:
        parts = [prefix + "attention.self." + name for name in ("query", "key", "value")]
        weights, biases = (torch.cat([of(f"{part}.{kind}") for part in parts]) for kind in ("weight", "bias"))
        self._heads = config.num_attention_heads
        self._qkv = Linear(weights, biases)
        self._attended = _linear(of, prefix + "attention.output.dense", Then.ADD)
        self._inner = _linear(of, prefix + "intermediate.dense", Then.GELU)
        self._outer = _linear(of, prefix + "output.dense", Then.ADD)
        self._attention_norm = _norm(of, prefix + "attention.output.LayerNorm", config)
        self._output_norm = _norm(of, prefix + "output.LayerNorm", config)

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The layer's matrix products."""
        return self._qkv, self._attended, self._inner, self._outer

    def __call__(self, x: Tensor, groups: Sequence[_Group]) -> Tensor:
        x = self._attention_norm(self._attended(self._attend(self._qkv(x), groups), x))
        return self._output_norm(self._outer(self._inner(x), x))

    def _attend(self, qkv: Tensor, groups: Sequence[_Group]) -> Tensor:
        """Let each row attend to itself: float[tokens, 3 width] to float[tokens, width]."""
        width = qkv.shape[1] // 3
        attended = qkv.new_zeros(qkv.shape[0], width)
        for group in groups:
            shape = len(group.places), group.length, 3, self._heads, width // self._heads
            query, key, value = qkv[group.span].view(shape).permute(2, 0, 3, 1, 4).unbind()
            mixed = functional.scaled_dot_product_attention(query, key, value)
            attended[group.span].view(shape[:2] + shape[3:]).copy_(mixed.transpose(1, 2))
        return attended


def _linear(of: Callable[[str], Tensor], name: str, then: Then) -> Linear:
    return Linear(of(f"{name}.weight"), of(f"{name}.bias"), then)


def _norm(of: Callable[[str], Tensor], name: str, config: BertConfig) -> Callable[[Tensor], Tensor]:
    weight, bias, shape = of(f"{name}.weight"), of(f"{name}.bias"), (config.hidden_size,)
    return lambda x: functional.layer_norm(x, shape, weight, bias, config.layer_norm_eps)


def _grouped(rows: Sequence[Tokens]) -> Iterator[_Group]:
    """Yield the rows by length, shortest first."""
    start = 0
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    for length, same in groupby(order, key=lambda place: len(rows[place])):
        group = _Group(list(same), length, start)
        yield group
        start = group.span.stop
