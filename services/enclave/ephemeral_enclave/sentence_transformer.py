"""The reference engine: a sentence-transformers model built from bytes in memory, with no path and no hub."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from ephemeral.errors import ModelFormatError, RequestRefused
from ephemeral_enclave import pipeline as pipelines
from ephemeral_enclave.cores import using
from ephemeral_enclave.engine import Tokens
from ephemeral_enclave.pipeline import Files, Pipeline, require_file
from ephemeral_enclave.tokenizer import encode, read_tokenizer
from ephemeral_enclave.transformer import bare_model, fill
from ephemeral_enclave.weights import read_tensors

PADDED_TOKENS: Final = 1024


class InMemoryTransformer(InputModule):
    """Tokenizer and transformer as the first module; sentence-transformers' own always reads a folder."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, pad_id: int, longest: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's Module
        self.auto_model = model
        self.reader = tokenizer
        self.longest = longest
        self._pad_id = pad_id

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_options: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401, ARG002  # the library's signature
        """Pad rows of token ids to the longest; shapes int64[n, longest]. Texts became rows before."""
        longest = max(map(len, inputs))
        ids = torch.tensor([[*row, *[self._pad_id] * (longest - len(row))] for row in inputs])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in inputs])
        return {"input_ids": ids, "attention_mask": mask}

    def forward(self, features: dict[str, torch.Tensor], **_options: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        """Add token_embeddings float32[n, longest, dimension]."""
        output = self.auto_model(input_ids=features["input_ids"], attention_mask=features["attention_mask"])
        return features | {"token_embeddings": output.last_hidden_state}

    def save(self, *_arguments: Any, **_options: Any) -> NoReturn:  # noqa: ANN401
        """Refuse: nothing of a model leaves memory."""
        raise RuntimeError("a model in the enclave is never saved")


class SentenceTransformerEngine:
    """Engine over a sentence-transformers pipeline."""

    def __init__(self, model: SentenceTransformer, transformer: InMemoryTransformer) -> None:
        self._model = model
        self._transformer = transformer
        self.dimension = int(model.get_embedding_dimension() or 0)
        self.longest = transformer.longest

    @classmethod
    def from_files(cls, files: Files, pipeline: Pipeline) -> Self:
        """Build the engine from the folder's files by name; `model.safetensors` is shared, not copied.

        Raises:
            ModelFormatError: a file is missing, malformed, or asks for something that is not supported.
        """
        transformer = _transformer(files, pipeline)
        modules = [transformer, *map(_built, pipeline.modules)]
        return cls(SentenceTransformer(modules=modules, device="cpu").eval(), transformer)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text; see Engine.tokenize."""
        return encode(self._transformer.reader, texts)

    def compute(self, rows: Sequence[Tokens], cores: int | None = None) -> npt.NDArray[np.float32]:
        """Compute one vector per row, rows of like lengths padded together; see Engine.compute."""
        vectors = np.empty((len(rows), self.dimension), np.float32)
        try:
            with using(cores):
                for places in _alike([len(row) for row in rows]):
                    vectors[places] = self._forward([rows[place] for place in places])
        except (ValueError, TypeError, RuntimeError, IndexError):  # such as a token without an embedding
            raise RequestRefused("the model cannot embed this input", code="ENGINE") from None
        return vectors

    @torch.inference_mode()
    def _forward(self, rows: Sequence[Tokens]) -> npt.NDArray[np.float32]:
        features = self._model.forward(self._transformer.preprocess(rows))
        return cast("npt.NDArray[np.float32]", features["sentence_embedding"].float().numpy())


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group places by length, so that padding a group to its longest stays within PADDED_TOKENS."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and lengths[place] * (len(group) + 1) > PADDED_TOKENS:
            yield group
            group = []
        group.append(place)
    yield group


def _transformer(files: Files, pipeline: Pipeline) -> InMemoryTransformer:
    model = bare_model(pipeline.config)
    fill(model, read_tensors(require_file(files, "model.safetensors")))
    longest = pipeline.longest(int(model.config.max_position_embeddings))
    tokenizer = read_tokenizer(require_file(files, "tokenizer.json"), longest)
    model.eval()  # type: ignore[no-untyped-call]
    return InMemoryTransformer(model, tokenizer, int(model.config.pad_token_id or 0), longest)


def _built(module: pipelines.Module) -> torch.nn.Module:
    if isinstance(module, pipelines.Normalize):
        return Normalize()
    try:
        return cast("torch.nn.Module", Pooling(module.width, cast("Any", list(module.modes))))
    except (ValueError, TypeError):
        text = f"no pooling is called {', '.join(module.modes)}"
        raise ModelFormatError(text, code="CONFIG_MALFORMED") from None
