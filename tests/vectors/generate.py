"""Writes the test vectors for other implementations: `python -m tests.vectors.generate`.

Keys, nonces and salts are fixed, so every run writes the same bytes; test_vectors.py holds the files against this
script, and against an implementation that shares no code with the product.
"""

import json
from pathlib import Path
from typing import Final

from tests.vectors import attested_cases, channel_cases, encoding_cases, evidence_cases, model_cases, worked_example
from tests.vectors.cases import VectorFile

FOLDER: Final = Path(__file__).parent
FILES: Final[tuple[VectorFile, ...]] = (
    *encoding_cases.FILES,
    *channel_cases.FILES,
    *attested_cases.FILES,
    *model_cases.FILES,
    *worked_example.FILES,
    *evidence_cases.FILES,
)


def text(file: VectorFile) -> str:
    """Return the file as it is written."""
    return json.dumps(file.build(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every file."""
    for file in FILES:
        (FOLDER / f"{file.name}.json").write_text(text(file), encoding="utf-8")


if __name__ == "__main__":
    main()
