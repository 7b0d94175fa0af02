"""A report says no more than was checked: skips are no passes, and every check and code has its words."""

import ast
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ephemeral import errors
from ephemeral.errors import AttestationError, EphemeralError, EvidenceError, ManifestError, ReceiptError, SessionError
from ephemeral.trusted.attestation.steps import Check as AttestationCheck
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.receipt import EnclaveMeasurements, ReceiptClaims, ReceiptExpectations, verify_receipt
from ephemeral.verification import VerificationStep
from ephemeralml.examination import Examination
from ephemeralml.explain import CHECKS
from ephemeralml.fixes import explained, fix_of
from ephemeralml.offline import audit_receipt
from ephemeralml.report import Check, Outcome, Report, Verdict, report_of
from tests.support.kept_evidence import MESSAGES, RECEIPT_SIGNER, KeptEvidence, receipt_with_mode
from tests.support.minting import AT, NONCE, PCR0, PCR1, PCR2

ROOT = Path(__file__).parents[2]
TRUSTED = ROOT / "ephemeral" / "trusted"
EXPLAINED_TREES = (AttestationError, EvidenceError, ManifestError, ReceiptError)
# Read by people in the text of a PolicyError, which says how to mend it; but an expired policy is a verdict.
POLICY_CODES = ("POLICY_",)


def check(name: str, verdict: Verdict, *, required: bool = True) -> Check:
    return Check(name, verdict, "title", "compared", "why.", required=required)


def report(*checks: Check) -> Report:
    return Report("thing", checks, {})


class TestVerdicts:
    def test_required_skip_is_never_a_pass(self) -> None:
        whole = report(check("a", Verdict.PASS), check("b", Verdict.SKIP))
        assert whole.outcome is Outcome.INCOMPLETE
        with pytest.raises(EvidenceError) as caught:
            whole.require()
        assert caught.value.code == "INCOMPLETE"
        assert report_of(caught.value) is whole

    def test_optional_skip_is_named_in_the_summary(self) -> None:
        whole = report(check("a", Verdict.PASS), check("b.optional", Verdict.SKIP, required=False))
        assert whole.outcome is Outcome.VERIFIED
        assert "skipped: b.optional" in whole.summary
        assert whole.required == ("a",)

    def test_optional_check_that_fails_is_a_refusal(self) -> None:
        assert report(check("a", Verdict.FAIL, required=False)).outcome is Outcome.REFUSED

    def test_nothing_checked_is_not_verified(self) -> None:
        assert report().outcome is Outcome.INCOMPLETE

    def test_failure_is_a_refusal_whatever_passed(self) -> None:
        assert report(check("a", Verdict.PASS), check("b", Verdict.FAIL)).outcome is Outcome.REFUSED

    def test_nothing_is_called_proven_unless_verified(self) -> None:
        unproven = Report("thing", (check("a", Verdict.SKIP),), {}, proven=("it all",))
        assert unproven.as_json()["proven"] == []


class TestExamination:
    def test_check_that_was_forgotten_is_a_required_skip(self) -> None:
        exam = Examination("thing", ("ATT-01", "ATT-02"))
        exam.passed("ATT-01", "x")
        with pytest.raises(EvidenceError) as caught:
            exam.finish()
        whole = report_of(caught.value)
        assert whole is not None
        assert [item.verdict for item in whole.checks] == [Verdict.PASS, Verdict.SKIP]

    def test_error_is_the_first_open_check_and_the_rest_was_not_reached(self) -> None:
        exam = Examination("thing", ("ATT-01", "ATT-02", "ATT-03"))
        error = AttestationError("bad", code="ROOT_NOT_PINNED")
        error.steps = (VerificationStep("ATT-01", "t", "d"),)
        with pytest.raises(AttestationError), exam.running():
            raise error
        whole = report_of(error)
        assert whole is not None
        assert [item.verdict for item in whole.checks] == [Verdict.PASS, Verdict.FAIL, Verdict.SKIP]
        assert "not reached" in whole.checks[2].compared

    def test_infrastructure_that_fails_is_no_verdict(self) -> None:
        error = errors.Unavailable("nothing answers")
        with pytest.raises(errors.Unavailable), Examination("thing", ("ATT-01",)).running():
            raise error
        assert report_of(error) is None

    def test_every_failure_of_a_receipts_layer_has_its_line(self) -> None:
        kept = KeptEvidence(claims={"eat_nonce": b"12345678"})
        raw = kept.bundle().receipt
        with pytest.raises(ReceiptError) as caught:
            audit_receipt(raw, RECEIPT_SIGNER.verifying_key, nonce=NONCE)
        whole = report_of(caught.value)
        assert whole is not None
        assert [item.id for item in whole.having(Verdict.FAIL)] == ["receipt.security_mode", "receipt.eat_nonce"]


class TestPreFreeze:
    @pytest.mark.parametrize("mode", ["GatewayOnly", "ShieldMode"])
    def test_receipt_of_before_the_freeze_is_named_and_refused(self, mode: str) -> None:
        raw = receipt_with_mode(mode)
        with pytest.raises(ReceiptError) as caught:
            audit_receipt(raw, RECEIPT_SIGNER.verifying_key)
        whole = report_of(caught.value)
        assert whole is not None
        assert whole.outcome is Outcome.PRE_FREEZE
        assert whole.summary.startswith("pre-freeze: signature valid, profile not conforming")
        assert {item.id for item in whole.having(Verdict.PASS)} == {"receipt.form", "receipt.signature"}

    def test_receipt_of_before_the_freeze_by_another_key_is_plainly_refused(self) -> None:
        raw = receipt_with_mode("GatewayOnly")
        with pytest.raises(ReceiptError) as caught:
            audit_receipt(raw, SigningKey.generate().verifying_key)
        whole = report_of(caught.value)
        assert whole is not None
        assert whole.outcome is Outcome.REFUSED

    def test_any_other_unknown_mode_is_plainly_refused(self) -> None:
        raw = receipt_with_mode("Gateway")
        with pytest.raises(ReceiptError) as caught:
            audit_receipt(raw, RECEIPT_SIGNER.verifying_key)
        whole = report_of(caught.value)
        assert whole is not None
        assert whole.outcome is Outcome.REFUSED


class TestWords:
    def test_every_check_of_documents_has_words(self) -> None:
        assert {member.value[0] for member in AttestationCheck} <= set(CHECKS)

    def test_every_check_of_receipts_has_words(self) -> None:
        kept = KeptEvidence()
        bundle = kept.bundle()
        expected = ReceiptExpectations(
            model_id="all-MiniLM-L6-v2",
            model_hash=kept.manifest_digest,
            request_hash=None,
            measurements=EnclaveMeasurements(PCR0, PCR1, PCR2),
            nonce=NONCE,
            sequence_number=1,
            security_mode="evaluation",
            platform="nitro-pcr",
            max_age=timedelta(days=1),
            seen_cti=set(),
            accept_evaluation=True,
        )
        verified = verify_receipt(bundle.receipt, RECEIPT_SIGNER.verifying_key, expected, now=AT)
        claims = {f"receipt.{name.name}" for name in fields(ReceiptExpectations)} & {
            f"receipt.{name.name}" for name in fields(ReceiptClaims)
        }
        assert {step.id for step in verified.steps} | claims <= set(CHECKS)

    def test_every_step_named_in_the_trusted_code_has_words(self) -> None:
        named = {text for path in TRUSTED.rglob("*.py") for text in step_ids(path)}
        assert {"manifest.form", "receipt.form", "session.hello"} <= named
        assert named - set(CHECKS) == set()

    def test_every_code_of_evidence_has_words(self) -> None:
        codes = {code for tree in EXPLAINED_TREES for kind in classes(tree) for code in [kind.default_code]}
        folders = ("ephemeral/trusted", "clients/python/ephemeralml", "services/enclave")
        for folder in folders:
            for path in (ROOT / folder).rglob("*.py"):
                codes |= set(raised_codes(path))
        for path in (TRUSTED / "receipt").glob("*.py"):
            codes |= set(upper_strings(path))
        assert {"WRONG_TYPE:", "FORGED_DOCUMENT", "KEY_REJECTED", "REPLAY_CTI", "MANIFEST_FORGED"} <= codes
        assert sorted(code for code in codes if not explained(code) and not code.startswith(POLICY_CODES)) == []

    def test_words_are_sentences_for_a_person(self) -> None:
        for text in CHECKS.values():
            assert text.why.endswith(".")
            assert not text.get_checked or text.get_checked.endswith(".")
        assert fix_of("WRONG_TYPE:iat") == fix_of("WRONG_TYPE:cti")
        assert fix_of("NEVER_HEARD_OF").endswith(".")


def classes(kind: type[EphemeralError]) -> Iterator[type[EphemeralError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from classes(child)


def upper_strings(path: Path) -> Iterator[str]:
    """Every literal that looks like a code: UPPER_SNAKE, perhaps with a claim after a colon."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            head, colon, _ = node.value.partition(":")
            if "_" in head and head.isupper() and head.replace("_", "").isalnum():
                yield head + colon


def raised_codes(path: Path) -> Iterator[str]:
    """Every code given to an error of the explained trees, and what `_refuse(…, code)` is told."""
    names = {kind.__name__ for tree in EXPLAINED_TREES for kind in classes(tree)} | {"_refuse", "Examination"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names:
            given = [*node.args[1:], *(keyword.value for keyword in node.keywords if keyword.arg == "code")]
            yield from (arg.value for arg in given if isinstance(arg, ast.Constant) and is_code(arg.value))


def is_code(value: object) -> bool:
    return isinstance(value, str) and value.isupper()


def step_ids(path: Path) -> Iterator[str]:
    """Every id given to a VerificationStep as a literal."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "VerificationStep":
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def test_session_errors_are_explained_too() -> None:
    for code in ("HELLO_SIGNATURE", "BAD_SERVER_HELLO", "BAD_KEM_KEY", "FRAME_REJECTED"):
        assert explained(code)
    error = SessionError("x", code="BAD_SERVER_HELLO")
    with pytest.raises(SessionError), Examination("live enclave", ("ATT-01", "session.hello")).running():
        raise error
    whole = report_of(error)
    assert whole is not None
    assert [item.id for item in whole.having(Verdict.FAIL)] == ["session.hello"]


def test_plaintext_of_messages_is_never_a_fact() -> None:
    assert MESSAGES.request.decode() not in repr(replace(MESSAGES))
