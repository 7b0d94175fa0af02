"""What an attacker tries against a key policy, decided by the SIMULATED KMS's evaluator, not by the linter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ephemeral.trusted.policy import Measurements
from ephemeral_devstack.kms.policy import Access, KeyPolicy, Verdict

ACCOUNT: Final = "arn:aws:iam::111122223333"
HOST, PUBLISHER, ADMIN = (f"{ACCOUNT}:role/{name}" for name in ("host", "publisher", "admin"))
STRANGERS: Final = (f"{ACCOUNT}:role/stranger", "arn:aws:iam::999900001111:role/stranger")
MODELS: Final = ("model-one", "model-two")
BUILD_A: Final = Measurements(b"\xa0" * 48, b"\xa1" * 48, b"\xa2" * 48, label="a")
BUILD_B: Final = Measurements(b"\xb0" * 48, b"\xb1" * 48, b"\xb2" * 48, label="b")
CONTEXT: Final = {"model_id": MODELS[0], "version": "1", "content_sha256": "cd" * 32}

Pcrs = Mapping[int, bytes]
_FOREIGN: Final = {index: bytes([0xE0 + index]) * 48 for index in range(3)}
_SIGNER: Final = {8: b"\xa8" * 48}
_ACCEPTED: Final = (BUILD_A.pinned, BUILD_B.pinned)
_BYPASSES: Final = ("ReEncryptFrom", "CreateGrant", "ImportKeyMaterial", "ReplicateKey")


@dataclass(frozen=True, slots=True)
class Breach:
    """A call that a policy allows and should not."""

    principal: str
    action: str
    pcrs: Pcrs | None
    context: Mapping[str, str]


def breaches(policy: KeyPolicy) -> Iterator[Breach]:
    """Yield every attack that the policy allows."""
    for attack in _attacks():
        if allowed(policy, attack):
            yield attack


def allowed(policy: KeyPolicy, call: Breach) -> bool:
    """Let the simulated KMS decide a call."""
    return policy.decide(Access(call.principal, f"kms:{call.action}", _keys(call))) is Verdict.ALLOWED


def legitimate(build: Measurements = BUILD_A) -> Breach:
    """Return the call of an accepted enclave's host."""
    return Breach(HOST, "Decrypt", {**build.pinned, **_SIGNER}, CONTEXT)


def _attacks() -> Iterator[Breach]:
    everyone = (HOST, PUBLISHER, ADMIN, *STRANGERS)
    for principal in everyone:
        for pcrs in (None, *_recipients()):
            for context in _contexts():
                good = pcrs in _ACCEPTED and context == CONTEXT and principal not in STRANGERS
                if not good:
                    yield Breach(principal, "Decrypt", pcrs, context)
        for action in _BYPASSES:
            yield Breach(principal, action, None, CONTEXT)
    for principal in (HOST, *STRANGERS):
        for action in ("PutKeyPolicy", "ScheduleKeyDeletion", "DisableKey", "GenerateDataKey", "Encrypt"):
            yield Breach(principal, action, None, CONTEXT)
    for context in _contexts():
        if context != CONTEXT:
            yield Breach(PUBLISHER, "GenerateDataKey", None, context)


def _recipients() -> Iterator[Pcrs]:
    yield from (*_ACCEPTED, _FOREIGN, {**_FOREIGN, **_SIGNER}, dict.fromkeys(range(3), bytes(48)))
    yield from ({**BUILD_A.pinned, index: value} for index, value in _FOREIGN.items())
    yield from ({**BUILD_A.pinned, index: BUILD_B.pinned[index]} for index in range(3))
    yield from ({**_FOREIGN, index: BUILD_A.pinned[index]} for index in range(3))
    yield {index: value[:3] + bytes(44) + b"\1" for index, value in BUILD_A.pinned.items()}


def _contexts() -> Iterator[Mapping[str, str]]:
    yield CONTEXT
    yield {}
    yield {**CONTEXT, "model_id": "another"}
    yield {**CONTEXT, "more": "1"}
    for missing in CONTEXT:
        yield {key: value for key, value in CONTEXT.items() if key != missing}


def _keys(call: Breach) -> Mapping[str, frozenset[str]]:
    """Return the condition keys of a call, as the simulated KMS sets them: none for a debug enclave."""
    keys = {f"kms:EncryptionContext:{key}": {value} for key, value in call.context.items()}
    if call.context:
        keys["kms:EncryptionContextKeys"] = set(call.context)
    keys |= {"aws:PrincipalArn": {call.principal}, "aws:SecureTransport": {"false"}}
    pcrs = call.pcrs or {}
    if pcrs and all(any(pcrs[index]) for index in range(3)):
        keys |= {f"kms:RecipientAttestation:PCR{index}": {value.hex()} for index, value in pcrs.items()}
        keys["kms:RecipientAttestation:ImageSha384"] = {pcrs[0].hex()}
    return {name.lower(): frozenset(values) for name, values in keys.items()}
