"""The command line as a person meets it: one clear line, a documented exit code, never a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ephemeral_devstack.stack import Stack


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ephemeralml.cli import main; main()", *arguments]
    ended = subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)
    done = subprocess.CompletedProcess(command, ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    assert "Traceback" not in done.stderr + done.stdout
    return done


def refused(code: int, *arguments: str, stdin: bytes = b"", says: str) -> None:
    done = run(*arguments, stdin=stdin)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4  # click adds its usage lines to the one that says what is wrong


@pytest.fixture
def options(stack: Stack) -> list[str]:
    return ["--address", stack.address, "--trust", str(stack.trust)]


class TestWithoutAService:
    def test_no_trust_option(self) -> None:
        refused(2, "embed", "--address", "tcp://127.0.0.1:1", "x", says="--trust")

    def test_trust_file_that_is_not_there(self) -> None:
        refused(
            2, "embed", "-a", "tcp://127.0.0.1:1", "-t", "/nonexistent", "x", says="cannot read the policy /nonexistent"
        )

    def test_trust_file_that_would_not_protect(self, tmp_path: Path) -> None:
        path = tmp_path / "trust.toml"
        path.write_text("version = 1\n")
        refused(2, "attest", "-a", "tcp://127.0.0.1:1", "-t", str(path), says="PCR0")

    @pytest.mark.parametrize(
        "address", ["localhost", "http://x:1", "tcp://x", "tcp://x:99999", "unix://relative", "vsock://16:5000"]
    )
    def test_address_that_is_none(self, address: str, tmp_path: Path) -> None:
        refused(2, "attest", "-a", address, "-t", str(good_policy(tmp_path)), says="ADDRESS")

    def test_nothing_listens(self, tmp_path: Path) -> None:
        arguments = ("-a", "tcp://127.0.0.1:1", "-t", str(good_policy(tmp_path)), "--timeout", "5")
        refused(3, "attest", *arguments, says="UNAVAILABLE")

    def test_receipt_that_is_none(self, tmp_path: Path) -> None:
        junk = tmp_path / "junk"
        junk.write_bytes(b"junk")
        arguments = ("receipt", "verify", str(junk), "-d", str(junk), "-t", str(good_policy(tmp_path)))
        refused(1, *arguments, says="MALFORMED_ENVELOPE")

    def test_receipt_file_that_is_not_there(self, tmp_path: Path) -> None:
        arguments = ("receipt", "verify", "/none", "-d", "/none", "-t", str(good_policy(tmp_path)))
        refused(2, *arguments, says="cannot read the receipt /none")

    def test_help_of_every_command(self) -> None:
        for command in (
            [],
            ["embed"],
            ["attest"],
            ["receipt"],
            ["receipt", "verify"],
            ["verify"],
            ["verify", "bundle"],
        ):
            done = run(*command, "--help")
            assert done.returncode == 0
            assert "Usage: ephemeralml" in done.stdout


class TestAgainstTheStack:
    def test_embed_prints_vectors_and_the_receipts_verdict(self, options: list[str]) -> None:
        done = run("embed", *options, "A text.", "Another.")
        assert done.returncode == 0, done.stderr
        assert "receipt verified: all-MiniLM-L6-v2 version 1" in done.stdout
        assert "security mode evaluation" in done.stdout

    def test_embed_reads_standard_input(self, options: list[str]) -> None:
        done = run("embed", *options, "--json", stdin=b"one\ntwo\nthree\n")
        answer = json.loads(done.stdout)
        assert (len(answer["embeddings"]), answer["dimension"]) == (3, 384)

    def test_attest_prints_each_step(self, options: list[str]) -> None:
        done = run("attest", *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("PASS") >= 10
        assert "SIMULATED" in done.stdout

    def test_attest_json_carries_the_same(self, options: list[str]) -> None:
        verdict = json.loads(run("attest", *options, "--json").stdout)
        assert verdict["verdict"] == "VERIFIED"
        assert verdict["security_mode"] == "evaluation"
        assert {check["verdict"] for check in verdict["checks"] if check["required"]} == {"PASS"}

    def test_wrong_pcr_fails_with_the_steps_that_passed(self, stack: Stack, tmp_path: Path) -> None:
        path = tmp_path / "trust.toml"
        lines = stack.trust.read_text().splitlines()
        path.write_text("\n".join('pcr0 = "' + "77" * 48 + '"' if line.startswith("pcr0") else line for line in lines))
        done = run("attest", "-a", stack.address, "-t", str(path))
        assert done.returncode == 1
        assert "FAIL" in done.stdout
        assert "PCR0" in done.stderr
        refused(1, "embed", "-a", stack.address, "-t", str(path), "x", says="MEASUREMENT_MISMATCH")

    def test_empty_text(self, options: list[str]) -> None:
        refused(2, "embed", *options, "", says="INVALID_REQUEST")
        refused(2, "embed", *options, stdin=b"", says="INVALID_REQUEST")

    def test_ten_megabytes_of_text(self, options: list[str]) -> None:
        refused(2, "embed", *options, stdin=b"x" * 10_000_000, says="TOO_LARGE")

    def test_text_that_is_not_utf8(self, options: list[str]) -> None:
        refused(2, "embed", *options, stdin=b"\xff\xfe", says="INPUT_ENCODING")

    def test_model_that_is_not_served(self, options: list[str]) -> None:
        refused(2, "embed", *options, "-m", "other", "x", says="UNKNOWN_MODEL")

    def test_receipt_written_and_verified_offline(self, options: list[str], stack: Stack, tmp_path: Path) -> None:
        receipt, document = tmp_path / "receipt.cose", tmp_path / "document.cose"
        kept = ("--receipt-out", str(receipt), "--document-out", str(document))
        assert run("embed", *options, *kept, "x").returncode == 0
        arguments = ("receipt", "verify", str(receipt), "-d", str(document), "-t", str(stack.trust))
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert "VERIFIED receipt at its document's own time" in done.stdout
        assert json.loads(run(*arguments, "--json").stdout)["verdict"] == "VERIFIED"

    def test_bundle_written_and_verified_offline(self, options: list[str], stack: Stack, tmp_path: Path) -> None:
        for plaintext in ((), ("--include-plaintext",)):
            bundle = tmp_path / "answer.bundle"
            assert run("embed", *options, "--bundle-out", str(bundle), *plaintext, "a very secret text").returncode == 0
            assert (b"a very secret text" in bundle.read_bytes()) == bool(plaintext)
            done = run("verify", "bundle", str(bundle), "-t", str(stack.trust))
            assert done.returncode == 0, done.stderr
            verdict = "PASS" if plaintext else "SKIP"
            assert f"{verdict}  receipt.request_hash" in done.stdout

    def test_plaintext_without_a_bundle_is_a_usage_error(self, options: list[str]) -> None:
        refused(2, "embed", *options, "--include-plaintext", "x", says="--bundle-out")

    def test_every_damaged_byte_of_a_receipt_is_refused(self, options: list[str], stack: Stack, tmp_path: Path) -> None:
        receipt, document = tmp_path / "receipt.cose", tmp_path / "document.cose"
        run("embed", *options, "--receipt-out", str(receipt), "--document-out", str(document), "x")
        good = receipt.read_bytes()
        for place in range(0, len(good), 97):
            receipt.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            done = run("receipt", "verify", str(receipt), "-d", str(document), "-t", str(stack.trust))
            assert done.returncode == 1
            assert "FAIL" in done.stdout


def good_policy(folder: Path) -> Path:
    path = folder / "good.toml"
    registers = "".join(f'pcr{index} = "{"11" * 48}"\n' for index in range(3))
    path.write_text(f'version = 1\n[[measurements]]\nlabel = "x"\n{registers}')
    return path
