"""Genuine AWS documents: sound at their own time, refused today; debug ones and damaged ones refused always."""

import hashlib
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ephemeral.errors import AttestationError, ForgedDocument, MeasurementMismatch, StaleDocument, UntrustedChain
from ephemeral.trusted.attestation import parse_document, verify_archived_document, verify_document
from ephemeral.trusted.policy import AWS_NITRO_ROOT_G1, Measurements, TrustPolicy
from tests.support.vectors import vector_files, vector_json, vector_path

DOCUMENTS = vector_files("nitro", "*.cbor", expected=11)
ROOTS = (AWS_NITRO_ROOT_G1,)
MAX_AGE = timedelta(seconds=300)
P384_HALF_ORDER = int("f" * 48 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16) >> 1


def facts(path: Path) -> dict[str, Any]:
    manifest = json.loads((path.parent / "manifest.json").read_text())
    (found,) = [entry for entry in manifest["documents"] if entry["file"] == path.name]
    return found


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_genuine_document_verifies_at_its_own_time(path: Path) -> None:
    expected, raw = facts(path), path.read_bytes()
    if expected["expected_at_signing_time"] != "valid":
        with pytest.raises(ForgedDocument):
            verify_archived_document(raw, ROOTS)
        return
    document = verify_archived_document(raw, ROOTS)
    assert document.module_id == expected["module_id"]
    assert document.timestamp == datetime.fromisoformat(expected["signing_time"])
    assert len(document.pcrs) == expected["pcr_count"]
    assert document.security_mode == "production"
    for name in ("public_key", "user_data", "nonce"):
        assert len(getattr(document, name) or b"") == expected[f"{name}_len"]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_genuine_document_is_refused_today(path: Path) -> None:
    with pytest.raises((UntrustedChain, StaleDocument)) as refused:
        verify_document(path.read_bytes(), ROOTS, now=datetime.now(UTC), max_age=MAX_AGE)
    assert refused.value.code == "CERTIFICATE_EXPIRED"


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_genuine_document_is_stale_an_hour_later_though_its_chain_is_valid(path: Path) -> None:
    if facts(path)["expected_at_signing_time"] != "valid":
        pytest.skip("its signature is damaged")
    raw = path.read_bytes()
    made = parse_document(raw).timestamp
    with pytest.raises(StaleDocument):
        verify_document(raw, ROOTS, now=made + timedelta(hours=1), max_age=MAX_AGE)
    assert verify_document(raw, ROOTS, now=made + MAX_AGE, max_age=MAX_AGE).timestamp == made


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_genuine_debug_document_is_refused_whatever_the_policy_says(path: Path) -> None:
    pcrs = parse_document(path.read_bytes()).pcrs
    if facts(path)["debug_mode"]:
        policy = TrustPolicy.aws_nitro(Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48))
        with pytest.raises(MeasurementMismatch) as refused:
            policy.match(pcrs)
        assert refused.value.code == "DEBUG_ENCLAVE"
    else:
        build = Measurements(pcrs[0], pcrs[1], pcrs[2], label="theirs")
        assert TrustPolicy.aws_nitro(build).match(pcrs) == build


@pytest.mark.parametrize("path", DOCUMENTS)
def test_no_mutation_of_a_genuine_document_is_accepted_or_escapes_as_another_error(path: Path) -> None:
    raw = path.read_bytes()
    seeded = random.Random(path.name)
    for _ in range(150):
        mutant = bytearray(raw)
        for _ in range(seeded.randrange(1, 4)):
            place = seeded.randrange(len(mutant))
            mutant[place : place + seeded.choice((0, 1, 1, 1, 5))] = seeded.randbytes(seeded.choice((0, 1, 1, 1, 5)))
        if mutant == raw:
            continue
        with pytest.raises(AttestationError):
            verify_archived_document(bytes(mutant), ROOTS)


@pytest.mark.vectors
def test_some_genuine_documents_have_a_high_s_and_some_an_indefinite_map() -> None:
    documents = [parse_document(path.read_bytes()) for path in sorted(vector_path("nitro").glob("*.cbor"))]
    assert any(int.from_bytes(document.signature[48:], "big") > P384_HALF_ORDER for document in documents)
    assert any(document.payload[:1] == b"\xbf" for document in documents)


@pytest.mark.vectors
def test_the_pinned_root_is_the_one_aws_publishes() -> None:
    der = vector_path("nitro/aws_nitro_root_g1.der").read_bytes()
    assert hashlib.sha256(der).digest() == AWS_NITRO_ROOT_G1.sha256
    assert vector_json("nitro/manifest.json")["root"]["published_sha256"] == AWS_NITRO_ROOT_G1.sha256.hex()
