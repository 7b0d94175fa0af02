"""Inference engines: texts in, vectors out. No sessions, no wire, no keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Tokens = Sequence[int]
"""The token ids of one text, truncated, with its special tokens and without padding."""


@dataclass(frozen=True, slots=True, repr=False)  # vectors are plaintext: they do not print
class Embedded:
    """Vectors as float32[n, dimension], row i for text i, and the tokens computed after truncation."""

    vectors: npt.NDArray[np.float32]
    tokens: int


class Engine(Protocol):
    """A loaded model. Tokenizing and computing are apart: texts of several callers are computed together."""

    dimension: int
    longest: int  # tokens of one text after truncation

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text; may run in another thread than `compute`.

        Raises:
            RequestRefused: a text cannot be read; texts of other calls are not affected.
        """

    def compute(self, rows: Sequence[Tokens], cores: int | None = None) -> npt.NDArray[np.float32]:
        """Return one vector per row, float32[n, dimension]; a row without an answer is not finite.

        May run in several threads at a time, each of which says how many `cores` are its own.

        Raises:
            RequestRefused: the rows cannot be computed, or one of them cannot.
        """
