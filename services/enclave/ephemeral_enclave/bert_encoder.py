"""BERT over packed rows: the tokens of all texts in one matrix, without padding.

Linear layers and layer norms see the whole matrix; attention sees the rows of one length together. Written in the part
of Python that TorchScript compiles (scripted.py): a batch is then computed without the interpreter.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional

from ephemeral.bert import BertConfig
from ephemeral_enclave.linear import Linear, Tensor, Then, keep_rows_apart

POOLINGS = frozenset({"cls", "mean", "max", "mean_sqrt_len_tokens"})
Named = Callable[[str], Tensor]


class BertEncoder(nn.Module):
    """Embeddings, layers, one pooling, and normalization if asked for."""

    in_blocks: bool

    def __init__(
        self, tensors: Mapping[str, Tensor], config: BertConfig, dtype: torch.dtype, *, pooling: str, normalize: bool
    ) -> None:
        """Take the tensors by name; `pooling` is one of POOLINGS."""
        super().__init__()

        def of(name: str) -> Tensor:
            return tensors[name].to(dtype)

        self.width = config.hidden_size
        self.pooling, self.normalize = pooling, normalize
        self.norm = _Norm(of, "embeddings.LayerNorm", config)
        self.words = of("embeddings.word_embeddings.weight")
        kind = tensors["embeddings.token_type_embeddings.weight"][0].float()  # a text alone is all of the first type
        self.places = (tensors["embeddings.position_embeddings.weight"].float() + kind).to(dtype)
        layers = [_Layer(of, f"encoder.layer.{n}.", config) for n in range(config.num_hidden_layers)]
        linears = [linear for layer in layers for linear in layer.linears()]
        self.in_blocks = not keep_rows_apart(linears, probed=layers[0].linears())  # all layers are of one shape
        self.layers = nn.ModuleList(layers)

    def forward(self, tokens: Tensor, counts: list[int], lengths: list[int]) -> Tensor:
        """Compute float32[rows, width], one vector for each row.

        `tokens` are int64[n]: `counts[0]` rows of `lengths[0]` tokens, then those of the next length, then tokens
        that belong to no row and make n a round number.
        """
        x = functional.embedding(tokens, self.words)
        start = 0
        for count, length in zip(counts, lengths):  # noqa: B905  # TorchScript has no `strict`
            x[start : start + count * length].view(count, length, self.width).add_(self.places[:length])
            start += count * length
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, counts, lengths)
        return self._pooled(x.float(), counts, lengths)

    def _pooled(self, x: Tensor, counts: list[int], lengths: list[int]) -> Tensor:
        vectors: list[Tensor] = []
        start = 0
        for count, length in zip(counts, lengths):  # noqa: B905
            rows = x[start : start + count * length].view(count, length, self.width)
            vectors.append(_pool(rows, self.pooling))
            start += count * length
        pooled = torch.cat(vectors)
        return functional.normalize(pooled, dim=1) if self.normalize else pooled


class _Layer(nn.Module):
    """Attention and feed-forward network, each with what came in added before the norm (Vaswani et al. 2017)."""

    def __init__(self, of: Named, prefix: str, config: BertConfig) -> None:
        super().__init__()
        parts = [prefix + "attention.self." + name for name in ("query", "key", "value")]
        weights, biases = (torch.cat([of(f"{part}.{kind}") for part in parts]) for kind in ("weight", "bias"))
        self.heads = config.num_attention_heads
        self.qkv = Linear(weights, biases)
        self.attended = _linear(of, prefix + "attention.output.dense", "add")
        self.inner = _linear(of, prefix + "intermediate.dense", "gelu")
        self.outer = _linear(of, prefix + "output.dense", "add")
        self.attention_norm = _Norm(of, prefix + "attention.output.LayerNorm", config)
        self.output_norm = _Norm(of, prefix + "output.LayerNorm", config)

    def linears(self) -> tuple[Linear, ...]:
        """The layer's matrix products."""
        return self.qkv, self.attended, self.inner, self.outer

    def forward(self, x: Tensor, counts: list[int], lengths: list[int]) -> Tensor:
        x = self.attention_norm(self.attended(self._attend(self.qkv(x), counts, lengths), x))
        out: Tensor = self.output_norm(self.outer(self.inner(x), x))
        return out

    def _attend(self, qkv: Tensor, counts: list[int], lengths: list[int]) -> Tensor:
        """Let each row attend to itself: float[tokens, 3 width] to float[tokens, width]."""
        width = qkv.shape[1] // 3
        attended = torch.zeros([qkv.shape[0], width], dtype=qkv.dtype)
        start = 0
        for count, length in zip(counts, lengths):  # noqa: B905
            end = start + count * length
            heads = [count, length, self.heads, width // self.heads]
            split = qkv[start:end].view([count, length, 3, self.heads, width // self.heads]).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(split[0], split[1], split[2])
            attended[start:end].view(heads).copy_(mixed.transpose(1, 2))
            start = end
        return attended


class _Norm(nn.Module):
    def __init__(self, of: Named, name: str, config: BertConfig) -> None:
        super().__init__()
        self.weight, self.bias = of(f"{name}.weight"), of(f"{name}.bias")
        self.width, self.epsilon = config.hidden_size, config.layer_norm_eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, [self.width], self.weight, self.bias, self.epsilon)


def _linear(of: Named, name: str, then: Then) -> Linear:
    return Linear(of(f"{name}.weight"), of(f"{name}.bias"), then)


def _pool(rows: Tensor, pooling: str) -> Tensor:
    """Make one vector of each row's tokens: float[rows, length, width] to float[rows, width]."""
    if pooling == "cls":
        return rows[:, 0]
    if pooling == "max":
        return rows.amax(1)
    if pooling == "mean":
        return rows.mean(1)
    return rows.sum(1) / math.sqrt(rows.shape[1])
