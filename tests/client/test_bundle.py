"""A bundle closes the whole chain or names the check that broke: damage, swapped parts, lies, other policies."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest

from ephemeral.errors import EphemeralError, EvidenceError
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import key_id, sign_manifest
from ephemeral.trusted.policy import AcceptedModel, TrustPolicy
from ephemeralml.bundle import MAX_BUNDLE_BYTES, Bundle
from ephemeralml.chain import verify_bundle
from ephemeralml.explain import CHECKS
from ephemeralml.report import Outcome, Report, Verdict, report_of
from tests.support.kept_evidence import MANIFEST, MESSAGES, PUBLISHER, KeptEvidence, mint

KEPT = KeptEvidence()
GOOD = KEPT.bundle()
RAW = GOOD.encode()


def refused(raw: bytes, policy: TrustPolicy = KEPT.policy, **options: Any) -> Report:
    with pytest.raises(EphemeralError) as caught:
        verify_bundle(raw, policy, **options)
    report = report_of(caught.value)
    assert report is not None
    assert report.outcome is Outcome.REFUSED
    assert report.having(Verdict.FAIL)
    assert all(check.id in CHECKS and check.fix for check in report.having(Verdict.FAIL))
    return report


def failed(raw: bytes, policy: TrustPolicy = KEPT.policy, **options: Any) -> tuple[str, str]:
    (check,) = refused(raw, policy, **options).having(Verdict.FAIL)
    return check.id, check.code


def resealed(change: Callable[[dict[Any, Any]], object]) -> bytes:
    """Return the good bundle with its fields changed, its checksum made anew: what an attacker would write."""
    values = cbor2.loads(RAW)
    change(values)
    del values[9]
    return encode({**values, 9: hashlib.sha256(encode(values)).digest()})


def test_sound_bundle_closes_the_whole_chain() -> None:
    verified = verify_bundle(RAW, KEPT.policy)
    report = verified.report
    assert report.outcome is Outcome.VERIFIED
    passed = {check.id for check in report.having(Verdict.PASS)}
    assert {"ATT-04", "ATT-07", "ATT-10", "receipt.signature", "manifest.signature", "manifest.digest"} <= passed
    assert {"document.models", "build.digest", "build.policy", "policy.digest", "bundle.digest"} <= passed
    assert [check.id for check in report.having(Verdict.SKIP)] == [
        "ATT-08", "receipt.request_hash", "receipt.response_hash", "policy.model",
    ]  # fmt: skip


def test_bundle_names_every_file_that_ran_with_its_hash() -> None:
    facts = verify_bundle(RAW, KEPT.policy).report.facts
    for file in MANIFEST.files:
        assert file.sha256.hex() in facts[f"file {file.name}"]


def test_plaintext_is_in_the_bundle_only_when_asked_for() -> None:
    assert MESSAGES.request not in RAW
    raw = KEPT.bundle(plaintext=True).encode()
    passed = {check.id for check in verify_bundle(raw, KEPT.policy).report.having(Verdict.PASS)}
    assert {"receipt.request_hash", "receipt.response_hash"} <= passed


def test_plaintext_of_another_answer_is_refused() -> None:
    for name, code in (("request", "REQUEST_HASH_MISMATCH"), ("result", "RESPONSE_HASH_MISMATCH")):
        raw = KEPT.bundle(messages=replace(MESSAGES, **{name: b"other"})).encode()
        assert failed(raw) == (f"receipt.{'request' if name == 'request' else 'response'}_hash", code)


def test_plaintext_stays_out_of_logs() -> None:
    assert "exact" not in repr(KEPT.bundle(plaintext=True))


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_every_flipped_byte_of_a_bundle_is_refused_with_a_named_check(bit: int) -> None:
    for place in range(len(RAW)):
        check, _ = failed(RAW[:place] + bytes([RAW[place] ^ bit]) + RAW[place + 1 :])
        assert check in ("bundle.form", "bundle.digest")


def test_every_cut_bundle_is_refused() -> None:
    for end in range(0, len(RAW), 61):
        assert failed(RAW[:end])[0] == "bundle.form"
    assert failed(RAW + b"\0")[0] == "bundle.form"


@pytest.mark.parametrize(("key", "step"), [(1, 23), (2, 5), (3, 5), (4, 1), (5, 1)])
def test_flips_are_refused_by_the_parts_themselves_when_the_checksum_is_made_anew(key: int, step: int) -> None:
    part = cbor2.loads(RAW)[key]
    size = len(part[0][2] if key == 4 else part)
    for place in range(0, size, step):

        def flip(values: dict[Any, Any], place: int = place) -> None:
            old = values[key][0][2] if key == 4 else values[key]
            new = old[:place] + bytes([old[place] ^ 1]) + old[place + 1 :]
            values[key] = [[*values[key][0][:2], new]] if key == 4 else new

        check, _ = failed_first(resealed(flip))
        assert check not in ("bundle.form", "bundle.digest")


def failed_first(raw: bytes) -> tuple[str, str]:
    check = refused(raw).having(Verdict.FAIL)[0]
    return check.id, check.code


def stated_build(place: int, value: object) -> Callable[[dict[Any, Any]], object]:
    return lambda values: values[6][3].__setitem__(place, value)


@pytest.mark.parametrize(
    ("change", "check", "code"),
    [
        (stated_build(0, "0.1.1"), "build.digest", "BUNDLE_BUILD"),
        (stated_build(1, "9.9"), "build.digest", "BUNDLE_BUILD"),
        (stated_build(2, bytes(32)), "build.digest", "BUNDLE_BUILD"),
        (stated_build(3, bytes(32)), "build.digest", "BUNDLE_BUILD"),
        (lambda values: values.__setitem__(5, bytes(32)), "policy.digest", "BUNDLE_POLICY"),
        (lambda values: values[4].append(["x", 1, bytes(32)]), "document.models", "BUNDLE_MODEL_SET"),
        (lambda values: values[6].__setitem__(2, 2), "bundle.form", "BUNDLE_VERSION"),
        (lambda values: values[6].update({2: True}), "bundle.form", "BUNDLE_VERSION"),
        (lambda values: values[6].__setitem__(4, 0), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values[6].__setitem__(1, ""), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values[6].__setitem__(1, "\x1b[31m"), "bundle.form", "BUNDLE_MALFORMED"),
        (stated_build(2, b""), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values[6][3].append(b""), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values.__setitem__(0, "ephemeralml/bundle/v2"), "bundle.form", "BUNDLE_VERSION"),
        (lambda values: values.__setitem__(10, 0), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values.__setitem__("1", 0), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values.__setitem__(7, b"request alone"), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values.__delitem__(3), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values.__setitem__(4, []), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values.__setitem__(4, [["m", 1]]), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values.__setitem__(4, [["m", True, bytes(32)]]), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values.__setitem__(2, "text"), "bundle.form", "BUNDLE_MALFORMED"),
        (lambda values: values.__setitem__(2, bytes(65_537)), "bundle.form", "BUNDLE_MALFORMED"),
    ],
)
def test_part_that_lies_is_refused_by_its_own_check(
    change: Callable[[dict[Any, Any]], object], check: str, code: str
) -> None:
    assert failed(resealed(change)) == (check, code)


def test_file_that_is_no_bundle_is_refused() -> None:
    for raw in (b"", b"junk", b"\xa0", encode([1]), b"\xff" * 100, bytes(MAX_BUNDLE_BYTES + 1)):
        assert failed(raw)[0] == "bundle.form"


def test_true_is_no_field_number() -> None:
    # {true: ...} in place of {1: ...}: equal as keys in Python, other bytes.
    assert failed(b"\xa1\xf5\x00") == ("bundle.form", "BUNDLE_MALFORMED")


def test_manifest_of_another_model_is_refused() -> None:
    other = sign_manifest(replace(MANIFEST, version=4), PUBLISHER)
    assert failed(KEPT.bundle(manifest=other).encode()) == ("manifest.digest", "BUNDLE_MANIFEST")


def test_receipt_that_names_another_version_than_its_manifest_is_refused() -> None:
    kept = KeptEvidence(claims={"model_version": "4"})
    assert failed(kept.bundle().encode()) == ("manifest.digest", "BUNDLE_MANIFEST")


def test_manifest_of_an_unknown_publisher_is_refused() -> None:
    stranger = SigningKey.from_seed(b"stranger".ljust(32, b"\0"))
    manifest = sign_manifest(replace(MANIFEST, publisher_key_id=key_id(stranger.verifying_key)), stranger)
    kept = KeptEvidence(manifest=manifest)
    assert failed(kept.bundle().encode()) == ("manifest.publisher", "MANIFEST_UNKNOWN_PUBLISHER")


def test_policy_without_publishers_skips_the_signature_by_name() -> None:
    policy = mint().policy
    report = verify_bundle(KEPT.bundle(policy_digest=policy.digest).encode(), policy).report
    assert {"manifest.publisher", "manifest.signature"} <= {check.id for check in report.having(Verdict.SKIP)}
    assert "manifest.signature" in report.summary
    assert any("publisher" in sentence for sentence in report.not_proven)


def test_receipt_of_another_session_is_refused() -> None:
    other = KeptEvidence(document_claims={"module_id": "i-other"}).bundle()
    assert failed(KEPT.bundle(receipt=other.receipt).encode()) == (
        "receipt.attestation_doc_hash",
        "ATTESTATION_DOC_HASH_MISMATCH",
    )


def test_receipt_that_names_another_configuration_than_the_attested_build_is_refused() -> None:
    kept = KeptEvidence(claims={"policy_version": "enclave-config sha256:00"})
    assert failed(kept.bundle().encode()) == ("build.policy", "BUNDLE_BUILD")


def test_build_that_the_policy_does_not_accept_is_refused() -> None:
    kept = KeptEvidence(document_claims={"pcrs": {0: b"\x77" * 48, 1: b"\x77" * 48, 2: b"\x77" * 48}})
    assert failed(kept.bundle().encode()) == ("ATT-07", "MEASUREMENT_MISMATCH")


def test_model_that_the_policy_does_not_accept_is_refused() -> None:
    policy = replace(KEPT.policy, models=(AcceptedModel(MANIFEST.model_id, min_version=4),))
    assert failed(RAW, policy) == ("policy.model", "MODEL_ROLLBACK")


def test_other_policy_is_refused_unless_asked_for_and_then_named_as_a_skip() -> None:
    policy = replace(KEPT.policy, models=(AcceptedModel(MANIFEST.model_id),))
    assert failed(RAW, policy) == ("policy.digest", "BUNDLE_POLICY")
    report = verify_bundle(RAW, policy, other_policy=True).report
    (check,) = (check for check in report.checks if check.id == "policy.digest")
    assert (check.verdict, check.required) == (Verdict.SKIP, False)
    assert "policy.digest" in report.summary


def test_failure_shows_what_passed_before_and_what_was_not_reached() -> None:
    report = refused(KEPT.bundle(receipt=b"\xd2\x84").encode())
    verdicts = {check.id: check.verdict for check in report.checks}
    assert verdicts["ATT-10"] is Verdict.PASS
    assert verdicts["receipt.form"] is Verdict.FAIL
    assert verdicts["manifest.form"] is Verdict.SKIP
    assert verdicts["policy.digest"] is Verdict.SKIP


def test_bundle_that_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(ValueError, match="bytes"):
        replace(GOOD, policy_digest=b"short").encode()
    with pytest.raises(EvidenceError):
        Bundle.parse(b"")
