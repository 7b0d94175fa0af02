"""The reference engine: a sentence-transformers model built from bytes in memory, with no path and no hub."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, NoReturn, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule, Module, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from ephemeral.errors import ModelFormatError, RequestRefused
from ephemeral_enclave.engine import Embedded
from ephemeral_enclave.strict_json import parse_object, parse_value
from ephemeral_enclave.tokenizer import read_tokenizer
from ephemeral_enclave.transformer import bare_model, fill
from ephemeral_enclave.weights import read_tensors

ARCHITECTURE: Final = "sentence-transformers"
BATCH_TEXTS: Final = 32
_MODULE_LISTS: Final = 8
_POOLING: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
Files = Mapping[str, memoryview]


class InMemoryTransformer(InputModule):
    """Tokenizer and transformer as the first module; sentence-transformers' own always reads a folder."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, pad_id: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's Module
        self.auto_model = model
        self.tokenizer = tokenizer
        self.tokens = 0
        self._pad_id = pad_id

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_options: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401  # the library's signature
        """Tokenise texts and pad to the longest; shapes int64[n, longest]."""
        texts = [(prompt or "") + text for text in inputs]
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        longest = max(map(len, rows))
        self.tokens += sum(map(len, rows))
        ids = torch.tensor([row + [self._pad_id] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
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

    @classmethod
    def from_files(cls, files: Files) -> "SentenceTransformerEngine":
        """Build the engine from the folder's files by name; `model.safetensors` is shared, not copied.

        Raises:
            ModelFormatError: a file is missing, malformed, or asks for something that is not supported.
        """
        _refuse_prompts(files)
        transformer = _transformer(files)
        modules: list[torch.nn.Module] = [transformer]
        for path, kind in _pipeline(files):
            build = _MODULES.get(kind)
            if build is None:
                raise ModelFormatError(f"module {kind} is not supported", code="MODULE_UNSUPPORTED")
            modules.append(build(files, path))
        return cls(SentenceTransformer(modules=modules, device="cpu").eval(), transformer)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Compute one vector per text; see Engine.embed."""
        before = self._transformer.tokens
        try:
            vectors = self._model.encode(
                list(texts), batch_size=BATCH_TEXTS, convert_to_numpy=True, show_progress_bar=False
            )
        except (ValueError, TypeError, RuntimeError):
            raise RequestRefused("the model cannot embed this input", code="ENGINE") from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # tokenizers' Rust panics are no Exception
                raise
            raise RequestRefused("the tokenizer cannot read this input", code="ENGINE") from None
        return Embedded(vectors.astype("float32", copy=False), self._transformer.tokens - before)


def _file(files: Files, name: str) -> memoryview:
    if name not in files:
        raise ModelFormatError(f"the model has no {name}", code="FILE_MISSING")
    return files[name]


def _refuse_prompts(files: Files) -> None:
    """Refuse a model that silently puts words before each text: its vectors would not be those of the text alone."""
    name = "config_sentence_transformers.json"
    if parse_object(files.get(name, memoryview(b"{}")), name).get("default_prompt_name") is not None:
        raise ModelFormatError("a default prompt is not supported", code="MODULE_UNSUPPORTED")


def _pipeline(files: Files) -> list[tuple[str, str]]:
    """Return (folder, class name) of the modules after the transformer, in order."""
    match parse_value(_file(files, "modules.json"), "modules.json"):
        case [{"path": "", "type": str() as first}, *rest] if (
            first.endswith(".Transformer") and len(rest) < _MODULE_LISTS
        ):
            pass
        case _:
            raise ModelFormatError("modules.json does not begin with a Transformer", code="MODULES_MALFORMED")
    pipeline = []
    for module in rest:
        match module:
            case {"path": str() as path, "type": str() as kind}:
                pipeline.append((path, kind.rsplit(".", 1)[-1]))
            case _:
                raise ModelFormatError("modules.json is malformed", code="MODULES_MALFORMED")
    return pipeline


def _transformer(files: Files) -> InMemoryTransformer:
    config = parse_object(_file(files, "config.json"), "config.json")
    settings = parse_object(files.get("sentence_bert_config.json", memoryview(b"{}")), "sentence_bert_config.json")
    model = bare_model(config)
    fill(model, read_tensors(_file(files, "model.safetensors")))
    positions = int(model.config.max_position_embeddings)
    longest = settings.get("max_seq_length") or positions
    if type(longest) is not int or not 0 < longest <= positions:
        raise ModelFormatError("max_seq_length does not fit the model's positions", code="CONFIG_MALFORMED")
    tokenizer = read_tokenizer(_file(files, "tokenizer.json"), longest)
    model.eval()  # type: ignore[no-untyped-call]
    return InMemoryTransformer(model, tokenizer, int(model.config.pad_token_id or 0))


def _pooling(files: Files, path: str) -> Module:
    settings = parse_object(_file(files, f"{path}/config.json"), f"{path}/config.json")
    width = settings.get("word_embedding_dimension", settings.get("embedding_dimension"))
    modes = [mode for key, mode in _POOLING.items() if settings.get(key)] or settings.get("pooling_mode")
    try:
        return cast("Module", Pooling(int(cast("int", width)), cast("Any", modes)))
    except (ValueError, TypeError):
        raise ModelFormatError(f"{path}/config.json is not a pooling configuration", code="CONFIG_MALFORMED") from None


def _normalize(_files: Files, _path: str) -> Module:
    return Normalize()


_MODULES: Final[Mapping[str, Callable[[Files, str], Module]]] = {"Pooling": _pooling, "Normalize": _normalize}


def fingerprint() -> bytes:
    """Return SHA-256 over the versions of the libraries that compute, for the build digest."""
    versions = (version(name) for name in ("torch", "transformers", "sentence-transformers", "tokenizers"))
    return hashlib.sha256("\0".join(versions).encode()).digest()
