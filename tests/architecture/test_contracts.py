"""Who may import whom: the contracts of pyproject.toml hold, and the strictest ones hold at run time."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CIPHERS = {"cryptography", "pyhpke", "cbor2", "nacl"}


def test_every_import_contract_holds() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [lint_imports, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_host_process_never_loads_a_cipher() -> None:
    code = "import ephemeral_host.__main__, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert "ephemeral_host" in loaded
    assert {
        name for name in loaded if name.partition(".")[0] in CIPHERS or name.startswith("ephemeral.trusted")
    } == set()


def test_importing_the_sdk_loads_no_inference_stack() -> None:
    code = "import ephemeralml.cli, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "sentence_transformers", "boto3"} & set(run.stdout.split())
