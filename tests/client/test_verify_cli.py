"""``ephemeralml verify``: an auditor who reads only its lines can say what was proven, and the exit code agrees."""

import base64
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ephemeral.trusted.attestation import parse_document
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import AcceptedModel
from ephemeralml.cli import run
from tests.support.kept_evidence import PUBLISHER, RECEIPT_SIGNER, KeptEvidence, mint, policy_toml, receipt_with_mode
from tests.support.minting import NONCE
from tests.support.vectors import vector_files, vector_json

Shown = tuple[int, str, str]


class Folder:
    """Files of kept evidence, and the command run on them in this process."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys
        self.kept = kept = KeptEvidence()
        bundle = kept.bundle()
        self.bundle = bundle
        for name, contents in (
            ("document", bundle.document),
            ("receipt", bundle.receipt),
            ("manifest", bundle.manifest),
            ("bundle", bundle.encode()),
            ("trust.toml", policy_toml(kept.policy).encode()),
        ):
            (path / name).write_bytes(contents)

    def file(self, name: str, contents: bytes | None = None) -> str:
        if contents is not None:
            (self.path / name).write_bytes(contents)
        return str(self.path / name)

    def run(self, *arguments: str) -> Shown:
        code = run(list(arguments))
        shown = self._capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return code, shown.out, shown.err

    def verify(self, what: str, *arguments: str, trust: bool = True) -> Shown:
        options = ("--trust", self.file("trust.toml")) if trust else ()
        return self.run("verify", what, *arguments, *options)


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path, capsys)


def verdicts(shown: str) -> dict[str, str]:
    """Return {check id: verdict} of the printed lines; one line per check."""
    rows = [line.split() for line in shown.splitlines() if line.startswith(("PASS", "FAIL", "SKIP"))]
    assert all("Why:" in row for row in rows)
    assert all("Fix:" in row for row in rows if row[0] == "FAIL")
    return {row[1]: row[0] for row in rows}


class TestAttestation:
    def test_archived_document_under_a_policy_is_verified(self, folder: Folder) -> None:
        code, shown, _ = folder.verify("attestation", folder.file("document"), "--archive")
        assert code == 0
        assert verdicts(shown) == {f"ATT-{n:02}": "SKIP" if n == 8 else "PASS" for n in range(1, 11)}
        assert "CRLs were not fetched" in shown
        assert "at its own time" in shown

    def test_from_standard_input(self, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(folder.bundle.document)))
        code, shown, _ = folder.verify("attestation", "-", "--archive")
        assert (code, verdicts(shown)["ATT-07"]) == (0, "PASS")

    def test_same_document_now_is_expired_and_the_fix_says_archive(self, folder: Folder) -> None:
        code, shown, said = folder.verify("attestation", folder.file("document"))
        assert (code, verdicts(shown)["ATT-03"]) == (1, "FAIL")
        assert "use --archive" in shown
        assert "CERTIFICATE_EXPIRED" in said

    def test_nonce_is_required_once_it_is_given(self, folder: Folder) -> None:
        arguments = ("attestation", folder.file("document"), "--archive", "--nonce")
        told = json.loads(folder.verify(*arguments, NONCE.hex(), "--json")[1])
        assert (told["verdict"], "ATT-08" in told["required"], told["skipped"]) == ("VERIFIED", True, [])
        code, shown, _ = folder.verify(*arguments, "00" * 32)
        assert (code, verdicts(shown)["ATT-08"]) == (1, "FAIL")
        without = folder.file("without", mint().document(nonce=None))
        code, shown, said = folder.verify("attestation", without, "--archive", "--nonce", NONCE.hex())
        assert (code, verdicts(shown)["ATT-08"]) == (1, "FAIL")
        assert "MISSING_NONCE" in said

    def test_document_of_another_system_is_refused_unless_its_purpose_is_left_out(self, folder: Folder) -> None:
        foreign = folder.file("foreign", mint().document(user_data=b"hello"))
        code, shown, _ = folder.verify("attestation", foreign, "--archive")
        assert (code, verdicts(shown)["ATT-09"]) == (1, "FAIL")
        code, shown, _ = folder.verify("attestation", foreign, "--archive", "--any-purpose")
        assert (code, verdicts(shown)["ATT-07"], verdicts(shown)["ATT-09"]) == (0, "PASS", "SKIP")
        assert "not proven: which keys it holds" in shown

    def test_other_build_is_refused_with_the_measurements_named(self, folder: Folder) -> None:
        other = folder.file("other", mint().document(pcrs={0: b"\x77" * 48, 1: b"\x77" * 48, 2: b"\x77" * 48}))
        for options in ((), ("--any-purpose",)):
            code, shown, said = folder.verify("attestation", other, "--archive", *options)
            assert (code, verdicts(shown)["ATT-07"]) == (1, "FAIL")
            assert "PCR0" in said

    @pytest.mark.parametrize("spell", [bytes.hex, lambda raw: raw.hex(" ").upper(), lambda raw: f"0x{raw.hex()}\n"])
    def test_hex_text_is_detected(self, folder: Folder, spell: Callable[[bytes], str]) -> None:
        text = folder.file("text", spell(folder.bundle.document).encode())
        assert folder.verify("attestation", text, "--archive")[0] == 0

    @pytest.mark.parametrize("encode", [base64.encodebytes, base64.urlsafe_b64encode])
    def test_base64_text_is_detected(self, folder: Folder, encode: Callable[[bytes], bytes]) -> None:
        text = folder.file("text", encode(folder.bundle.document))
        assert folder.verify("attestation", text, "--archive")[0] == 0
        assert folder.verify("attestation", folder.file("text", encode(folder.bundle.document).rstrip(b"=\n")))[0] == 1

    @pytest.mark.parametrize("junk", [b"", b"\n", b"not a document", b"\xff\xff", b"%%%", b"\x84" * 4000])
    def test_junk_is_refused_with_a_named_check(self, folder: Folder, junk: bytes) -> None:
        code, shown, _ = folder.verify("attestation", folder.file("junk", junk), "--archive")
        assert (code, verdicts(shown)["ATT-01"]) == (1, "FAIL")

    def test_json_carries_the_same(self, folder: Folder) -> None:
        arguments = ("attestation", folder.file("document"), "--archive")
        _, shown, _ = folder.verify(*arguments)
        told = json.loads(folder.verify(*arguments, "--json")[1])
        assert {check["id"]: check["verdict"] for check in told["checks"]} == verdicts(shown)
        assert told["verdict"] == "VERIFIED"
        assert told["summary"] in shown
        assert told["skipped"] == ["ATT-08"]
        assert all(f"proven: {sentence}" in shown for sentence in told["proven"] + told["not_proven"])

    def test_json_of_a_refusal_is_a_report_too(self, folder: Folder) -> None:
        code, shown, _ = folder.verify("attestation", folder.file("document"), "--json")
        told = json.loads(shown)
        assert (code, told["verdict"], told["proven"]) == (1, "REFUSED", [])
        (failed,) = (check for check in told["checks"] if check["verdict"] == "FAIL")
        assert (failed["id"], failed["code"]) == ("ATT-03", "CERTIFICATE_EXPIRED")

    @pytest.mark.parametrize("nonce", ["xyz", "", "00" * 2000])
    def test_nonce_that_is_none_is_a_usage_error(self, folder: Folder, nonce: str) -> None:
        assert folder.verify("attestation", folder.file("document"), "--nonce", nonce)[0] == 2

    def test_file_that_is_not_there_is_a_usage_error(self, folder: Folder) -> None:
        assert folder.verify("attestation", "/none")[0] == 2


@pytest.mark.parametrize("path", vector_files("nitro", "*.cbor", expected=11))
class TestRealDocuments:
    def test_without_a_policy_only_the_origin_is_shown(self, path: Path, folder: Folder) -> None:
        code, shown, _ = folder.verify("attestation", str(path), "--archive", trust=False)
        found = verdicts(shown)
        assert code == 1
        assert {found[check] for check in ("ATT-01", "ATT-02", "ATT-03")} == {"PASS"}
        assert {found[check] for check in ("ATT-07", "ATT-08", "ATT-09", "ATT-10")} == {"SKIP"}

    def test_asked_only_for_the_origin(self, path: Path, folder: Folder) -> None:
        code, shown, _ = folder.verify("attestation", str(path), "--archive", "--origin-only", trust=False)
        found = verdicts(shown)
        (facts,) = (entry for entry in vector_json("nitro/manifest.json")["documents"] if entry["file"] == path.name)
        genuine = facts["expected_at_signing_time"] == "valid"
        broken = "ATT-04" if not genuine else "ATT-06" if facts["debug_mode"] else None
        if broken is None:
            assert (code, found["ATT-06"]) == (0, "PASS")
            assert "proven: an AWS Nitro security module signed exactly these bytes" in shown
            assert "not proven: which code runs there" in shown
        else:
            assert (code, found[broken]) == (1, "FAIL")

    def test_now_it_has_expired(self, path: Path, folder: Folder) -> None:
        code, shown, _ = folder.verify("attestation", str(path), trust=False)
        assert (code, verdicts(shown)["ATT-02"], verdicts(shown)["ATT-03"]) == (1, "PASS", "FAIL")


class TestReceipt:
    def test_under_its_document_and_a_policy(self, folder: Folder) -> None:
        arguments = ("receipt", folder.file("receipt"), "--document", folder.file("document"))
        code, shown, _ = folder.verify(*arguments)
        assert code == 0
        assert verdicts(shown)["receipt.attestation_doc_hash"] == "PASS"
        assert verdicts(shown)["receipt.request_hash"] == "SKIP"
        assert folder.run("receipt", "verify", *arguments[1:], "-t", folder.file("trust.toml"))[1] == shown
        assert folder.verify(*arguments, "--archive")[1] == shown

    def test_every_damaged_byte_is_refused(self, folder: Folder) -> None:
        good = folder.bundle.receipt
        for place in range(0, len(good), 7):
            bad = folder.file("bad", good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            code, shown, _ = folder.verify("receipt", bad, "--document", folder.file("document"))
            assert code == 1
            assert "FAIL" in verdicts(shown).values()

    def test_under_a_key_says_that_no_enclave_was_shown(self, folder: Folder) -> None:
        receipt, key = mode_receipt(folder, "production"), RECEIPT_SIGNER.verifying_key.raw.hex()
        code, shown, _ = folder.verify("receipt", receipt, "--key", key, trust=False)
        assert (code, verdicts(shown)["receipt.key"]) == (0, "SKIP")
        assert "not proven: that an enclave holds that key" in shown

    def test_simulated_receipt_under_a_bare_key_is_refused(self, folder: Folder) -> None:
        key = RECEIPT_SIGNER.verifying_key.raw.hex()
        code, _, said = folder.verify("receipt", folder.file("receipt"), "--key", key, trust=False)
        assert code == 1
        assert "EVALUATION_MODE_REJECTED" in said

    def test_another_key_is_refused(self, folder: Folder) -> None:
        key = SigningKey.generate().verifying_key.raw.hex()
        code, shown, _ = folder.verify("receipt", folder.file("receipt"), "--key", key, trust=False)
        assert (code, verdicts(shown)["receipt.signature"]) == (1, "FAIL")

    def test_nonce_is_compared_when_given(self, folder: Folder) -> None:
        arguments = ("receipt", folder.file("receipt"), "--document", folder.file("document"), "--nonce")
        assert folder.verify(*arguments, NONCE.hex())[0] == 0
        assert folder.verify(*arguments, "00" * 32)[0] == 1

    def test_pre_freeze_receipt_has_its_own_verdict(self, folder: Folder) -> None:
        key = RECEIPT_SIGNER.verifying_key.raw.hex()
        code, shown, _ = folder.verify("receipt", mode_receipt(folder, "GatewayOnly"), "--key", key, trust=False)
        assert code == 1
        assert "pre-freeze: signature valid, profile not conforming" in shown
        assert verdicts(shown)["receipt.signature"] == "PASS"

    @pytest.mark.parametrize("key", ["xy", "00", "00" * 32])
    def test_key_that_is_none_is_a_usage_error(self, folder: Folder, key: str) -> None:
        assert folder.verify("receipt", folder.file("receipt"), "--key", key, trust=False)[0] == 2

    def test_without_anybody_who_signed_it_is_a_usage_error(self, folder: Folder) -> None:
        receipt, document, key = folder.file("receipt"), folder.file("document"), "00" * 32
        assert folder.verify("receipt", receipt)[0] == 2
        assert folder.verify("receipt", receipt, "--document", document, trust=False)[0] == 2
        assert folder.verify("receipt", receipt, "--document", document, "--key", key)[0] == 2


def mode_receipt(folder: Folder, mode: str) -> str:
    return folder.file(mode, receipt_with_mode(mode).hex().encode())


@pytest.mark.parametrize(
    ("name", "key_field", "code"),
    [
        ("valid/v1-nitro-no-nonce", "public_key_hex", None),
        ("invalid/v1-wrong-key", "wrong_public_key_hex", "SIG_FAILED"),
        ("invalid/v1-wrong-alg", "public_key_hex", "BAD_ALG"),
        ("invalid/v1-zero-model-hash", "public_key_hex", "ZERO_MODEL_HASH"),
        ("invalid/v1-nonce-mismatch", "public_key_hex", "NONCE_MISMATCH"),
    ],
)
@pytest.mark.vectors
def test_published_receipts_get_their_published_verdicts(
    name: str, key_field: str, code: str | None, folder: Folder
) -> None:
    vector = vector_json(f"air-v1/{name}.json")
    receipt = folder.file("receipt.json", json.dumps(vector).encode())
    wanted = vector.get("verify_policy", {}).get("expected_nonce_hex")
    nonce = () if wanted is None else ("--nonce", wanted)
    exit_code, shown, said = folder.verify("receipt", receipt, "--key", vector[key_field], *nonce, trust=False)
    assert exit_code == (0 if code is None else 1)
    assert (code or "VERIFIED") in shown
    assert (code or "") in said


class TestManifest:
    def test_under_the_publishers_of_a_policy(self, folder: Folder) -> None:
        code, shown, _ = folder.verify("manifest", folder.file("manifest"))
        assert (code, verdicts(shown)["manifest.signature"]) == (0, "PASS")
        assert "tokenizer.json" in shown

    @pytest.mark.parametrize("publishers", [None, ()])
    def test_without_publishers_its_signature_is_a_required_skip(
        self, folder: Folder, publishers: tuple[()] | None
    ) -> None:
        if publishers is not None:
            folder.file("trust.toml", policy_toml(mint().policy).encode())
        code, shown, said = folder.verify("manifest", folder.file("manifest"), trust=publishers is not None)
        assert (code, verdicts(shown)["manifest.signature"]) == (1, "SKIP")
        assert "INCOMPLETE" in said

    def test_of_another_publisher(self, folder: Folder) -> None:
        policy = replace(mint().policy, publishers=(SigningKey.generate().verifying_key,))
        folder.file("trust.toml", policy_toml(policy).encode())
        code, shown, _ = folder.verify("manifest", folder.file("manifest"))
        assert (code, verdicts(shown)["manifest.publisher"]) == (1, "FAIL")

    def test_forged(self, folder: Folder) -> None:
        good = folder.bundle.manifest
        code, shown, _ = folder.verify("manifest", folder.file("bad", good[:-1] + bytes([good[-1] ^ 1])))
        assert (code, verdicts(shown)["manifest.signature"]) == (1, "FAIL")

    def test_of_a_model_that_the_policy_does_not_accept(self, folder: Folder) -> None:
        text = policy_toml(replace(mint().policy, publishers=(PUBLISHER.verifying_key,)))
        model = AcceptedModel("other")
        folder.file("trust.toml", f'{text}\n[[models]]\nmodel_id = "{model.model_id}"\n'.encode())
        code, shown, _ = folder.verify("manifest", folder.file("manifest"))
        assert (code, verdicts(shown)["policy.model"]) == (1, "FAIL")


class TestBundle:
    def test_whole_chain(self, folder: Folder) -> None:
        code, shown, _ = folder.verify("bundle", folder.file("bundle"))
        assert code == 0
        assert "FAIL" not in verdicts(shown).values()
        assert "model.safetensors" in shown
        assert shown.splitlines()[-1].startswith("VERIFIED bundle at its document's own time")

    def test_damage(self, folder: Folder) -> None:
        raw = folder.bundle.encode()
        code, shown, _ = folder.verify("bundle", folder.file("bad", raw[:-1] + bytes([raw[-1] ^ 1])))
        assert (code, verdicts(shown)["bundle.digest"]) == (1, "FAIL")

    def test_other_policy_is_named(self, folder: Folder) -> None:
        folder.file("trust.toml", policy_toml(mint().policy).encode())
        code, shown, _ = folder.verify("bundle", folder.file("bundle"))
        assert (code, verdicts(shown)["policy.digest"]) == (1, "FAIL")
        code, shown, _ = folder.verify("bundle", folder.file("bundle"), "--other-policy")
        assert (code, verdicts(shown)["policy.digest"]) == (0, "SKIP")
        assert "policy.digest" in shown.splitlines()[-1]

    def test_needs_a_policy(self, folder: Folder) -> None:
        assert folder.verify("bundle", folder.file("bundle"), trust=False)[0] == 2


class TestWrongFile:
    """Somebody who gives a file to the wrong command is told which is the right one."""

    @pytest.mark.parametrize("command", ["attestation", "receipt", "manifest", "bundle"])
    @pytest.mark.parametrize("kind", ["document", "receipt", "manifest", "bundle"])
    def test_of_one_kind_for_the_command_of_another(self, folder: Folder, kind: str, command: str) -> None:
        right = "attestation" if kind == "document" else kind
        options = {"receipt": ("--document", folder.file("document")), "attestation": ("--archive",)}
        code, shown, _ = folder.verify(command, folder.file(kind), *options.get(command, ()))
        assert (code == 0) == (command == right)
        assert (f"use ephemeralml verify {right}." in shown) == (command != right)

    @pytest.mark.parametrize(
        ("contents", "named"),
        [
            (b"", "FILE is empty."),
            (b"-----BEGIN CERTIFICATE-----\n", "FILE is PEM text"),
            (b'{"Measurements": {"PCR0": "00"}}', "use ephemeralml policy add."),
            (b"[1, 2]", "FILE is JSON"),
            (bytes.fromhex("308006092a864886f70d010703a080"), "FILE is a CMS envelope"),
        ],
    )
    def test_that_is_no_evidence(self, folder: Folder, contents: bytes, named: str) -> None:
        code, shown, _ = folder.verify("attestation", folder.file("other", contents))
        assert code == 1
        assert named in shown

    def test_that_is_a_certificate(self, folder: Folder) -> None:
        certificate = parse_document(folder.bundle.document).certificate
        assert "FILE is a certificate" in folder.verify("attestation", folder.file("leaf", certificate))[1]

    def test_of_the_right_kind_gets_no_hint_however_wrong_it_is(self, folder: Folder) -> None:
        document = folder.bundle.document
        bad = folder.file("bad", document[:-1] + bytes([document[-1] ^ 1]))
        code, shown, _ = folder.verify("attestation", bad)
        assert code == 1
        assert "note:" not in shown


def test_a_record_names_each_file_by_the_hash_that_others_compute(folder: Folder) -> None:
    code, shown, _ = folder.verify("receipt", folder.file("receipt"), "--document", folder.file("document"))
    assert code == 0
    for name in ("receipt", "document"):
        assert hashlib.sha256((folder.path / name).read_bytes()).hexdigest() in shown
    assert folder.kept.policy.digest.hex() in shown
    listed = json.loads(
        folder.verify("receipt", folder.file("receipt"), "--document", folder.file("document"), "--json")[1]
    )
    assert [source["role"] for source in listed["given"]] == ["receipt", "document", "policy"]


def test_a_refusal_says_that_nothing_is_proven(folder: Folder) -> None:
    _, shown, _ = folder.verify("attestation", folder.file("other", b"\x84"))
    assert [line for line in shown.splitlines() if line.startswith("proven: ")] == [
        "proven: nothing: a check failed; each PASS says only what it compared."
    ]


@pytest.mark.vectors
def test_a_published_vector_names_its_key_and_is_not_believed(folder: Folder) -> None:
    vector = vector_json("air-v1/valid/v1-nitro-no-nonce.json")
    code, _, said = folder.verify("receipt", folder.file("v.json", json.dumps(vector).encode()), trust=False)
    assert code == 2
    assert vector["public_key_hex"] in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_no_bug_of_ours(folder: Folder) -> None:
    command = [
        sys.executable,
        "-c",
        "from ephemeralml.cli import main; main()",
        "verify",
        "attestation",
        folder.file("document"),
    ]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, b"bug" in done.stderr, b"SYSTEM" in done.stderr) == (3, False, True)
