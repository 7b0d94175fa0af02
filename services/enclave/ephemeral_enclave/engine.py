"""Inference engines: texts in, vectors out. No sessions, no wire, no keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, repr=False)  # vectors are plaintext: they do not print
class Embedded:
    """Vectors as float32[n, dimension], row i for text i, and the tokens computed after truncation."""

    vectors: npt.NDArray[np.float32]
    tokens: int


class Engine(Protocol):
    """A loaded model."""

    dimension: int

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Compute one vector per text.

        Raises:
            RequestRefused: the engine cannot take this input; other inputs are not affected.
        """
