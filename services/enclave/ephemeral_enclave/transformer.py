"""Transformer architectures: built without storage from a configuration, then filled with exactly its tensors."""

from collections.abc import Callable, Mapping
from typing import Final, cast

import torch
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedModel

from ephemeral.errors import ModelFormatError
from ephemeral_enclave.weights import require_match

_UNSTORED_BUFFERS: Final[Mapping[str, Callable[[torch.Size], torch.Tensor]]] = {
    "position_ids": lambda shape: torch.arange(shape[-1]).expand(shape),
    "token_type_ids": lambda shape: torch.zeros(shape, dtype=torch.long),
}
# Building costs time before any tensor is looked at: what no model of this kind needs is not built.
_MOST: Final = {
    "num_hidden_layers": 128,
    "hidden_size": 16_384,
    "intermediate_size": 65_536,
    "num_attention_heads": 256,
    "max_position_embeddings": 65_536,
    "vocab_size": 1_000_000,
}


def bare_model(config: dict[str, object]) -> PreTrainedModel:
    """Build the architecture that config.json describes, with no storage behind its parameters.

    Raises:
        ModelFormatError: not described, not supported, out of bounds, or asking for code of its own.
    """
    for name, most in _MOST.items():
        value = config.get(name, 1)
        if type(value) is not int or not 0 < value <= most:
            raise ModelFormatError(f"config.json: {name} must be 1 to {most}", code="CONFIG_MALFORMED")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING or "auto_map" in config:
        raise ModelFormatError(f"model_type {kind!r} is not supported", code="ARCHITECTURE_UNSUPPORTED")
    try:
        with torch.device("meta"):
            settings = CONFIG_MAPPING[kind].from_dict(config)
            model = AutoModel.from_config(settings, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001  # the library raises errors of its own kinds
        text = f"config.json does not describe a model: {type(error).__name__}"
        raise ModelFormatError(text, code="CONFIG_MALFORMED") from None
    return cast("PreTrainedModel", model)


def fill(model: PreTrainedModel, tensors: dict[str, torch.Tensor]) -> None:
    """Put the tensors in place of the parameters: all of them, of the right shapes, and nothing else.

    Raises:
        ModelFormatError: a tensor is missing, of the wrong shape, not finite, or belongs to no layer.
    """
    wanted = {name: parameter.shape for name, parameter in model.named_parameters()}
    require_match(tensors, wanted, {name for name, _ in model.named_buffers()})
    parameters = {name: tensors[name].to(torch.float32) for name, _ in model.named_parameters()}
    model.load_state_dict(parameters, strict=False, assign=True)
    _rebuild_buffers(model)


def _rebuild_buffers(model: PreTrainedModel) -> None:
    """Give the two buffers that BERT-like models do not store their values; refuse what else has none."""
    for name, buffer in model.named_buffers():
        if not buffer.is_meta:
            continue
        owner, _, leaf = name.rpartition(".")
        build = _UNSTORED_BUFFERS.get(leaf)
        if build is None:
            raise ModelFormatError(f"buffer {name} cannot be rebuilt", code="ARCHITECTURE_UNSUPPORTED")
        model.get_submodule(owner).register_buffer(leaf, build(buffer.shape), persistent=False)
