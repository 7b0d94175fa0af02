"""BERT's config.json, and the tensors it calls for by name and shape: the publisher and the enclave read it alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from ephemeral.errors import ModelFormatError

_DEFAULT: Final[Mapping[str, int]] = {
    "vocab_size": 30_522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
_MOST: Final[Mapping[str, int]] = {
    "vocab_size": 1_000_000,
    "hidden_size": 16_384,
    "num_hidden_layers": 128,
    "num_attention_heads": 256,
    "intermediate_size": 65_536,
    "max_position_embeddings": 65_536,
    "type_vocab_size": 65_536,
}
_ACTIVATIONS: Final = frozenset({"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh"})
_NUMBERS: Final = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps")
_NOT_OF_AN_ENCODER: Final = ("is_decoder", "add_cross_attention")
# Stored by some versions of transformers; they hold nothing that is not known without them.
BUFFERS: Final = frozenset({"embeddings.position_ids", "embeddings.token_type_ids"})
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BertConfig:
    """What a BERT encoder computes: its sizes, its activation, and what keeps its layer norms from dividing by zero."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12

    @classmethod
    def parse(cls, config: Mapping[str, object]) -> Self:
        """Read config.json.

        Raises:
            ModelFormatError: another architecture, code of its own, or a value out of bounds.
        """
        kind = config.get("model_type")
        if "auto_map" in config:
            raise ModelFormatError("config.json asks for code of its own (auto_map)", code="ARCHITECTURE_UNSUPPORTED")
        if kind != "bert":
            text = f"model_type {str(kind)[:40]!r} is not supported: only bert is"
            raise ModelFormatError(text, code="ARCHITECTURE_UNSUPPORTED")
        sizes = {name: _size(config, name) for name in _DEFAULT}
        if sizes["hidden_size"] % sizes["num_attention_heads"]:
            raise _malformed("hidden_size is not a multiple of num_attention_heads")
        _check_rest(config, sizes["vocab_size"])
        activation, epsilon = config.get("hidden_act", "gelu"), config.get("layer_norm_eps", 1e-12)
        return cls(**sizes, hidden_act=str(activation), layer_norm_eps=float(str(epsilon)))

    def tensors(self) -> dict[str, Shape]:
        """Return the shape of every parameter by name."""
        width = self.hidden_size
        wanted: dict[str, Shape] = {
            "embeddings.word_embeddings.weight": (self.vocab_size, width),
            "embeddings.position_embeddings.weight": (self.max_position_embeddings, width),
            "embeddings.token_type_embeddings.weight": (self.type_vocab_size, width),
            **_pair("embeddings.LayerNorm", width),
            **_pair("pooler.dense", width, width),
        }
        for layer in range(self.num_hidden_layers):
            for name, shape in self._layer():
                wanted |= _pair(f"encoder.layer.{layer}.{name}", *shape)
        return wanted

    def _layer(self) -> Iterator[tuple[str, Shape]]:
        width, inner = self.hidden_size, self.intermediate_size
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            yield f"attention.{name}", (width, width)
        yield "attention.output.LayerNorm", (width,)
        yield "intermediate.dense", (inner, width)
        yield "output.dense", (width, inner)
        yield "output.LayerNorm", (width,)


def _pair(name: str, *shape: int) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _size(config: Mapping[str, object], name: str) -> int:
    value = config.get(name, _DEFAULT[name])
    if type(value) is not int or not 0 < value <= _MOST[name]:
        raise _malformed(f"{name} must be 1 to {_MOST[name]}")
    return value


def _check_rest(config: Mapping[str, object], vocab_size: int) -> None:
    if config.get("hidden_act", "gelu") not in sorted(_ACTIVATIONS):
        raise _malformed(f"hidden_act must be one of {', '.join(sorted(_ACTIVATIONS))}")
    for name in _NUMBERS:
        value = config.get(name, 0.0)
        if type(value) not in (int, float):
            raise _malformed(f"{name} must be a number")
    for name in _NOT_OF_AN_ENCODER:
        if config.get(name, False) is not False:
            raise _malformed(f"{name} must be false: embeddings come from an encoder")
    padding = config.get("pad_token_id", 0)
    if padding is not None and (type(padding) is not int or not 0 <= padding < vocab_size):
        raise _malformed("pad_token_id is not in the vocabulary")


def _malformed(text: str) -> ModelFormatError:
    return ModelFormatError(f"config.json: {text}", code="CONFIG_MALFORMED")
