"""`ephemeralml policy` and `ephemeralml keys`: each mistake is one clear line and a documented exit code."""

import json
import os
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ephemeral.trusted.policy import TrustPolicy
from ephemeralml.cli import run
from tests.support.signed_policy import SIGNER, policy_text, signed

PCR0, PCR1, PCR2 = (f"{index}b" * 48 for index in range(3))
NITRO = {
    "Measurements": {"HashAlgorithm": "Sha384 { ... }", "PCR0": PCR0, "PCR1": PCR1, "PCR2": PCR2},
}
TWICE = json.dumps({"PCR0": PCR1, **NITRO["Measurements"]}).replace('{"PCR0"', '{"PCR2": "", "PCR0"').encode()
POLICY = f"""# Reviewed on Mondays.
version = 1   # the format

[[measurements]]  # the build of January
label = "old"
pcr0 = "{"a0" * 48}"
pcr1 = "{"a1" * 48}"
pcr2 = "{"a2" * 48}"

[[models]]
model_id = "all-MiniLM-L6-v2"  # the only one
# the end"""


class Terminal:
    """What a person types, and what comes back."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def file(self, name: str, content: str | bytes, mode: int = 0o644) -> str:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return str(path)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def says(self, *arguments: str) -> str:
        assert run(list(arguments)) == 0, self._capsys.readouterr().err
        return self._capsys.readouterr().out

    def refuses(self, code: int, word: str, *arguments: str) -> str:
        self._capsys.readouterr()
        assert run(list(arguments)) == code
        printed = self._capsys.readouterr()
        assert word in printed.err
        assert len(printed.err.splitlines()) == 1
        assert not printed.out
        return printed.err


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, capsys)


class TestAdd:
    def add(self, terminal: Terminal, pcrs: object, *more: str) -> TrustPolicy:
        source = terminal.file("pcrs.json", json.dumps(pcrs))
        terminal.says("policy", "add", terminal.file("trust.toml", POLICY), "--from", source, *more)
        return TrustPolicy.load(terminal.path("trust.toml"))

    @pytest.mark.parametrize(
        "pcrs",
        [
            NITRO,
            NITRO["Measurements"],
            {"PCR0": PCR0.upper(), "PCR1": PCR1.upper(), "PCR2": PCR2.upper()},
            {"pcr0": PCR0, "pcr1": PCR1, "pcr2": PCR2},
            {"pcr_0": PCR0, "pcr_1": PCR1, "pcr_2": PCR2, "hash_algorithm": "SHA-384"},
            {**NITRO, "EnclaveName": "x", "EnclaveID": "i-1"},
        ],
        ids=["nitro-cli", "inner object", "upper case", "lower case", "underscores", "describe-enclaves"],
    )
    def test_every_spelling_of_one_build_adds_that_build(self, terminal: Terminal, pcrs: object) -> None:
        old, new = self.add(terminal, pcrs, "--label", "new").measurements
        assert (old.label, new.label) == ("old", "new")
        assert new.pinned == {0: bytes.fromhex(PCR0), 1: bytes.fromhex(PCR1), 2: bytes.fromhex(PCR2)}

    def test_signer_and_role_are_pinned_when_given(self, terminal: Terminal) -> None:
        pcrs = {**NITRO["Measurements"], "PCR3": "3c" * 48, "PCR8": "8c" * 48}
        assert sorted(self.add(terminal, pcrs).measurements[1].pinned) == [0, 1, 2, 3, 8]

    def test_everything_that_was_in_the_file_stays(self, terminal: Terminal) -> None:
        self.add(terminal, NITRO)
        text = (terminal.folder / "trust.toml").read_text()
        assert text.startswith(POLICY + "\n")
        before, after = tomllib.loads(POLICY), tomllib.loads(text)
        assert before["measurements"] == after.pop("measurements")[:1]
        assert before.pop("models") == after.pop("models")

    def test_a_label_with_quotes_and_other_scripts_is_kept(self, terminal: Terminal) -> None:
        label = 'quoted "twice" \\ and \' 東京 🙂'
        assert self.add(terminal, NITRO, "--label", label).measurements[1].label == label

    def test_a_window_is_written(self, terminal: Terminal) -> None:
        window = ("--not-before", "2026-01-01T00:00:00Z", "--not-after", "2999-01-01T00:00:00+02:00")
        new = self.add(terminal, NITRO, *window).measurements[1]
        assert new.not_before == datetime(2026, 1, 1, tzinfo=UTC)
        assert new.not_after == datetime(2998, 12, 31, 22, tzinfo=UTC)

    def test_a_file_that_is_not_there_is_made(self, terminal: Terminal) -> None:
        source = terminal.file("pcrs.json", json.dumps(NITRO))
        terminal.says("policy", "add", terminal.path("fresh.toml"), "--from", source)
        (build,) = TrustPolicy.load(terminal.path("fresh.toml")).measurements
        assert build.label == f"build {PCR0[:12]}"

    def test_mode_and_link_of_the_file_are_kept(self, terminal: Terminal) -> None:
        source = terminal.file("pcrs.json", json.dumps(NITRO))
        real = Path(terminal.file("real.toml", POLICY, 0o640))
        link = terminal.folder / "link.toml"
        link.symlink_to(real)
        terminal.says("policy", "add", str(link), "--from", source)
        assert link.is_symlink()
        assert real.stat().st_mode & 0o777 == 0o640
        assert len(TrustPolicy.load(real).measurements) == 2

    @pytest.mark.parametrize(
        ("pcrs", "word"),
        [
            ({**NITRO["Measurements"], "PCR0": "00" * 48}, "POLICY_DEBUG"),
            ({**NITRO["Measurements"], "PCR8": "00" * 48}, "POLICY_ZERO"),
            ({**NITRO["Measurements"], "PCR1": PCR1[:64]}, "POLICY_LENGTH"),
            ({**NITRO["Measurements"], "PCR1": ""}, "PCR_SYNTAX"),
            ({**NITRO["Measurements"], "PCR1": PCR1[:-1]}, "PCR_SYNTAX"),
            ({**NITRO["Measurements"], "PCR1": "zz" * 48}, "PCR_SYNTAX"),
            ({**NITRO["Measurements"], "PCR1": f"{PCR1[:48]} {PCR1[48:]}"}, "PCR_SYNTAX"),
            ({**NITRO["Measurements"], "PCR1": 7}, "PCR_SYNTAX"),
            ({**NITRO["Measurements"], "PCR1": None}, "PCR_SYNTAX"),
            ({**NITRO["Measurements"], "pcr_1": PCR1}, "PCR_SYNTAX"),
            ({**NITRO["Measurements"], "HashAlgorithm": "Sha256"}, "PCR_SYNTAX"),
            ({**NITRO["Measurements"], "PCR5": PCR1}, "PCR_UNKNOWN"),
            ({**NITRO["Measurements"], "PRC8": PCR1}, "PCR_UNKNOWN"),
            ({"PCR0": PCR0, "PCR1": PCR1}, "PCR_MISSING"),
            ({}, "PCR_MISSING"),
            ([NITRO], "PCR_SYNTAX"),
            ({"Measurements": [PCR0]}, "PCR_SYNTAX"),
            ({"PCR0": "a0" * 48, "PCR1": "a1" * 48, "PCR2": "a2" * 48}, "POLICY_DUPLICATE"),
        ],
    )
    def test_pcrs_that_pin_nothing_certain_leave_the_file_as_it_was(
        self, terminal: Terminal, pcrs: object, word: str
    ) -> None:
        trust, source = terminal.file("trust.toml", POLICY), terminal.file("pcrs.json", json.dumps(pcrs))
        terminal.refuses(2, word, "policy", "add", trust, "--from", source)
        assert Path(trust).read_text() == POLICY

    @pytest.mark.parametrize("raw", [b"", b"PCR0", b"\xff\xfe", TWICE, b"[" * 50_000, b" " * 65_537])
    def test_bytes_that_are_no_pcr_file(self, terminal: Terminal, raw: bytes) -> None:
        trust = terminal.file("trust.toml", POLICY)
        terminal.refuses(2, "PCR", "policy", "add", trust, "--from", terminal.file("pcrs.json", raw))

    @pytest.mark.parametrize(
        ("more", "word"),
        [
            (("--label", "old"), "label given twice: old"),
            (("--label", ""), "POLICY_NAME"),
            (("--label", "two\nlines"), "POLICY_NAME"),
            (("--not-before", "tomorrow"), "POLICY_TIME"),
            (("--not-before", "2026-01-01T00:00:00"), "POLICY_TIME"),
            (("--not-before", "2026-01-02T00:00:00Z", "--not-after", "2026-01-01T00:00:00Z"), "POLICY_WINDOW"),
        ],
    )
    def test_options_that_are_wrong(self, terminal: Terminal, more: tuple[str, ...], word: str) -> None:
        trust, source = terminal.file("trust.toml", POLICY), terminal.file("pcrs.json", json.dumps(NITRO))
        terminal.refuses(2, word, "policy", "add", trust, "--from", source, *more)
        assert Path(trust).read_text() == POLICY

    @pytest.mark.parametrize(
        ("trust", "word"),
        [
            ("version = 2", "POLICY_VERSION"),
            ("version = 1\nallow_debug = true", "POLICY_UNKNOWN_KEY"),
            ("version = 1\nmeasurements = []", "POLICY_SYNTAX"),
            (b"\xff", "POLICY_UNREADABLE"),
            (signed(policy_text()), "POLICY_SIGNED"),
        ],
    )
    def test_a_policy_that_is_wrong_is_not_touched(self, terminal: Terminal, trust: str | bytes, word: str) -> None:
        source, path = terminal.file("pcrs.json", json.dumps(NITRO)), terminal.file("trust.toml", trust)
        before = Path(path).read_bytes()
        terminal.refuses(2, word, "policy", "add", path, "--from", source)
        assert Path(path).read_bytes() == before

    def test_a_folder_that_cannot_be_written(self, terminal: Terminal) -> None:
        source = terminal.file("pcrs.json", json.dumps(NITRO))
        terminal.refuses(2, "cannot", "policy", "add", terminal.path("no/trust.toml"), "--from", source)
        terminal.refuses(2, "cannot", "policy", "add", f"{source}/trust.toml", "--from", source)


class TestShow:
    def test_a_person_reads_what_is_accepted_now(self, terminal: Terminal) -> None:
        now = datetime.now(UTC)
        text = policy_text(7, extra=f'[[publishers]]\nname = "team"\npublic_key = "{SIGNER.verifying_key.raw.hex()}"')
        text += f"not_before = {(now + timedelta(hours=1)).isoformat()}"
        shown = terminal.says("policy", "show", terminal.file("trust.toml", text))
        for words in (
            "production, serial 7",
            "AWS Nitro",
            "build a: NOT YET accepted from",
            "publisher  team: ",
            "any that an accepted build attests",
            "whose account the enclave runs in is not proven",
        ):
            assert words in shown

    def test_json_carries_the_same(self, terminal: Terminal) -> None:
        shown = json.loads(terminal.says("policy", "show", terminal.file("trust.toml", POLICY), "--json"))
        assert shown["measurements"][0]["label"] == "old"
        assert shown["measurements"][0]["accepted_now"] is True
        assert shown["models"] == [{"model_id": "all-MiniLM-L6-v2", "min_version": 1, "manifest_sha256": None}]
        assert shown["digest"] == TrustPolicy.parse(POLICY).digest.hex()

    def test_a_file_that_is_no_policy(self, terminal: Terminal) -> None:
        terminal.refuses(2, "FILE_UNREADABLE", "policy", "show", terminal.path("none"))
        terminal.refuses(2, "POLICY_EMPTY", "policy", "show", terminal.file("a", "version = 1"))
        terminal.refuses(2, "POLICY_SIGNED", "policy", "show", terminal.file("b", signed(policy_text())))


class TestKeys:
    def test_a_new_key_is_for_its_owner_alone_and_signs(self, terminal: Terminal) -> None:
        mask = os.umask(0)
        try:
            public = terminal.says("keys", "new", "--out", terminal.path("key.pem")).split()[-1]
        finally:
            os.umask(mask)
        assert (terminal.folder / "key.pem").stat().st_mode & 0o777 == 0o600
        trust = terminal.file("trust.toml", policy_text())
        terminal.says("policy", "sign", trust, "--key", terminal.path("key.pem"), "--out", terminal.path("signed"))
        assert "VERIFIED" in terminal.says("policy", "verify", terminal.path("signed"), "--signer", public)

    def test_a_key_is_never_overwritten(self, terminal: Terminal) -> None:
        path = terminal.file("key.pem", "precious", 0o600)
        terminal.refuses(2, "File exists", "keys", "new", "--out", path)
        assert Path(path).read_text() == "precious"
        terminal.refuses(2, "FILE_UNWRITABLE", "keys", "new", "--out", terminal.path("no/key.pem"))


def pem(key: Ed25519PrivateKey, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


EC_PEM = generate_private_key(SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
SEED = b"policy signer".ljust(32)


class TestSignAndVerify:
    def make(self, terminal: Terminal, text: str, out: str = "signed") -> str:
        key = terminal.file("seed", SEED.hex() + "\n", 0o600)
        terminal.says("policy", "sign", terminal.file("trust.toml", text), "-k", key, "-o", terminal.path(out))
        return terminal.path(out)

    @property
    def signer(self) -> tuple[str, str]:
        return "--signer", SIGNER.verifying_key.raw.hex()

    def test_a_seed_and_its_pem_make_the_same_signature(self, terminal: Terminal) -> None:
        text = policy_text()
        by_seed = Path(self.make(terminal, text)).read_bytes()
        key = terminal.file("pem", pem(Ed25519PrivateKey.from_private_bytes(SEED)), 0o600)
        trust, out = terminal.file("trust.toml", text), terminal.path("other")
        terminal.says("policy", "sign", trust, "--key", key, "--out", out)
        assert Path(out).read_bytes() == by_seed

    def test_without_state_a_rollback_is_skipped_and_said_to_be(self, terminal: Terminal) -> None:
        shown = terminal.says("policy", "verify", self.make(terminal, policy_text()), *self.signer)
        assert "SKIP  POL-04  rollback: not checked" in shown
        assert shown.count("PASS") == 3

    def test_json_says_what_was_skipped(self, terminal: Terminal) -> None:
        shown = json.loads(
            terminal.says("policy", "verify", self.make(terminal, policy_text(3)), *self.signer, "--json")
        )
        assert [check["verdict"] for check in shown["checks"]] == ["PASS", "PASS", "PASS", "SKIP"]
        assert shown["policy"]["serial"] == 3

    def test_the_verified_text_is_written_as_it_was_signed(self, terminal: Terminal) -> None:
        text, out = policy_text(3), terminal.path("out.toml")
        terminal.says("policy", "verify", self.make(terminal, text), *self.signer, "--out", out)
        assert Path(out).read_text() == text

    def test_state_refuses_what_came_before(self, terminal: Terminal) -> None:
        expires = datetime(2999, 1, 1, tzinfo=UTC)
        state = ("--state", terminal.path("state"))
        files = {serial: self.make(terminal, policy_text(serial, expires=expires), f"signed {serial}")
                 for serial in (1, 2)}  # fmt: skip
        changed = self.make(terminal, policy_text(2, expires=expires, extra="# x"), "changed")
        staging = self.make(terminal, policy_text(3, name="staging", expires=expires), "staging")
        assert "PASS  POL-04" in terminal.says("policy", "verify", files[2], *self.signer, *state)
        terminal.says("policy", "verify", files[2], *self.signer, *state)
        terminal.refuses(1, "POLICY_ROLLBACK", "policy", "verify", files[1], *self.signer, *state)
        terminal.refuses(1, "POLICY_EQUIVOCATION", "policy", "verify", changed, *self.signer, *state)
        terminal.refuses(1, "POLICY_OTHER_NAME", "policy", "verify", staging, *self.signer, *state)
        terminal.says("policy", "verify", staging, *self.signer, *state, "--name", "staging")
        Path(terminal.path("state")).write_text("")
        terminal.refuses(2, "delete the file", "policy", "verify", files[2], *self.signer, *state)

    def test_verdicts_and_mistakes_have_different_exit_codes(self, terminal: Terminal) -> None:
        expired = signed(
            policy_text(expires=datetime.now(UTC) - timedelta(hours=1)), at=datetime.now(UTC) - timedelta(hours=2)
        )
        good = self.make(terminal, policy_text())
        other = "--signer", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        terminal.refuses(1, "POLICY_FORGED", "policy", "verify", good, *other)
        terminal.refuses(1, "POLICY_EXPIRED", "policy", "verify", terminal.file("old", expired), *self.signer)
        terminal.refuses(1, "POLICY_OTHER_NAME", "policy", "verify", good, *self.signer, "--name", "staging")
        terminal.refuses(2, "POLICY_MALFORMED", "policy", "verify", terminal.file("toml", POLICY), *self.signer)
        for key, word in (("00" * 32, "low order"), ("ab", "32 bytes"), ("zz" * 32, "64 hex"), ("", "32 bytes")):
            terminal.refuses(2, word, "policy", "verify", good, "--signer", key)

    @pytest.mark.parametrize(
        ("content", "mode", "word"),
        [
            (SEED.hex(), 0o640, "KEY_FILE_MODE"),
            (SEED.hex(), 0o604, "KEY_FILE_MODE"),
            (SEED.hex(), 0o620, "KEY_FILE_MODE"),
            ("", 0o600, "KEY_FILE"),
            (SEED.hex()[:-2], 0o600, "KEY_FILE"),
            (SEED, 0o600, "KEY_FILE"),
            (b"\xff" * 32, 0o600, "KEY_FILE"),
            (SEED.hex() * 100, 0o600, "KEY_FILE"),
            (pem(Ed25519PrivateKey.from_private_bytes(SEED), b"secret"), 0o600, "encrypted"),
            (EC_PEM, 0o600, "another algorithm"),
            (pem(Ed25519PrivateKey.from_private_bytes(SEED))[:60], 0o600, "PEM"),
        ],
    )
    def test_a_key_file_that_will_not_do(self, terminal: Terminal, content: str | bytes, mode: int, word: str) -> None:
        key, trust, out = terminal.file("key", content, mode), terminal.file("t", policy_text()), terminal.path("out")
        said = terminal.refuses(2, word, "policy", "sign", trust, "--key", key, "--out", out)
        assert SEED.hex()[:16] not in said
        assert not Path(out).exists()

    def test_a_key_that_is_no_file(self, terminal: Terminal) -> None:
        os.mkfifo(terminal.path("fifo"), 0o600)
        trust, out = terminal.file("t", policy_text()), terminal.path("out")
        for key in (terminal.path("none"), str(terminal.folder), terminal.path("fifo")):
            terminal.refuses(
                2, "KEY" if key.endswith("fifo") else "FILE", "policy", "sign", trust, "-k", key, "-o", out
            )

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            (POLICY, "POLICY_UNVERSIONED"),
            ("version = 1", "POLICY_EMPTY"),
            (b"\xff", "POLICY_UNREADABLE"),
            (signed(policy_text()), "POLICY_SIGNED"),
        ],
    )
    def test_what_must_not_be_signed(self, terminal: Terminal, text: str | bytes, word: str) -> None:
        key, trust = terminal.file("seed", SEED.hex(), 0o600), terminal.file("t", text)
        terminal.refuses(2, word, "policy", "sign", trust, "-k", key, "-o", terminal.path("out"))

    def test_a_signer_does_not_put_an_older_policy_over_a_newer_one(self, terminal: Terminal) -> None:
        out = self.make(terminal, policy_text(5))
        key, before = terminal.file("seed", SEED.hex(), 0o600), Path(out).read_bytes()
        for text, word in ((policy_text(4), "POLICY_ROLLBACK"), (policy_text(5, pcr="b"), "POLICY_EQUIVOCATION")):
            terminal.refuses(1, word, "policy", "sign", terminal.file("t", text), "-k", key, "-o", out)
            assert Path(out).read_bytes() == before
        self.make(terminal, policy_text(6))
        self.make(terminal, policy_text(1, name="another"))
        terminal.file("signed", "whatever else was there")
        self.make(terminal, policy_text(1))

    def test_help_of_every_command(self, terminal: Terminal) -> None:
        for command in (["policy"], ["policy", "show"], ["policy", "add"], ["policy", "sign"], ["policy", "verify"],
                        ["keys"], ["keys", "new"]):  # fmt: skip
            assert "Usage: ephemeralml" in terminal.says(*command, "--help")
