"""The vectors that answers are held against: sentence-transformers from the model's folder, nothing of ours.

`python -m benchmarks.serving.reference FILE LENGTHS...` computes them, so that no other process carries that library.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.serving.load import Check, Vector, WrongAnswer
from benchmarks.serving.texts import model_folder, texts

EVERY: Final = 16
"""Of the texts of a load, each EVERYth is looked at."""

TOLERANCE: Final = 1e-4
"""Most that a value may differ: float32 kernels of different libraries differ by 1e-6, bfloat16 by 3e-3."""


def write_reference(path: Path, lengths: Sequence[str]) -> None:
    """Compute the vectors of the texts that are looked at."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - seconds, and only here

    model = SentenceTransformer(str(model_folder()), device="cpu")
    vectors = {each: model.encode([text.text for text in texts(each)[::EVERY]]) for each in lengths}
    np.savez(path, allow_pickle=False, **vectors)


def checker(reference: Vector) -> Check:
    """Return the check against float32[n, dimension], the vectors of every EVERYth text."""

    def check(number: int, answer: Callable[[], Vector]) -> None:
        place, skipped = divmod(number, EVERY)
        if skipped:
            return
        vector, expected = answer(), reference[place]
        if vector.shape != expected.shape:
            raise WrongAnswer(f"{vector.shape} values")
        if abs(float(np.linalg.norm(vector)) - 1) > TOLERANCE:
            raise WrongAnswer("its length is not 1")
        if not float(np.abs(vector - expected).max()) <= TOLERANCE:
            raise WrongAnswer("it is not the reference's vector")

    return check


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]), sys.argv[2:])
