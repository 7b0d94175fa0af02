"""The test PKI of the pack: the mint of tests/support with every key, serial number and time fixed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from tests.refusals.keys import p384, serial
from tests.support.minting import AT, ES384, LEVELS, NONCE, PCR0, PCR1, PCR2, Level, Mint, raw_map

PINNED: Mapping[str, bytes] = {"pcr0": PCR0, "pcr1": PCR1, "pcr2": PCR2}


def mint(levels: Sequence[Level] = LEVELS, name: str = "test PKI") -> Mint:
    """Return the mint of this name; another name makes a stranger's PKI with the same subjects."""
    return Mint([_fixed(level, f"{name} level {place}") for place, level in enumerate(levels)])


def _fixed(level: Level, name: str) -> Level:
    # A level that asks for a key of its own (another curve, RSA) gives a fixed one already.
    key = partial(p384, name) if level.key is Level.key else level.key
    number = serial(f"{name} {_content(level)}")
    return replace(level, key=key, stranger=partial(p384, f"{name} stranger"), serial=lambda: number)


def _content(level: Level) -> str:
    """Return what a certificate says: those of one issuer that differ in anything differ in their serial numbers."""
    knobs = {name: value for name, value in vars(level).items() if not callable(value)}
    return str({**knobs, "digest": level.digest.name})


SOUND = mint()
STRANGE = mint(name="a stranger's PKI")
KEYS = {
    **{der: p384(f"test PKI level {place}") for place, der in enumerate(SOUND.chain)},
    **{der: p384(f"a stranger's PKI level {place}") for place, der in enumerate(STRANGE.chain)},
}


def document(cabundle: Sequence[bytes], certificate: bytes) -> bytes:
    """Return a document with these certificates, signed by the key of the last; of bytes that are none, by the leaf."""
    key = KEYS.get(certificate, KEYS[SOUND.chain[-1]])

    def sign(_: bytes) -> bytes:
        message = cbor2.dumps(["Signature1", ES384, b"", payload])
        r, s = decode_dss_signature(key.sign(message, ECDSA(SHA384(), deterministic_signing=True)))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")

    payload = raw_map(SOUND.pairs(cabundle=list(cabundle), certificate=certificate))
    return SOUND.seal(payload, signature=sign)


def policy(mint: Mint = SOUND, *builds: Mapping[str, bytes], max_age_seconds: int = 300) -> str:
    """Return the text of a policy that accepts these builds (none: the test build) under the root of `mint`."""
    tables = [
        f'[[measurements]]\nlabel = "test build {number}"\n' + "".join(f'{n} = "{v.hex()}"\n' for n, v in build.items())
        for number, build in enumerate(builds or (PINNED,), 1)
    ]
    root = f'[[roots]]\nname = "PUBLIC TEST ROOT"\nsha256 = "{mint.root.sha256.hex()}"\nevaluation = true\n'
    return "\n".join([f"version = 1\nmax_document_age_seconds = {max_age_seconds}\n", root, *tables])


def context(
    policy_text: str | None = None, *, verify: str = "enclave", nonce: bytes | None = NONCE, now: datetime = AT
) -> dict[str, Any]:
    """Return how a document is verified."""
    return {"verify": verify, "policy": policy_text or policy(), "nonce": nonce, "now": now}
