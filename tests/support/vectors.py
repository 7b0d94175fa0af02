"""Third-party test vectors, kept outside the repository: EPHEMERALML_VECTORS names the folder.

Absent vectors are skipped and say how many files were not checked; fewer files than expected is a failure, so that a
half-empty folder cannot pass for a whole one.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(os.environ.get("EPHEMERALML_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))


def _absent(count: int, what: str) -> str:
    return f"{count} third-party vector files not checked: {VECTORS / what} is absent (set EPHEMERALML_VECTORS)"


def vector_path(name: str) -> Path:
    """Return the path of one vector file, or skip the test that asks for it."""
    path = VECTORS / name
    if not path.exists():
        pytest.skip(_absent(1, name))
    return path


def vector_json(name: str) -> Any:
    """Return one parsed JSON vector file, or skip the test that asks for it."""
    return json.loads(vector_path(name).read_text())


def vector_files(folder: str, pattern: str, *, expected: int) -> list[Any]:
    """Return the files as parameters of a test, or one skipped parameter that counts them."""
    if not (VECTORS / folder).is_dir():
        reason = _absent(expected, folder)
        return [pytest.param(VECTORS / folder, id="absent", marks=[pytest.mark.vectors, pytest.mark.skip(reason)])]
    files = sorted((VECTORS / folder).glob(pattern))
    assert len(files) >= expected, f"{len(files)} of {expected} vector files in {VECTORS / folder}"
    return [pytest.param(path, id=path.stem, marks=pytest.mark.vectors) for path in files]
