"""Tokenizers out of tokenizer.json, from an allow-list of components.

The format can hold regular expressions that never end, replacements that grow a thousandfold, and more. What BERT-like
models need is a short list; everything else is refused at load.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from tokenizers import Tokenizer

from ephemeral.errors import ModelFormatError, RequestRefused
from ephemeral_enclave.engine import Tokens
from ephemeral_enclave.strict_json import parse_object

MAX_TOKENIZER_BYTES: Final = 8 * 1024 * 1024
MAX_ADDED_TOKENS: Final = 4096
_ALLOWED: Final[Mapping[str, AbstractSet[str | None]]] = {
    "normalizer": {None, "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"},
    "pre_tokenizer": {None, "BertPreTokenizer", "Whitespace", "WhitespaceSplit"},
    "post_processor": {None, "TemplateProcessing", "BertProcessing"},
    "model": {"WordPiece", "BPE", "WordLevel"},
    "decoder": {None, "WordPiece", "BPEDecoder"},
}


def read_tokenizer(raw: memoryview, longest: int) -> Tokenizer:
    """Build a tokenizer that truncates at `longest` tokens and does not pad.

    Raises:
        ModelFormatError: malformed, too large, or with a component outside the allow-list.
    """
    contents = parse_object(raw, "tokenizer.json", max_bytes=MAX_TOKENIZER_BYTES)
    for part, allowed in _ALLOWED.items():
        component = contents.get(part)
        kind = component.get("type") if isinstance(component, dict) else component
        if not isinstance(kind, str | None) or kind not in allowed:
            text = f"tokenizer.json has a {part} of type {kind}, which is not on the allow-list"
            raise ModelFormatError(text, code="TOKENIZER_UNSUPPORTED")
    added = contents.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MAX_ADDED_TOKENS:
        raise ModelFormatError("tokenizer.json adds too many tokens", code="TOKENIZER_UNSUPPORTED")
    return _build(raw, longest)


def _build(raw: memoryview, longest: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(str(raw, "utf-8"))
    except Exception:  # noqa: BLE001  # the library raises plain Exception
        raise ModelFormatError("tokenizer.json cannot be built", code="TOKENIZER_MALFORMED") from None
    if longest <= tokenizer.num_special_tokens_to_add(is_pair=False):
        text = f"max_seq_length {longest} has no room for a text beside the special tokens"
        raise ModelFormatError(text, code="CONFIG_MALFORMED")  # and the library would not truncate at all
    tokenizer.no_padding()  # the file's own padding is to a fixed length, at 10x the work
    tokenizer.enable_truncation(longest)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens]:
    """Return the tokens of each text.

    Raises:
        RequestRefused: a text is not Unicode (a lone surrogate), has no tokens, or the tokenizer gave up on it.
    """
    rows = _encode(tokenizer, texts)
    if not all(rows):
        raise RequestRefused("a text has no tokens: it is blank, or all of it is ignored by the model", code="ENGINE")
    return rows


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens]:
    try:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
    except BaseException as error:
        # The library raises plain Exception, and its Rust panics are no Exception at all.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise RequestRefused("the tokenizer cannot read this input", code="ENGINE") from None
