"""A SIMULATED Nitro Security Module: genuine documents in AWS's format, under a root that no hardware stands behind.

Same certificate profile as AWS (five levels, P-384, ecdsa-with-SHA384, a leaf of three hours), same COSE_Sign1, same
order of fields. The verifier runs the same code as for AWS's; only the pinned root differs, and it says "evaluation".
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from ephemeral.protocol import PCR_BYTES
from ephemeral.trusted.cose import encode_sign1, sig_structure

_PROTECTED: Final = bytes.fromhex("a1013822")  # {1: -35}, ES384
_PCR_COUNT: Final = 16
_SIGNATURE_HALF: Final = 48
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BACKDATED: Final = timedelta(minutes=10)  # a document of any acceptable age lies within its leaf's validity


@dataclass(frozen=True, slots=True)
class _Level:
    """One level of AWS's hierarchy."""

    name: str
    lifetime: timedelta
    path_length: int | None
    authority: bool = True


_ROOT: Final = _Level("SIMULATED.nitro-enclaves", timedelta(days=3650), None)
_BELOW_ROOT: Final = (
    _Level("0000000000000000.us-east-1.SIMULATED.nitro-enclaves", timedelta(days=20), 2),
    _Level("0000000000000000.zonal.us-east-1.SIMULATED.nitro-enclaves", timedelta(days=6), 1),
    _Level("i-00000000000000000.us-east-1.SIMULATED.nitro-enclaves", timedelta(days=1), 0),
)
_LEAF_LIFETIME: Final = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class SimulatedAuthority:
    """A certificate and its private key; as a root, shared by every simulated module of one stack."""

    key: EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new_root(cls, now: datetime | None = None) -> Self:
        """Make a root valid from `now` for ten years."""
        return cls._issue(_ROOT, None, now or datetime.now(UTC))

    @classmethod
    def _issue(cls, level: _Level, issuer: "SimulatedAuthority | None", now: datetime) -> Self:
        key = generate_private_key(SECP384R1())
        builder = _certificate(level, key, issuer.certificate.subject if issuer else _subject(level.name), now)
        if issuer and level.authority:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        return cls(key, builder.sign(issuer.key if issuer else key, SHA384()))

    def issue(self, level: _Level, now: datetime) -> "SimulatedAuthority":
        """Issue the level below."""
        return SimulatedAuthority._issue(level, self, now)

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    def to_pem(self) -> bytes:
        """Return the private key and the certificate, so that another process can load the same root."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + self.certificate.public_bytes(Encoding.PEM)

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Load what `to_pem` wrote.

        Raises:
            ValueError: it is not that.
        """
        key = load_pem_private_key(pem, None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError("not a simulated root")  # noqa: TRY004 - the bytes are wrong, not the caller's type
        return cls(key, x509.load_pem_x509_certificate(pem))


class SimulatedNsm:
    """A security module for one enclave; its chain is renewed as it ages, as AWS's is."""

    def __init__(
        self,
        pcrs: Mapping[int, bytes],
        *,
        now: datetime | None = None,
        module_id: str = "i-00000000000000000-enc0000000000000000",
        root: SimulatedAuthority | None = None,
    ) -> None:
        """Vouch for `pcrs` (48 bytes each; those not given of the first 16 are zero).

        `now` stops the clock there, for tests; `root` joins an existing root instead of making one.
        """
        if any(len(value) != PCR_BYTES for value in pcrs.values()):
            raise ValueError(f"a PCR has {PCR_BYTES} bytes")
        self._stopped_at = now
        self._module_id = module_id
        self._pcrs = {**dict.fromkeys(range(_PCR_COUNT), bytes(PCR_BYTES)), **pcrs}
        self._root = root or SimulatedAuthority.new_root(self._now())
        self._renew()

    @property
    def root_der(self) -> bytes:
        """The root certificate."""
        return self._root.der

    @property
    def root_sha256(self) -> bytes:
        """What a policy pins."""
        return hashlib.sha256(self.root_der).digest()

    def attest(
        self,
        public_key: bytes | None = None,
        user_data: bytes | None = None,
        nonce: bytes | None = None,
        *,
        timestamp: datetime | None = None,
        pcrs: Mapping[int, bytes] | None = None,
    ) -> bytes:
        """Return a signed document: an untagged COSE_Sign1, absent fields null, as AWS writes it.

        `timestamp` and `pcrs` replace what the module knows, for tests.
        """
        if self._now() - self._renewed_at > _LEAF_LIFETIME / 2:
            self._renew()
        payload = cbor2.dumps(
            {
                "module_id": self._module_id,
                "digest": "SHA384",
                "timestamp": ((timestamp or self._now()) - _EPOCH) // _MILLISECOND,
                "pcrs": dict(sorted({**self._pcrs, **(pcrs or {})}.items())),
                "certificate": self._leaf.der,
                "cabundle": [authority.der for authority in self._authorities],
                "public_key": public_key,
                "user_data": user_data,
                "nonce": nonce,
            }
        )
        return encode_sign1(_PROTECTED, payload, self._sign(sig_structure(_PROTECTED, payload)), tagged=False)

    def _now(self) -> datetime:
        return self._stopped_at or datetime.now(UTC)

    def _renew(self) -> None:
        self._renewed_at = self._now()
        self._authorities = [self._root]
        for level in _BELOW_ROOT:
            self._authorities.append(self._authorities[-1].issue(level, self._renewed_at))
        leaf = _Level(f"{self._module_id}.us-east-1.SIMULATED", _LEAF_LIFETIME, None, authority=False)
        self._leaf = self._authorities[-1].issue(leaf, self._renewed_at)

    def _sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._leaf.key.sign(message, ECDSA(SHA384())))
        return r.to_bytes(_SIGNATURE_HALF, "big") + s.to_bytes(_SIGNATURE_HALF, "big")


def _certificate(
    level: _Level, key: EllipticCurvePrivateKey, issuer: x509.Name, now: datetime
) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(level.name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + level.lifetime)
        .add_extension(x509.BasicConstraints(level.authority, level.path_length), critical=True)
        .add_extension(_usage(authority=level.authority), critical=level.authority)
    )
    if not level.authority:
        return builder
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=not authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SIMULATED, NOT AWS"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
