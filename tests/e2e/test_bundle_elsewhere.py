"""A bundle made by the running system verifies elsewhere: in an environment with the client and nothing else."""

import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from ephemeral.errors import ManifestError, ReceiptError
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import TrustPolicy
from ephemeral_devstack.stack import MODEL_ID, Stack
from ephemeralml import Client, Embeddings, verify_bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheels of the client and of the protocol library; returns its command."""
    folder = tmp_path_factory.mktemp("elsewhere")
    build = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(folder / "wheels"), ".", "./clients/python"], cwd=ROOT, check=True)
    venv.create(folder / "venv", with_pip=True)
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    wheels = [str(path) for path in (folder / "wheels").glob("*.whl")]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *wheels], check=True)
    return folder / "venv/bin/ephemeralml"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bundle_verifies_where_only_the_client_is_installed(
    client: Client, stack: Stack, elsewhere: Path, tmp_path: Path
) -> None:
    raw = client.bundle(client.embed(["a text"]), include_plaintext=True)
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(raw)
    bad.write_bytes(raw[:-40] + bytes([raw[-40] ^ 1]) + raw[-39:])
    done = {path: verify(elsewhere, path, stack) for path in (good, bad)}
    assert done[good].returncode == 0, done[good].stderr
    assert "VERIFIED bundle" in done[good].stdout
    assert done[bad].returncode == 1
    assert "FAIL  bundle.digest" in done[bad].stdout


def verify(command: Path, bundle: Path, stack: Stack) -> subprocess.CompletedProcess[str]:
    """Run the other environment's own command, outside the checkout."""
    words = [str(command), "verify", "bundle", str(bundle), "--trust", str(stack.trust)]
    return subprocess.run(
        words, cwd=bundle.parent, env={"LANG": "C.UTF-8"}, capture_output=True, text=True, check=False
    )


def test_description_hashes_to_what_was_attested(client: Client) -> None:
    description = client.describe()
    assert description.manifest.digest == client.models[0].manifest_digest
    assert description.build.digest == client.enclave.binding.build_digest
    assert {"tokenizer.json", "config.json", "model.safetensors"} <= {
        file.name for file in description.manifest.manifest.files
    }


def test_description_has_no_receipt_and_uses_one_place_in_the_session(client: Client) -> None:
    client.describe(model=MODEL_ID)
    assert client.embed(["x"]).receipt.claims.sequence_number == 2


def test_bundle_of_the_stack_closes_the_chain_under_the_clients_own_policy(client: Client, trust: TrustPolicy) -> None:
    answer = client.embed(["a text"])
    verified = verify_bundle(client.bundle(answer), trust)
    assert verified.receipt.claims == answer.receipt.claims
    assert verified.bundle.messages is None


def test_manifest_of_a_publisher_that_the_policy_does_not_name_is_refused(stack: Stack, trust: TrustPolicy) -> None:
    stranger = replace(trust, publishers=(SigningKey.generate().verifying_key,))
    with Client.connect(stack.address, trust=stranger) as client, pytest.raises(ManifestError) as caught:
        client.bundle(client.embed(["x"]))
    assert caught.value.code == "MANIFEST_UNKNOWN_PUBLISHER"


def test_bundle_of_an_answer_that_was_tampered_with_is_never_written(client: Client) -> None:
    answer = client.embed(["x"])
    forged: Embeddings = replace(answer, messages=replace(answer.messages, result=b"something else"))
    with pytest.raises(ReceiptError, match="RESPONSE_HASH_MISMATCH"):
        client.bundle(forged, include_plaintext=True)
