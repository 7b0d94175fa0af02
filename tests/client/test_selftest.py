"""``ephemeralml selftest``: passes on sound verifiers, and on no others."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from ephemeralml.selftest import FAMILIES, Case, Expected, Summary, load, run_case

SELFTEST = "from ephemeralml.cli import run; sys.exit(run(['selftest', *sys.argv[1:]]))"


def selftest(*options: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, after the statements in `before`."""
    command = [sys.executable, "-c", f"import sys\n{before}\n{SELFTEST}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr + done.stdout
    return done


# --- a sound installation


@pytest.fixture(scope="module")
def whole() -> subprocess.CompletedProcess[str]:
    return selftest()


def test_each_refusal_is_shown_on_a_line_with_its_code_and_reason(whole: subprocess.CompletedProcess[str]) -> None:
    assert (whole.returncode, whole.stderr) == (0, "")
    *lines, _ = whole.stdout.splitlines()
    cases = [case for family in FAMILIES for case in load(family)]
    assert len(lines) == len(cases)
    for line, case in zip(lines, cases, strict=True):
        verdict = ["REFUSED", case.expected.code] if case.expected else ["ACCEPTED"]
        assert line.split()[: len(verdict)] == verdict
        assert line.endswith(f"{case.family}/{case.name} — {case.says}")


def test_the_last_line_counts(whole: subprocess.CompletedProcess[str]) -> None:
    cases = [case for family in FAMILIES for case in load(family)]
    refusals = sum(case.expected is not None for case in cases)
    controls = len(cases) - refusals
    assert whole.stdout.splitlines()[-1] == (
        f"{refusals} cases: {refusals} refused as they must be, 0 accepted wrongly; "
        f"{controls} of {controls} controls accepted"
    )


def test_json_carries_the_same() -> None:
    done = selftest("--json", "--family", "cms")
    verdict = json.loads(done.stdout)
    assert (done.returncode, done.stderr, verdict["verdict"]) == (0, "", "PASSED")
    assert verdict["cases"] == verdict["refused"] == sum(row["verdict"] == "REFUSED" for row in verdict["outcomes"])
    assert (verdict["accepted_wrongly"], verdict["refused_otherwise"]) == (0, 0)
    assert all(row["as_expected"] and row["code"] == row["expected"] for row in verdict["outcomes"])


def test_a_family_can_be_run_alone_and_several_together() -> None:
    shown = selftest("--family", "frames", "--family", "containers").stdout.splitlines()[:-1]
    assert {line.partition("/")[0].split()[-1] for line in shown} == {"frames", "containers"}


def test_help_says_what_a_pass_means() -> None:
    done = selftest("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Exit code 0" in done.stdout


def test_a_family_that_is_none_is_a_usage_error() -> None:
    assert selftest("--family", "nothing").returncode == 2


# --- an installation that is not sound

WEAKENED = {
    "documents": ("ephemeral.trusted.policy:TrustPolicy.match", "lambda self, *_: self.measurements[0]"),
    "chains": ("ephemeral.trusted.attestation.chain:_check_validity", "lambda *_: None"),
    "recipients": ("ephemeral.trusted.attestation:KmsBinding.parse", "lambda _: KmsBinding(bytes(32))"),
    "receipts": ("ephemeral.trusted.ed25519:VerifyingKey.verify", "lambda *_: None"),
    "manifests": ("ephemeral.trusted.ed25519:VerifyingKey.verify", "lambda *_: None"),
    "cms": ("ephemeral.trusted.cms.recipient:compare_digest", "lambda *_: True"),
    "frames": ("ephemeral.trusted.channel:ReplayWindow.check", "lambda *_: None"),
    "containers": ("ephemeral.trusted.artifact.opener:compare_digest", "lambda *_: True"),
    "policies": ("ephemeral.trusted.policy:RootOfTrust.__post_init__", "lambda _: None"),
    "signed-policies": ("ephemeral.trusted.ed25519:VerifyingKey.verify", "lambda *_: None"),
}


def without(check: str, replacement: str) -> str:
    """Return the statements that replace one check."""
    module, _, path = check.partition(":")
    owner, _, _ = path.rpartition(".")
    place = f"module.{path}"
    imported = f"import importlib; module = importlib.import_module({module!r})\n"
    bound = f"{owner} = module.{owner}\n" if owner else ""
    return f"{imported}{bound}assert callable({place})\n{place} = {replacement}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_verifier_without_one_of_its_checks_fails(family: str) -> None:
    done = selftest("--family", family, before=without(*WEAKENED[family]))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG" in done.stdout
    assert "ACCEPTED, must be REFUSED" in done.stdout
    assert ", 0 accepted wrongly" not in done.stdout.splitlines()[-1]
    assert "do not refuse what they must" in done.stderr


def test_a_verifier_that_refuses_everything_fails() -> None:
    refuse = "def refuse(*_, **__): raise ForgedRelease('no')"
    before = without("ephemeral.trusted.cms:RecipientKey.open", "refuse")
    done = selftest("--family", "cms", before=f"from ephemeral.errors import ForgedRelease\n{refuse}\n{before}")
    assert done.returncode == 1
    assert "REFUSED ForgedRelease FORGED_RELEASE, must be ACCEPTED" in done.stdout


def test_a_verifier_that_crashes_fails_its_cases_and_not_the_run() -> None:
    done = selftest("--family", "cms", before=without("ephemeral.trusted.cms:RecipientKey.open", "lambda *_: {}[0]"))
    assert done.returncode == 1
    assert "REFUSED KeyError CRASHED, must be REFUSED ForgedRelease FORGED_RELEASE" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("controls accepted")


def test_another_code_than_the_expected_one_fails() -> None:
    change = (
        "from dataclasses import replace; from ephemeralml.cli import selftest as module\n"
        "import importlib; module = importlib.import_module('ephemeralml.cli.selftest')\n"
        "from ephemeralml.selftest import Expected, load\n"
        "def altered(family):\n"
        "    first, *rest = load(family)\n"
        "    return [replace(first, expected=Expected(first.expected.error, 'ANOTHER_CODE')), *rest]\n"
        "module.load = altered"
    )
    done = selftest("--family", "manifests", before=change)
    assert done.returncode == 1
    assert "must be REFUSED ManifestError ANOTHER_CODE" in done.stdout
    assert "1 refused for another reason" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "expected", [Expected("ManifestError", "MANIFEST_FORGED"), Expected("ReceiptError", "X"), None]
)
def test_only_the_exact_error_with_the_exact_code_is_as_expected(expected: Expected | None) -> None:
    case = refused("manifests", "MANIFEST_MALFORMED")
    assert run_case(case).as_expected
    assert not run_case(replace(case, expected=expected)).as_expected


def test_a_run_without_refusals_or_without_controls_is_no_pass() -> None:
    outcomes = [run_case(case) for case in load("cms")]
    assert Summary.of(outcomes).passed
    assert not Summary.of([]).passed
    assert not Summary.of([outcome for outcome in outcomes if outcome.case.expected]).passed
    assert not Summary.of([outcome for outcome in outcomes if not outcome.case.expected]).passed


@pytest.mark.parametrize(
    "read",
    [
        "lambda name: old(name).replace(b'FORGED_RELEASE', b'FORGED_RELEASX')",
        "lambda name: old(name)[:-1]",
        "lambda name: b''",
        "lambda name: b'[]'",
        "lambda name: open('/nonexistent/pack')",
    ],
)
def test_a_pack_that_was_altered_or_shortened_does_not_run(read: str) -> None:
    change = f"from ephemeralml.selftest import pack; old = pack._read; pack._read = {read}"
    done = selftest("--family", "cms", before=change)
    assert done.returncode == 2
    assert "SELFTEST_DATA" in done.stderr
    assert done.stdout == ""


def refused(family: str, code: str) -> Case:
    return next(case for case in load(family) if case.expected and case.expected.code == code)
