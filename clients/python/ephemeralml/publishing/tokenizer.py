"""tokenizer.json, from the allow-list of components that the enclave has.

The format can hold regular expressions that never end, replacements that grow a thousandfold, and more. What BERT-like
models need is a short list.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from ephemeral.errors import ModelFormatError

MAX_ADDED_TOKENS: Final = 4096
_ALLOWED: Final[Mapping[str, AbstractSet[str | None]]] = {
    "normalizer": {None, "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"},
    "pre_tokenizer": {None, "BertPreTokenizer", "Whitespace", "WhitespaceSplit"},
    "post_processor": {None, "TemplateProcessing", "BertProcessing"},
    "model": {"WordPiece", "BPE", "WordLevel"},
    "decoder": {None, "WordPiece", "BPEDecoder"},
}


def check_tokenizer(contents: Mapping[str, object], vocab_size: int | None) -> None:
    """Check tokenizer.json; `vocab_size` is the number of rows that the model has for tokens, None if unknown.

    Raises:
        ModelFormatError: a component outside the allow-list, no vocabulary, or tokens that the model has no row for.
    """
    for part, allowed in _ALLOWED.items():
        component = contents.get(part)
        kind = component.get("type") if isinstance(component, dict) else component
        if not isinstance(kind, str | None) or kind not in allowed:
            raise _unsupported(f"has a {part} of type {str(kind)[:40]}, which is not on the allow-list")
    added = contents.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MAX_ADDED_TOKENS:
        raise _unsupported("adds too many tokens")
    _check_ids(contents.get("model"), added, vocab_size)


def special_tokens(contents: Mapping[str, object]) -> int:
    """Return how many tokens tokenizer.json adds to a text, as far as that can be read."""
    match contents.get("post_processor"):
        case {"type": "BertProcessing"}:
            return 2
        case {"type": "TemplateProcessing", "single": list(parts)}:
            return sum(isinstance(part, dict) and "SpecialToken" in part for part in parts)
    return 0


def _check_ids(model: object, added: list[object], vocab_size: int | None) -> None:
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict):
        raise ModelFormatError("tokenizer.json has no vocabulary", code="TOKENIZER_MALFORMED")
    ids = [*vocabulary.values(), *(entry.get("id") if isinstance(entry, dict) else None for entry in added)]
    if not all(type(number) is int and number >= 0 for number in ids):
        raise ModelFormatError("tokenizer.json has a token without a number", code="TOKENIZER_MALFORMED")
    if vocab_size is not None and max(ids, default=0) >= vocab_size:
        text = (
            f"has token {max(ids)}, but config.json says vocab_size {vocab_size}: texts with it could not be embedded"
        )
        raise _unsupported(text)


def _unsupported(text: str) -> ModelFormatError:
    return ModelFormatError(f"tokenizer.json {text}", code="TOKENIZER_UNSUPPORTED")
