"""Attestation documents: the parser, the chain, what `user_data` and `public_key` hold, and the module's own answer.

The first certificate of each input is pinned, whatever it is: so the walk and the signature are reached by any bytes.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ephemeral.errors import AttestationError, BindingMismatch, MalformedDocument, UntrustedChain
from ephemeral.protocol import MAX_DOCUMENT_BYTES
from ephemeral.trusted.attestation import (
    KmsBinding,
    SessionBinding,
    parse_document,
    verify_archived_document,
    verify_recipient,
)
from ephemeral.trusted.attestation.chain import walk_chain
from ephemeral.trusted.policy import RootOfTrust
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeral_enclave.nsm import MAX_RESPONSE_BYTES, NitroSecurityModule
from fuzz.signed import AT, KEY
from fuzz.target import Target

_PCRS: Final = {index: bytes([index + 1]) * 48 for index in range(3)}
_BINDING: Final = SessionBinding(KEY.verifying_key, b"\x0b" * 32, b"\x0c" * 32, b"\x0d" * 32)
_MAX_CERTIFICATE: Final = 1024


@cache
def module() -> SimulatedNsm:
    """Return the security module that signs the seeds."""
    return SimulatedNsm(_PCRS, now=AT)


def _root_of(raw: bytes) -> RootOfTrust:
    return RootOfTrust("any", hashlib.sha256(parse_document(raw).cabundle[0]).digest(), evaluation=True)


def _document(raw: bytes) -> None:
    verify_archived_document(raw, [_root_of(raw)])


def _document_seeds() -> Mapping[str, bytes]:
    document = module().attest(KEY.verifying_key.raw, _BINDING.encode(), bytes(32))
    return {"session": document, "bare": module().attest(), "bad-signature": document[:-1] + b"\0"}


def _payload(raw: bytes) -> None:
    """The parser behind the envelope, which needs no signature to be reached."""
    parse_document(
        b"\x84" + cbor2.dumps(bytes.fromhex("a1013822")) + b"\xa0" + cbor2.dumps(raw) + b"\x58\x60" + bytes(96)
    )


def _payload_seeds() -> Mapping[str, bytes]:
    return {name: cbor2.loads(raw)[2] for name, raw in _document_seeds().items() if not name.startswith("bad")}


def _certificate(raw: bytes) -> None:
    """In the place of each certificate of a chain that is otherwise sound."""
    refused = None
    for place in range(len(_LEVELS)):
        chain = [*sound()[:place], raw, *sound()[place + 1 :]]
        try:
            walk_chain(chain[:-1], chain[-1], AT)
        except UntrustedChain as error:
            refused = error
        else:
            return
    assert refused is not None
    raise refused


@cache
def sound() -> tuple[bytes, ...]:
    """Return a sound chain, root first: that of the committed seeds, so that a finding can be repeated."""
    return tuple((CERTIFICATE.folder / name).read_bytes() for name in _LEVELS)


_LEVELS: Final = ("root", "region", "zone", "instance", "leaf")


def _certificate_seeds() -> Mapping[str, bytes]:
    if CERTIFICATE.folder.exists():  # made once: the walk needs all of one chain
        return dict(zip(_LEVELS, sound(), strict=True))
    document = parse_document(module().attest())
    return dict(zip(_LEVELS, (*document.cabundle, document.certificate), strict=True))


def _binding(raw: bytes) -> None:
    """One of the two purposes; never both."""
    try:
        SessionBinding.parse(raw)
    except BindingMismatch:
        KmsBinding.parse(raw)


def _binding_seeds() -> Mapping[str, bytes]:
    return {"session": _BINDING.encode(), "kms": KmsBinding(bytes(32)).encode(), "bad-empty": b"\xa0"}


def _recipient(raw: bytes) -> None:
    """As `public_key` of a document for KMS; the bytes are signed over, so that they are reached."""
    if len(raw) > _MAX_CERTIFICATE:
        raise MalformedDocument("larger than a field of a document")
    document = module().attest(raw, KmsBinding(bytes(32)).encode())
    verify_recipient(document, [_root_of(document)], now=AT, max_age=AT - datetime(2020, 1, 1, tzinfo=UTC))


def _recipient_seeds() -> Mapping[str, bytes]:
    spki = (
        rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    return {"rsa": spki, "bad-cut": spki[:-1]}


def _answer(raw: bytes) -> None:
    NitroSecurityModule(lambda _: raw).attest(public_key=bytes(32), user_data=None, nonce=None)


def _answer_seeds() -> Mapping[str, bytes]:
    return {
        "document": cbor2.dumps({"Attestation": {"document": b"document"}}),
        "bad-refused": cbor2.dumps({"Error": "InvalidArgument"}),
        "bad-other": cbor2.dumps({"GetRandom": {"random": bytes(8)}}),
    }


CERTIFICATE: Final = Target("certificate", _certificate, (UntrustedChain,), _certificate_seeds, _MAX_CERTIFICATE)
TARGETS: Final = (
    Target("document", _document, (AttestationError,), _document_seeds, MAX_DOCUMENT_BYTES),
    Target("payload", _payload, (MalformedDocument,), _payload_seeds, 16_384),
    CERTIFICATE,
    Target("binding", _binding, (BindingMismatch,), _binding_seeds, 1024),
    Target("recipient_key", _recipient, (AttestationError,), _recipient_seeds, _MAX_CERTIFICATE),
    Target("nsm_answer", _answer, (AttestationError,), _answer_seeds, MAX_RESPONSE_BYTES),
)
