"""AIR v1 receipts: every code of every layer, and what the reference leaves open."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha512
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ephemeral.errors import ReceiptError
from ephemeral.protocol import MAX_RECEIPT_BYTES
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.cose import encode_sign1, sig_structure
from ephemeral.trusted.ed25519 import SignatureRejected, SigningKey, VerifyingKey
from ephemeral.trusted.receipt import (
    EnclaveMeasurements,
    ReceiptClaims,
    ReceiptExpectations,
    VerifiedReceipt,
    issue_receipt,
    verify_receipt,
)
from ephemeral.trusted.receipt.schema import PROTECTED

Values = dict[Any, Any]
Mutation = Callable[[Values], object]

KEY = SigningKey.from_seed(b"\x2a" * 32)
ISSUED = 1_740_500_000
NOW = datetime.fromtimestamp(ISSUED + 60, UTC)
CLAIMS = ReceiptClaims(
    iss="enclave",
    iat=ISSUED,
    cti=bytes(range(1, 17)),
    model_id="minilm-l6-v2",
    model_version="1",
    model_hash=b"\xaa" * 32,
    request_hash=b"\xbb" * 32,
    response_hash=b"\xcc" * 32,
    attestation_doc_hash=b"\xdd" * 32,
    measurements=EnclaveMeasurements(b"\1" * 48, b"\2" * 48, b"\3" * 48, pcr8=b"\4" * 48),
    policy_version="policy",
    sequence_number=42,
    execution_time_ms=116,
    memory_peak_mb=512,
    security_mode="production",
    eat_nonce=b"\5" * 32,
    model_hash_scheme="sha256-manifest",
)
VALUES: Values = CLAIMS.by_label()


def sealed(payload: object, *, protected: bytes = PROTECTED, unprotected: object = None, tag: int | None = 18) -> bytes:
    """Sign any payload at all; bytes and None are taken as they are, a map is encoded first."""
    body = payload if isinstance(payload, bytes) or payload is None else encode(payload)
    signature = KEY.sign(sig_structure(protected, body or b""))
    envelope = [protected, unprotected or {}, body, signature]
    return cbor2.dumps(envelope if tag is None else cbor2.CBORTag(tag, envelope))


def changed(label: object, value: object) -> Values:
    return {**VALUES, label: value}


def without(label: object) -> Values:
    return {key: value for key, value in VALUES.items() if key != label}


def measured(**registers: object) -> Values:
    merged = {**VALUES[-65543], **registers}
    return changed(-65543, {name: value for name, value in merged.items() if value is not None})


def refused(
    raw: bytes, expected: ReceiptExpectations | None = None, *, key: VerifyingKey = KEY.verifying_key
) -> ReceiptError:
    with pytest.raises(ReceiptError) as caught:
        verify_receipt(raw, key, expected or ReceiptExpectations(), now=NOW)
    assert caught.value.code == caught.value.failures[0]
    return caught.value


def accepted(raw: bytes, expected: ReceiptExpectations | None = None, *, now: datetime = NOW) -> VerifiedReceipt:
    return verify_receipt(raw, KEY.verifying_key, expected or ReceiptExpectations(), now=now)


# --- acceptance


def test_a_receipt_comes_back_as_issued_with_a_step_for_every_check() -> None:
    expected = ReceiptExpectations(
        model_id=CLAIMS.model_id,
        model_hash=CLAIMS.model_hash,
        request_hash=CLAIMS.request_hash,
        response_hash=CLAIMS.response_hash,
        attestation_doc_hash=CLAIMS.attestation_doc_hash,
        measurements=CLAIMS.measurements,
        nonce=CLAIMS.eat_nonce,
        sequence_number=CLAIMS.sequence_number,
        security_mode="production",
        platform="nitro-pcr",
        max_age=timedelta(minutes=5),
        seen_cti={b"another one"},
    )
    raw = issue_receipt(CLAIMS, KEY)
    receipt = accepted(raw, expected)
    assert (receipt.claims, receipt.raw) == (CLAIMS, raw)
    assert len(receipt.steps) == 3 + 14
    assert all(step.id.startswith("receipt.") and step.title and step.detail for step in receipt.steps)


def test_optional_claims_may_be_absent_and_tdx_is_a_platform() -> None:
    tdx = EnclaveMeasurements(
        b"\1" * 48, b"\2" * 48, b"\3" * 48, b"\4" * 48, b"\5" * 48, measurement_type="tdx-mrtd-rtmr"
    )
    claims = replace(CLAIMS, eat_nonce=None, model_hash_scheme=None, measurements=tdx)
    assert accepted(issue_receipt(claims, KEY), ReceiptExpectations(platform="tdx-mrtd-rtmr")).claims == claims


def test_payload_keys_are_in_bytewise_order_not_length_first() -> None:
    payload = cbor2.loads(issue_receipt(CLAIMS, KEY)).value[2]
    labels = list(cbor2.loads(payload))
    assert labels == [1, 6, 7, 10, 265, *range(-65537, -65550, -1)]


# --- layer 1


FORM: dict[str, tuple[bytes, list[str]]] = {
    "too large": (bytes(MAX_RECEIPT_BYTES + 1), ["RECEIPT_TOO_LARGE"]),
    "empty": (b"", ["COSE_DECODE_FAILED"]),
    "not CBOR": (b"\xff" * 40, ["COSE_DECODE_FAILED"]),
    "untagged": (sealed(VALUES, tag=None), ["COSE_DECODE_FAILED"]),
    "another tag": (sealed(VALUES, tag=98), ["COSE_DECODE_FAILED"]),
    "bytes after it": (sealed(VALUES) + b"\0", ["COSE_DECODE_FAILED"]),
    "envelope not in shortest form": (
        sealed(VALUES).replace(b"\x46" + PROTECTED, b"\x58\x06" + PROTECTED, 1),
        ["COSE_DECODE_FAILED"],
    ),
    "header in another order": (sealed(VALUES, protected=bytes.fromhex("a203183d0127")), ["COSE_DECODE_FAILED"]),
    "header with an extra label": (sealed(VALUES, protected=encode({1: -8, 3: 61, 4: b"k"})), ["COSE_DECODE_FAILED"]),
    "header with bytes after it": (sealed(VALUES, protected=PROTECTED + b"\0"), ["COSE_DECODE_FAILED"]),
    "header with alg twice": (
        sealed(VALUES, protected=bytes.fromhex("a3012701260318 3d")),
        ["COSE_DECODE_FAILED"],
    ),
    "unprotected header": (sealed(VALUES, unprotected={4: b"kid"}), ["NON_EMPTY_UNPROTECTED"]),
    "ES256": (sealed(VALUES, protected=encode({1: -7, 3: 61})), ["BAD_ALG"]),
    "no alg": (sealed(VALUES, protected=encode({3: 61})), ["BAD_ALG"]),
    "JSON": (sealed(VALUES, protected=encode({1: -8, 3: 50})), ["BAD_CONTENT_TYPE"]),
    "several at once": (
        sealed(without(1), protected=encode({1: -7}), unprotected={4: b"kid"}),
        ["NON_EMPTY_UNPROTECTED", "BAD_ALG", "BAD_CONTENT_TYPE", "MISSING_CLAIM:iss"],
    ),
    "detached payload": (sealed(None), ["MISSING_PAYLOAD"]),
    "payload an array": (sealed(b"\x80"), ["PAYLOAD_NOT_MAP"]),
    "payload empty": (sealed(b""), ["PAYLOAD_NOT_MAP"]),
    "payload with bytes after it": (sealed(encode(VALUES) + b"\0"), ["PAYLOAD_NOT_MAP"]),
    "payload in another order": (sealed(cbor2.dumps(dict(reversed(VALUES.items())))), ["PAYLOAD_NOT_MAP"]),
    "payload with a claim twice": (
        sealed(b"\xb3" + encode(VALUES)[1:6] + encode(VALUES)[1:]),
        ["PAYLOAD_NOT_MAP"],
    ),
    "payload with a long integer": (
        sealed(encode(changed(-65545, 1)).replace(encode(-65545) + b"\1", encode(-65545) + b"\x18\1")),
        ["PAYLOAD_NOT_MAP"],
    ),
    "payload of indefinite length": (sealed(b"\xbf" + encode(VALUES)[1:] + b"\xff"), ["PAYLOAD_NOT_MAP"]),
    "another profile": (sealed(changed(265, "https://spec.cyntrisec.com/air/v2")), ["WRONG_PROFILE"]),
    "unknown claim": (sealed(changed(-65550, 1)), ["UNKNOWN_CLAIM:-65550"]),
    "claim named by text": (sealed(changed("iss\n", 1)), ["UNKNOWN_CLAIM:iss?"]),
    "unknown register": (sealed(measured(pcr5=b"\1" * 48)), ["UNKNOWN_CLAIM:pcr5"]),
    "TDX with pcr8": (sealed(measured(measurement_type="tdx-mrtd-rtmr")), ["UNKNOWN_CLAIM:pcr8"]),
    "register missing": (sealed(measured(pcr0=None)), ["MISSING_CLAIM:pcr0"]),
    "register of text": (sealed(measured(pcr0="1" * 48)), ["WRONG_TYPE:pcr0"]),
    "measurement type missing": (sealed(measured(measurement_type=None)), ["MISSING_CLAIM:measurement_type"]),
    "measurement type a number": (sealed(measured(measurement_type=1)), ["WRONG_TYPE:measurement_type"]),
}
NAMES = {
    1: "iss",
    6: "iat",
    7: "cti",
    265: "eat_profile",
    -65537: "model_id",
    -65538: "model_version",
    -65539: "model_hash",
    -65540: "request_hash",
    -65541: "response_hash",
    -65542: "attestation_doc_hash",
    -65543: "enclave_measurements",
    -65544: "policy_version",
    -65545: "sequence_number",
    -65546: "execution_time_ms",
    -65547: "memory_peak_mb",
    -65548: "security_mode",
}
WRONG: list[tuple[int, str, object]] = [
    *((label, name, True) for label, name in NAMES.items()),
    *((label, name, None) for label, name in NAMES.items()),
    (10, "eat_nonce", "a text of letters"),
    (10, "eat_nonce", b"7 bytes"),
    (10, "eat_nonce", bytes(65)),
    (-65549, "model_hash_scheme", 1),
    (1, "iss", ""),
    (1, "iss", "i" * 257),
    (-65537, "model_id", "é" * 129),
    (-65538, "model_version", "1" * 129),
    (-65544, "policy_version", ""),
    (6, "iat", 0),
    (6, "iat", -1),
    (7, "cti", bytes(16)),
    (-65545, "sequence_number", -1),
]


@pytest.mark.parametrize("case", FORM)
def test_layer_1_names_every_fault_of_the_form(case: str) -> None:
    raw, codes = FORM[case]
    error = refused(raw)
    assert (error.layer, list(error.failures), error.steps) == (1, codes, ())


@pytest.mark.parametrize(("label", "name"), NAMES.items())
def test_layer_1_misses_each_required_claim(label: int, name: str) -> None:
    error = refused(sealed(without(label)))
    assert (error.layer, error.failures) == (1, (f"MISSING_CLAIM:{name}",))


@pytest.mark.parametrize(("label", "name", "value"), WRONG)
def test_layer_1_refuses_each_claim_of_another_type(label: int, name: str, value: object) -> None:
    error = refused(sealed(changed(label, value)))
    assert (error.layer, error.failures) == (1, (f"WRONG_TYPE:{name}",))


def test_true_does_not_pass_for_the_label_one() -> None:
    named_true = b"\xb2" + encode(without(1))[1:] + b"\xf5" + encode("enclave")
    assert refused(sealed(named_true)).layer == 1


# --- layer 2


def test_layer_2_refuses_another_key_and_keeps_the_step_that_passed() -> None:
    error = refused(issue_receipt(CLAIMS, KEY), key=SigningKey.generate().verifying_key)
    assert (error.layer, error.failures) == (2, ("SIG_FAILED",))
    assert [step.id for step in error.steps] == ["receipt.form"]


def test_layer_2_refuses_a_signature_of_another_length() -> None:
    payload = encode(VALUES)
    raw = cbor2.dumps(cbor2.CBORTag(18, [PROTECTED, {}, payload, KEY.sign(sig_structure(PROTECTED, payload))[:-1]]))
    error = refused(raw)
    assert (error.layer, error.failures) == (2, ("BAD_SIG_LENGTH",))


def test_layer_2_refuses_a_signature_whose_nonce_point_has_low_order() -> None:
    """Its signer could claim later to have signed something else; plain RFC 8032 verification accepts it."""
    seed, payload = b"\x07" * 32, encode(VALUES)
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    secret = int.from_bytes(sha512(seed).digest()[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    identity = (1).to_bytes(32, "little")
    message = sig_structure(PROTECTED, payload)
    challenge = int.from_bytes(sha512(identity + public.public_bytes_raw() + message).digest(), "little")
    order = 2**252 + 27742317777372353535851937790883648493
    signature = identity + (challenge * secret % order).to_bytes(32, "little")
    public.verify(signature, message)  # the library accepts it
    key = VerifyingKey(public.public_bytes_raw())
    with pytest.raises(SignatureRejected):
        key.verify(signature, message)
    raw = cbor2.dumps(cbor2.CBORTag(18, [PROTECTED, {}, payload, signature]))
    assert refused(raw, key=key).code == "SIG_FAILED"


@given(st.integers(0, len(sealed(VALUES)) * 8 - 1))
def test_no_bit_of_a_receipt_can_be_changed(bit: int) -> None:
    raw = bytearray(sealed(VALUES))
    raw[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(raw)).layer in (1, 2)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: sealed(VALUES)[:-60] + tail))
def test_bytes_that_are_no_receipt_raise_nothing_else(raw: bytes) -> None:
    assert refused(raw).layer in (1, 2)


# --- layer 3

CLAIM_FAULTS: dict[str, tuple[Values, list[str]]] = {
    "cti of 15 bytes": (changed(7, bytes(15)), ["BAD_CTI_LENGTH"]),
    "empty cti": (changed(7, b""), ["BAD_CTI_LENGTH"]),
    "zero model hash": (changed(-65539, bytes(32)), ["ZERO_MODEL_HASH"]),
    "model hash of 31 bytes": (changed(-65539, b"\1" * 31), ["BAD_HASH_LENGTH:model_hash"]),
    "request hash of 33 bytes": (changed(-65540, b"\1" * 33), ["BAD_HASH_LENGTH:request_hash"]),
    "empty response hash": (changed(-65541, b""), ["BAD_HASH_LENGTH:response_hash"]),
    "document hash of SHA-384": (changed(-65542, b"\1" * 48), ["BAD_HASH_LENGTH:attestation_doc_hash"]),
    "register of 32 bytes": (measured(pcr1=b"\1" * 32), ["BAD_MEASUREMENT_LENGTH"]),
    "optional register of 47 bytes": (measured(pcr8=b"\1" * 47), ["BAD_MEASUREMENT_LENGTH"]),
    "measurement type": (measured(measurement_type="sgx"), ["UNKNOWN_MTYPE:sgx"]),
    "hash scheme": (changed(-65549, "md5"), ["UNKNOWN_MODEL_HASH_SCHEME:md5"]),
    "mode of before the freeze": (changed(-65548, "GatewayOnly"), ["UNKNOWN_SECURITY_MODE:GatewayOnly"]),
    "mode that would break a log line": (
        changed(-65548, "a\r\nb" + "c" * 99),
        ["UNKNOWN_SECURITY_MODE:a??b" + "c" * 28],
    ),
    "several at once": (
        {**changed(7, b"7"), -65540: b"", -65548: "x"},
        ["BAD_CTI_LENGTH", "BAD_HASH_LENGTH:request_hash", "UNKNOWN_SECURITY_MODE:x"],
    ),
}


@pytest.mark.parametrize("case", CLAIM_FAULTS)
def test_layer_3_names_every_value_the_profile_refuses(case: str) -> None:
    values, codes = CLAIM_FAULTS[case]
    error = refused(sealed(values))
    assert (error.layer, list(error.failures)) == (3, codes)
    assert [step.id for step in error.steps] == ["receipt.form", "receipt.signature"]


@pytest.mark.parametrize(
    "claims",
    [
        replace(CLAIMS, cti=bytes(16)),
        replace(CLAIMS, iat=0),
        replace(CLAIMS, model_hash=bytes(32)),
        replace(CLAIMS, security_mode="mock"),
        replace(CLAIMS, eat_nonce=b"short"),
        replace(CLAIMS, iss="\ud800"),
        replace(CLAIMS, measurements=replace(CLAIMS.measurements, measurement_type="tdx-mrtd-rtmr")),
    ],
)
def test_we_never_issue_what_a_verifier_would_refuse(claims: ReceiptClaims) -> None:
    with pytest.raises(ValueError):
        issue_receipt(claims, KEY)


# --- layer 4

OTHER = b"\xee" * 32
EXPECTATIONS: dict[str, tuple[ReceiptExpectations, list[str]]] = {
    "another model's name": (ReceiptExpectations(model_id="other"), ["MODEL_ID_MISMATCH"]),
    "another model": (ReceiptExpectations(model_hash=OTHER), ["MODEL_HASH_MISMATCH"]),
    "the answer to another request": (ReceiptExpectations(request_hash=OTHER), ["REQUEST_HASH_MISMATCH"]),
    "another answer": (ReceiptExpectations(response_hash=OTHER), ["RESPONSE_HASH_MISMATCH"]),
    "another enclave's document": (ReceiptExpectations(attestation_doc_hash=OTHER), ["ATTESTATION_DOC_HASH_MISMATCH"]),
    "one register differs": (
        ReceiptExpectations(measurements=replace(CLAIMS.measurements, pcr8=None)),
        ["MEASUREMENTS_MISMATCH"],
    ),
    "another place in the session": (ReceiptExpectations(sequence_number=41), ["SEQUENCE_MISMATCH"]),
    "sequence zero is an expectation": (ReceiptExpectations(sequence_number=0), ["SEQUENCE_MISMATCH"]),
    "another mode": (ReceiptExpectations(security_mode="evaluation"), ["SECURITY_MODE_MISMATCH"]),
    "another platform": (ReceiptExpectations(platform="tdx-mrtd-rtmr"), ["PLATFORM_MISMATCH"]),
    "another nonce": (ReceiptExpectations(nonce=OTHER), ["NONCE_MISMATCH"]),
    "an old one": (ReceiptExpectations(max_age=timedelta(seconds=59)), ["TIMESTAMP_STALE"]),
    "a replay": (ReceiptExpectations(seen_cti=frozenset({CLAIMS.cti})), ["REPLAY_CTI"]),
    "several at once": (
        ReceiptExpectations(model_hash=OTHER, request_hash=OTHER, nonce=OTHER),
        ["MODEL_HASH_MISMATCH", "REQUEST_HASH_MISMATCH", "NONCE_MISMATCH"],
    ),
}


@pytest.mark.parametrize("case", EXPECTATIONS)
def test_layer_4_names_everything_the_caller_did_not_expect(case: str) -> None:
    expected, codes = EXPECTATIONS[case]
    error = refused(issue_receipt(CLAIMS, KEY), expected)
    assert (error.layer, list(error.failures)) == (4, codes)
    assert [step.id for step in error.steps[:3]] == ["receipt.form", "receipt.signature", "receipt.claims"]


def test_a_receipt_without_a_nonce_does_not_answer_a_challenge() -> None:
    raw = issue_receipt(replace(CLAIMS, eat_nonce=None), KEY)
    assert refused(raw, ReceiptExpectations(nonce=OTHER)).failures == ("NONCE_MISSING",)


def test_evaluation_receipts_prove_nothing_unless_asked_for() -> None:
    raw = issue_receipt(replace(CLAIMS, security_mode="evaluation"), KEY)
    assert refused(raw).failures == ("EVALUATION_MODE_REJECTED",)
    assert accepted(raw, ReceiptExpectations(accept_evaluation=True)).claims.security_mode == "evaluation"


def test_receipts_from_the_future_are_refused_beyond_the_skew() -> None:
    raw = issue_receipt(CLAIMS, KEY)
    accepted(raw, now=datetime.fromtimestamp(ISSUED - 60, UTC))
    with pytest.raises(ReceiptError) as caught:
        accepted(raw, now=datetime.fromtimestamp(ISSUED - 61, UTC))
    assert caught.value.failures == ("TIMESTAMP_FUTURE",)
    assert refused(issue_receipt(replace(CLAIMS, iat=2**64 - 1), KEY)).code == "TIMESTAMP_FUTURE"


def test_a_clock_without_a_time_zone_is_the_callers_bug() -> None:
    with pytest.raises(ValueError):
        accepted(issue_receipt(CLAIMS, KEY), now=datetime(2026, 1, 1))  # noqa: DTZ001


# --- every code of the published profile, in its order; a claim's name follows the colon

PUBLISHED: tuple[tuple[str, ...], ...] = (
    (
        *("RECEIPT_TOO_LARGE", "COSE_DECODE_FAILED", "NON_EMPTY_UNPROTECTED", "BAD_ALG", "BAD_CONTENT_TYPE"),
        *("MISSING_PAYLOAD", "PAYLOAD_NOT_MAP", "WRONG_PROFILE", "MISSING_CLAIM:", "WRONG_TYPE:"),
    ),
    ("SIG_FAILED", "BAD_SIG_LENGTH"),
    (
        *("BAD_CTI_LENGTH", "ZERO_MODEL_HASH", "BAD_HASH_LENGTH:", "BAD_MEASUREMENT_LENGTH", "UNKNOWN_MTYPE:"),
        *("UNKNOWN_MODEL_HASH_SCHEME:", "UNKNOWN_SECURITY_MODE:"),
    ),
    (
        *("TIMESTAMP_FUTURE", "TIMESTAMP_STALE", "MODEL_HASH_MISMATCH", "REQUEST_HASH_MISMATCH"),
        *("RESPONSE_HASH_MISMATCH", "ATTESTATION_DOC_HASH_MISMATCH", "MODEL_ID_MISMATCH", "SECURITY_MODE_MISMATCH"),
        *("EVALUATION_MODE_REJECTED", "PLATFORM_MISMATCH", "NONCE_MISMATCH", "NONCE_MISSING", "REPLAY_CTI"),
    ),
)


def every_refusal() -> Iterator[ReceiptError]:
    """One refusal for each input of this file that has a table, and those that stand alone."""
    yield from (refused(raw) for raw, _ in FORM.values())
    yield from (refused(sealed(without(label))) for label in NAMES)
    yield from (refused(sealed(changed(label, value))) for label, _, value in WRONG)
    yield from (refused(sealed(values)) for values, _ in CLAIM_FAULTS.values())
    sound, payload = issue_receipt(CLAIMS, KEY), encode(VALUES)
    yield from (refused(sound, expected) for expected, _ in EXPECTATIONS.values())
    yield refused(sound, key=SigningKey.generate().verifying_key)
    yield refused(encode_sign1(PROTECTED, payload, bytes(63), tagged=True))
    yield refused(issue_receipt(replace(CLAIMS, eat_nonce=None), KEY), ReceiptExpectations(nonce=OTHER))
    yield refused(issue_receipt(replace(CLAIMS, security_mode="evaluation"), KEY))
    yield refused(issue_receipt(replace(CLAIMS, iat=2**64 - 1), KEY))


def test_every_code_of_the_published_profile_is_reached_in_its_layer_by_an_input() -> None:
    reached: list[set[str]] = [set() for _ in PUBLISHED]
    for error in every_refusal():
        reached[error.layer - 1] |= {re.sub(":.*", ":", code) for code in error.failures}
    for codes, found in zip(PUBLISHED, reached, strict=True):
        assert set(codes) - found == set()
    ours = {"UNKNOWN_CLAIM:", "MEASUREMENTS_MISMATCH", "SEQUENCE_MISMATCH"}
    assert set().union(*reached) - {code for codes in PUBLISHED for code in codes} == ours
