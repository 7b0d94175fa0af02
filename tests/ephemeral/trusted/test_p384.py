"""P-384: every library that can verify is held against the same vectors, and against the other."""

import random
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from ephemeral.trusted.attestation import parse_document
from ephemeral.trusted.attestation.document import PROTECTED_ES384
from ephemeral.trusted.cose import sig_structure
from ephemeral.trusted.p384 import BACKEND, Backend, KeyRejected, OpenSsl, P384Key, SignatureRejected
from tests.support.backends import P384_BACKENDS
from tests.support.vectors import vector_files, vector_json

ORDER = int("f" * 48 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
DOCUMENTS = vector_files("nitro", "*.cbor", expected=11)
each_backend = pytest.mark.parametrize("backend", P384_BACKENDS)


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def raw(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def accepts_raw(key: P384Key, signature: bytes, message: bytes) -> bool:
    try:
        key.verify_raw(signature, message)
    except SignatureRejected:
        return False
    return True


def accepts_der(key: P384Key, signature: bytes, message: bytes) -> bool:
    try:
        key.verify_der(signature, message)
    except SignatureRejected:
        return False
    return True


@each_backend
def test_a_signature_holds_in_both_encodings_and_for_its_key_and_message_only(backend: Backend) -> None:
    private, other = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    key = P384Key(point(private.public_key()), backend)
    for message in (b"", b"message", bytes(5000)):
        signature = private.sign(message, ec.ECDSA(SHA384()))
        assert accepts_der(key, signature, message)
        assert accepts_raw(key, raw(signature), message)
        assert not accepts_der(key, signature, message + b"\0")
        assert not accepts_der(P384Key(point(other.public_key()), backend), signature, message)


@each_backend
def test_high_s_is_admitted_as_genuine_documents_have_it(backend: Backend) -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    r, s = decode_dss_signature(private.sign(b"m", ec.ECDSA(SHA384())))
    key = P384Key(point(private.public_key()), backend)
    for value in (s, ORDER - s):
        assert accepts_der(key, encode_dss_signature(r, value), b"m")


@each_backend
@pytest.mark.parametrize("r", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**384 - 1])
@pytest.mark.parametrize("s", [0, 1, ORDER - 1, ORDER, 2**384 - 1])
def test_r_and_s_at_the_edges_of_their_range_are_refused(backend: Backend, r: int, s: int) -> None:
    key = P384Key(point(ec.generate_private_key(ec.SECP384R1()).public_key()), backend)
    assert not accepts_raw(key, r.to_bytes(48, "big") + s.to_bytes(48, "big"), b"m")
    assert not accepts_der(key, encode_dss_signature(r, s), b"m")


@each_backend
def test_other_spellings_of_a_signature_are_refused(backend: Backend) -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    signature = private.sign(b"m", ec.ECDSA(SHA384()))
    r, s = decode_dss_signature(signature)
    key = P384Key(point(private.public_key()), backend)
    assert accepts_der(key, signature, b"m")
    padded = b"".join(b"\x02\x32" + value.to_bytes(50, "big") for value in (r, s))
    respelt = {
        "trailing byte": signature + b"\0",
        "long form of the length": b"\x30\x81" + signature[1:],
        "indefinite length": b"\x30\x80" + signature[2:] + b"\0\0",
        "padded integers": b"\x30" + bytes([len(padded)]) + padded,
        "negative integers": bytes.fromhex("30060201ff0201ff"),
        "raw": raw(signature),
        "empty": b"",
    }
    assert [name for name, other in respelt.items() if accepts_der(key, other, b"m")] == []
    fixed = raw(signature)
    lengths = {"empty": b"", "cut": fixed[:-1], "longer": fixed + b"\0", "padded s": fixed[:48] + b"\0" + fixed[48:]}
    assert [name for name, other in lengths.items() if accepts_raw(key, other, b"m")] == []


@each_backend
def test_what_is_no_uncompressed_point_of_the_curve_never_becomes_a_key(backend: Backend) -> None:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    sound = point(public)
    x, y = sound[1:49], sound[49:]
    refused = {
        "empty": b"",
        "infinity": b"\0",
        "compressed": public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
        "hybrid": bytes([6 | y[-1] & 1]) + x + y,
        "one byte more": sound + b"\0",
        "one byte less": sound[:-1],
        "off the curve": b"\x04" + x + bytes([*y[:-1], y[-1] ^ 1]),
        "zero": b"\x04" + bytes(96),
        "x above p": b"\x04" + b"\xff" * 48 + y,
        "a point of P-256": point(ec.generate_private_key(ec.SECP256R1()).public_key()),
    }
    P384Key(sound, backend)
    for name, other in refused.items():
        with pytest.raises(KeyRejected):
            print(name, P384Key(other, backend))


@each_backend
@pytest.mark.vectors
def test_wycheproof_raw_p384_signatures(backend: Backend) -> None:
    wrong, tried = [], 0
    for group in vector_json("wycheproof/ecdsa_secp384r1_sha384_p1363_test.json")["testGroups"]:
        public = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        assert isinstance(public, ec.EllipticCurvePublicKey)
        key = P384Key(point(public), backend)
        for case in group["tests"]:
            tried += 1
            accepted = accepts_raw(key, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            if accepted != (case["result"] == "valid"):
                wrong.append(case["tcId"])
    assert (wrong, tried) == ([], 280)


@each_backend
@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_signature_of_a_genuine_document_gets_the_same_verdict(backend: Backend, path: Path) -> None:
    document = parse_document(path.read_bytes())
    chain = [x509.load_der_x509_certificate(der) for der in (*document.cabundle, document.certificate)]
    reference, candidate = ([P384Key(_point_of(c), library) for c in chain] for library in (OpenSsl(), backend))
    for above, below in zip(range(len(chain)), range(1, len(chain)), strict=False):
        candidate[above].verify_der(chain[below].signature, chain[below].tbs_certificate_bytes)
        assert not accepts_der(candidate[below], chain[below].signature, chain[below].tbs_certificate_bytes)
    signed = sig_structure(PROTECTED_ES384, document.payload)
    assert accepts_raw(candidate[-1], document.signature, signed) == accepts_raw(
        reference[-1], document.signature, signed
    )


def _point_of(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return point(key)


@each_backend
def test_no_mutation_of_a_signature_or_message_divides_the_libraries(backend: Backend) -> None:
    seeded = random.Random(384)
    private = ec.derive_private_key(seeded.getrandbits(380), ec.SECP384R1())
    signature = private.sign(b"message", ec.ECDSA(SHA384()))
    keys = [P384Key(point(private.public_key()), library) for library in (OpenSsl(), backend)]
    for _ in range(400):
        mutant = bytearray(signature)
        mutant[seeded.randrange(len(mutant))] ^= 1 << seeded.randrange(8)
        assert [accepts_der(key, bytes(mutant), b"message") for key in keys] == [False, False]


def test_without_the_extra_the_default_verifies_and_with_it_the_choice_is_made_once() -> None:
    program = (
        "import sys; sys.modules.update({'awscrt': None, 'nacl': None})\n"
        "from ephemeral.trusted import ed25519, p384\n"
        "print(p384.BACKEND.name, ed25519.BACKEND.name)\n"
        "for make in (p384.AwsLc, ed25519.Sodium):\n"
        "    try: make()\n"
        "    except RuntimeError as error: print(error)\n"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [
        "cryptography cryptography",
        "awscrt is not installed: install ephemeralml-protocol[fast]",
        "PyNaCl is not installed: install ephemeralml-protocol[fast]",
    ]
    assert BACKEND.name in {"cryptography", "awscrt"}


def test_the_enclave_goes_without_the_extra_so_that_its_image_says_what_verifies() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "services" / "enclave" / "pyproject.toml").read_text())
    required = [line for line in project["project"]["dependencies"] if line.startswith("ephemeralml-protocol")]
    assert required
    assert not any("fast" in line for line in required)
