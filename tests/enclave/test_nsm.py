"""The security module's driver: what it asks, and what it makes of answers that are none."""

from datetime import datetime
from pathlib import Path

import pytest

from ephemeral.errors import AttestationError
from ephemeral.trusted.attestation import parse_document
from ephemeral.trusted.cbor import decode_nsm, encode
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeral_devstack.security_module import answer
from ephemeral_enclave.measurement import measure
from ephemeral_enclave.nsm import NitroSecurityModule, device_exchange
from tests.support.peers import BUILD
from tests.support.vectors import vector_json, vector_path

NSM = SimulatedNsm(BUILD.pinned)


def test_document_carries_what_was_asked_for() -> None:
    module = NitroSecurityModule(lambda request: answer(NSM, request))
    document = parse_document(module.attest(public_key=b"k", user_data=b"u", nonce=b"n"))
    assert (document.public_key, document.user_data, document.nonce) == (b"k", b"u", b"n")


def test_request_is_what_the_kernel_device_takes() -> None:
    sent: list[bytes] = []

    def exchange(request: bytes) -> bytes:
        sent.append(request)
        return answer(NSM, request)

    NitroSecurityModule(exchange).attest(public_key=b"k", user_data=b"u", nonce=None)
    fields = {"public_key": b"k", "user_data": b"u", "nonce": None}
    assert decode_nsm(sent[0], max_bytes=4096) == {"Attestation": fields}


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (encode({"Error": "InvalidOperation"}), "NSM_REFUSED"),
        (encode({"Attestation": {}}), "NSM_ANSWER"),
        (encode(["x"]), "NSM_ANSWER"),
        (b"", "NSM_UNREACHABLE"),
        (b"\xff\xff", "NSM_UNREACHABLE"),
        (bytes(0x3001), "NSM_UNREACHABLE"),
    ],
)
def test_answers_that_are_none_are_typed(response: bytes, code: str) -> None:
    with pytest.raises(AttestationError) as caught:
        NitroSecurityModule(lambda _request: response).attest(public_key=b"", user_data=b"", nonce=None)
    assert caught.value.code == code


def test_missing_device_is_typed(tmp_path: Path) -> None:
    module = NitroSecurityModule(device_exchange(tmp_path / "nsm"))
    with pytest.raises(AttestationError) as caught:
        module.attest(public_key=b"", user_data=b"", nonce=None)
    assert caught.value.code == "NSM_UNREACHABLE"


def test_device_that_is_no_security_module_is_typed() -> None:
    module = NitroSecurityModule(device_exchange(Path("/dev/null")))
    with pytest.raises(AttestationError):
        module.attest(public_key=b"", user_data=b"", nonce=None)


def test_simulated_module_refuses_what_it_does_not_know() -> None:
    for request in (b"junk", encode({"Attestation": {"other": b""}}), encode("GetRandom"), bytes(5000)):
        assert "Error" in decode_nsm(answer(NSM, request), max_bytes=4096)


def test_simulated_module_measures_as_evaluation() -> None:
    measured = measure(NSM.attest())
    assert measured.security_mode == "evaluation"
    assert (measured.registers.pcr0, measured.registers.pcr3) == (BUILD.pcr0, None)


def test_debug_enclave_measures_as_evaluation() -> None:
    assert measure(SimulatedNsm({}).attest()).security_mode == "evaluation"


@pytest.mark.vectors
def test_real_document_in_its_time_measures_as_production() -> None:
    for document in vector_json("nitro/manifest.json")["documents"]:
        if document["expected_at_signing_time"] != "valid":
            continue
        raw = vector_path(f"nitro/{document['file']}").read_bytes()
        measured = measure(raw, datetime.fromisoformat(document["signing_time"]))
        assert measured.security_mode == ("evaluation" if document["debug_mode"] else "production")
