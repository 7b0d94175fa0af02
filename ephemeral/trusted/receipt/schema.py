"""The closed claims map of AIR v1 and the codes of everything that can be wrong with it.

Codes are those of the published profile. It names none for three of its own rules, so three are ours:

- ``UNKNOWN_CLAIM:x`` (layer 1): the maps are closed; x is the label or the measurement register that does not belong.
- ``MEASUREMENTS_MISMATCH`` and ``SEQUENCE_MISMATCH`` (layer 4): another enclave, or another place in the session.

A payload that is not one deterministic CBOR map (duplicate keys, wrong order, long heads, bytes left over) is
``PAYLOAD_NOT_MAP``, as in the published vectors; the same faults of the envelope are ``COSE_DECODE_FAILED``. A value
outside its claim's CDDL range that has no code of its own (an empty text, a zero time, a nonce of 7 bytes) is
``WRONG_TYPE:x``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ephemeral.protocol import PCR_BYTES, SHA256_BYTES

PROFILE: Final = "https://spec.cyntrisec.com/air/v1"
PROTECTED: Final = bytes.fromhex("a2012703183d")  # {1: -8 EdDSA, 3: 61 application/cwt}
PROFILE_LABEL: Final = 265
MEASUREMENTS_LABEL: Final = -65543
MEASUREMENT_TYPE: Final = "measurement_type"
NITRO: Final = "nitro-pcr"
TDX: Final = "tdx-mrtd-rtmr"
PRODUCTION: Final = "production"
EVALUATION: Final = "evaluation"
MODEL_HASH_SCHEMES: Final = frozenset({"sha256-single", "sha256-concat", "sha256-manifest"})
REQUIRED_PCRS: Final = ("pcr0", "pcr1", "pcr2")
OPTIONAL_PCRS: Final = ("pcr3", "pcr4", "pcr8")
CTI_BYTES: Final = 16
_NO_HASH: Final = bytes(SHA256_BYTES)
_MAX_QUOTED: Final = 32
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the profile: its label, its name in codes, the type of a value and what else binds it."""

    label: int
    name: str
    kind: type
    fits: Callable[[Any], bool] | None = None
    required: bool = True


def _text(limit: int) -> Callable[[str], bool]:
    return lambda value: 1 <= len(value.encode()) <= limit


def _uint(value: int) -> bool:
    return 0 <= value < 2**64


CLAIMS: Final = (
    Claim(1, "iss", str, _text(256)),
    Claim(6, "iat", int, lambda value: _uint(value) and value != 0),
    Claim(7, "cti", bytes, lambda value: value != bytes(CTI_BYTES)),
    Claim(10, "eat_nonce", bytes, lambda value: 8 <= len(value) <= 64, required=False),
    Claim(PROFILE_LABEL, "eat_profile", str),
    Claim(-65537, "model_id", str, _text(256)),
    Claim(-65538, "model_version", str, _text(128)),
    Claim(-65539, "model_hash", bytes),
    Claim(-65540, "request_hash", bytes),
    Claim(-65541, "response_hash", bytes),
    Claim(-65542, "attestation_doc_hash", bytes),
    Claim(MEASUREMENTS_LABEL, "enclave_measurements", dict),
    Claim(-65544, "policy_version", str, _text(256)),
    Claim(-65545, "sequence_number", int, _uint),
    Claim(-65546, "execution_time_ms", int, _uint),
    Claim(-65547, "memory_peak_mb", int, _uint),
    Claim(-65548, "security_mode", str),
    Claim(-65549, "model_hash_scheme", str, required=False),
)
LABEL_OF: Final = {claim.name: claim.label for claim in CLAIMS}
# Plain tuples: every receipt is held against every row.
_ROWS: Final = tuple((claim.label, claim.name, claim.kind, claim.fits, claim.required) for claim in CLAIMS)
_KNOWN: Final = frozenset(LABEL_OF.values())
_HASHES: Final = ("model_hash", "request_hash", "response_hash", "attestation_doc_hash")


def form_faults(values: Mapping[object, object]) -> Iterator[str]:
    """Yield the layer-1 code of every claim that is missing, of the wrong type or not of the profile."""
    if isinstance(profile := values.get(PROFILE_LABEL), str) and profile != PROFILE:
        yield "WRONG_PROFILE"
    for label, name, kind, fits, required in _ROWS:
        value = values.get(label, _ABSENT)
        # The exact type: to isinstance, true is a number.
        if type(value) is kind:
            if fits is not None and not fits(value):
                yield f"WRONG_TYPE:{name}"
        elif value is not _ABSENT:
            yield f"WRONG_TYPE:{name}"
        elif required:
            yield f"MISSING_CLAIM:{name}"
    for unknown in values:
        if type(unknown) is not int or unknown not in _KNOWN:
            yield f"UNKNOWN_CLAIM:{quoted(unknown)}"
    if isinstance(measurements := values.get(MEASUREMENTS_LABEL), dict):
        yield from _measurement_form_faults(measurements)


def _measurement_form_faults(measurements: Mapping[object, object]) -> Iterator[str]:
    yield from (f"MISSING_CLAIM:{name}" for name in (*REQUIRED_PCRS, MEASUREMENT_TYPE) if name not in measurements)
    # The TDX variant has no fourth runtime register to map to pcr8.
    optional = OPTIONAL_PCRS if measurements.get(MEASUREMENT_TYPE) != TDX else OPTIONAL_PCRS[:2]
    for name, value in measurements.items():
        if name == MEASUREMENT_TYPE:
            if not isinstance(value, str):
                yield f"WRONG_TYPE:{name}"
        elif name not in REQUIRED_PCRS and name not in optional:
            yield f"UNKNOWN_CLAIM:{quoted(name)}"
        elif not isinstance(value, bytes):
            yield f"WRONG_TYPE:{name}"


def value_faults(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the layer-3 code of every claim whose value the profile refuses.

    `values` are by name and have no form fault.
    """
    if len(values["cti"]) != CTI_BYTES:
        yield "BAD_CTI_LENGTH"
    for name in _HASHES:
        if len(values[name]) != SHA256_BYTES:
            yield f"BAD_HASH_LENGTH:{name}"
    if values["model_hash"] == _NO_HASH:
        yield "ZERO_MODEL_HASH"
    measurements = values["enclave_measurements"]
    for name, value in measurements.items():
        if len(value) != PCR_BYTES and name != MEASUREMENT_TYPE:
            yield "BAD_MEASUREMENT_LENGTH"
            break
    if (kind := measurements[MEASUREMENT_TYPE]) not in (NITRO, TDX):
        yield f"UNKNOWN_MTYPE:{quoted(kind)}"
    if (scheme := values.get("model_hash_scheme")) is not None and scheme not in MODEL_HASH_SCHEMES:
        yield f"UNKNOWN_MODEL_HASH_SCHEME:{quoted(scheme)}"
    if (mode := values["security_mode"]) not in (PRODUCTION, EVALUATION):
        yield f"UNKNOWN_SECURITY_MODE:{quoted(mode)}"


def quoted(value: object) -> str:
    """Return a stranger's value fit for one line of a log: printable ASCII, at most 32 characters."""
    text = value if isinstance(value, str) else repr(value)
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:_MAX_QUOTED])
