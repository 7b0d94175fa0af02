"""The committed code is what the committed schema generates."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_generated_code_is_what_the_schema_generates() -> None:
    run = subprocess.run([ROOT / "tools/generate.sh", "--check"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
