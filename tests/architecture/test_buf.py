"""The schema keeps its style and its promise to those who already speak it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FROZEN = ROOT / "proto/ephemeralml.v1.binpb"


def buf(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("buf"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [("lint",), ("format", "--diff", "--exit-code"), ("breaking", "--against", FROZEN)],
    ids=lambda arguments: str(arguments[0]),
)
def test_schema_passes(arguments: tuple[str | Path, ...]) -> None:
    run = buf(*arguments)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("bytes ciphertext = ", "string ciphertext = ", "changed type"),
        (" ciphertext = ", " renamed = ", "changed name"),
    ],
)
def test_breaking_change_of_a_frame_is_caught(old: str, new: str, rule: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    frame = tmp_path / "proto/ephemeralml/v1/frame.proto"
    assert old in frame.read_text()
    frame.write_text(frame.read_text().replace(old, new, 1))
    run = buf("breaking", "--against", FROZEN, cwd=tmp_path)
    assert run.returncode != 0
    assert rule in run.stdout
