"""The key policy that a model's key needs, from measurements, three roles and the models.

The publisher wraps data keys, only under an encryption context that names the model. The host has them unwrapped only
to an enclave of one accepted build, all of its measurements together. The administrator keeps the key and opens
nothing. Whatever somebody grants later, nobody decrypts without attestation, nor for another build.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ephemeral.errors import ConfigError
from ephemeral.trusted.manifest import encryption_context
from ephemeral.trusted.policy import Measurements

MAX_POLICY_BYTES: Final = 32_768  # AWS KMS Developer Guide, "Resource quotas": key policy document size
# From the one function that makes a context, so that a policy cannot ask for another.
CONTEXT_KEYS: Final = tuple(encryption_context("model", 1, bytes(32)))
_VERSION: Final = "2012-10-17"
_IMAGE: Final = (0, 1, 2)
_ROLE: Final = re.compile(r"arn:aws(?:-[a-z]+)*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}", re.ASCII)
_MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,127}", re.ASCII)
_ADMINISTRATION: Final = (
    "DescribeKey",
    "GetKeyPolicy",
    "PutKeyPolicy",
    "EnableKey",
    "DisableKey",
    "ScheduleKeyDeletion",
    "CancelKeyDeletion",
    "ListGrants",
    "RevokeGrant",
    "ListResourceTags",
    "TagResource",
    "UntagResource",
)

Statement = dict[str, object]
Conditions = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class KeyRoles:
    """IAM roles by ARN: the host's (untrusted), the publisher's and the administrator's; the last two may be one.

    Raises:
        ConfigError: not the ARN of a role, or the host would also publish or administer.
    """

    host: str
    publisher: str
    admin: str

    def __post_init__(self) -> None:
        for name, arn in {"host": self.host, "publisher": self.publisher, "admin": self.admin}.items():
            if not _ROLE.fullmatch(arn):
                text = f"the {name} role {arn[:200]!r} is not arn:aws:iam::ACCOUNT:role/NAME"
                raise ConfigError(text, code="KMS_ROLE")
        if self.host in (self.publisher, self.admin):
            text = "the host's role may be no other: who publishes or administers needs no enclave to read data keys"
            raise ConfigError(text, code="KMS_ROLE")


def build_key_policy(builds: Sequence[Measurements], roles: KeyRoles, model_ids: Sequence[str]) -> str:
    """Return the key policy as JSON for `CreateKey` or `PutKeyPolicy`.

    Raises:
        ConfigError: no build or no model (an empty list would not restrict), one given twice, a model id that no
            manifest can have, or more of them than AWS takes in one policy.
    """
    _require_lists(builds, model_ids)
    models = sorted(model_ids)
    statements = [
        _allow("Administration", roles.admin, _ADMINISTRATION),
        _allow("PublisherLooks", roles.publisher, ["DescribeKey"]),
        _allow("Publishing", roles.publisher, ["GenerateDataKey"], _context(models)),
        *(_release(number, roles.host, models, build) for number, build in enumerate(builds, start=1)),
        _deny("NoReleaseWithoutAttestation", ["Decrypt", "ReEncrypt*"], {"Null": {_register("ImageSha384"): "true"}}),
        *(_no_other_build(index, builds) for index in _IMAGE),
        _deny("NoOtherWayOut", ["CreateGrant", "ImportKeyMaterial", "ReplicateKey"], {}),
    ]
    text = json.dumps({"Version": _VERSION, "Statement": statements}, indent=1)
    if len(text) > MAX_POLICY_BYTES:
        what = f"{len(builds)} builds and {len(models)} models make a policy of {len(text):,} bytes"
        raise ConfigError(f"{what}, AWS takes {MAX_POLICY_BYTES:,}: use a key per model", code="KMS_POLICY_SIZE")
    return text


def _require_lists(builds: Sequence[Measurements], model_ids: Sequence[str]) -> None:
    if not builds or not model_ids:
        raise ConfigError("name at least one accepted build and at least one model", code="KMS_POLICY_EMPTY")
    pinned = [tuple(build.pinned.items()) for build in builds]
    if len(set(pinned)) != len(pinned) or len(set(model_ids)) != len(model_ids):
        raise ConfigError("a build or a model is given twice", code="KMS_POLICY_DUPLICATE")
    for model_id in model_ids:
        if not _MODEL_ID.fullmatch(model_id):
            raise ConfigError(f"{model_id[:200]!r} is no model id", code="KMS_MODEL_ID")


def _release(number: int, arn: str, models: list[str], build: Measurements) -> Statement:
    # One statement per build: lists of values inside one statement would accept PCR0 of one build with PCR1 of another.
    measured = {_register(f"PCR{index}"): value.hex() for index, value in build.pinned.items()}
    return _allow(f"Release{number}", arn, ["Decrypt"], {**_context(models), "StringEqualsIgnoreCase": measured})


def _no_other_build(index: int, builds: Sequence[Measurements]) -> Statement:
    # A negated operator holds when the key is absent, so this stops unattested calls too. Conditions of one statement
    # must all hold, hence one statement per register. Which values belong together, the Allow statements say.
    values = sorted({build.pinned[index].hex() for build in builds})
    conditions = {"StringNotEqualsIgnoreCase": {_register(f"PCR{index}"): values}}
    return _deny(f"NoReleaseToOtherPCR{index}", ["Decrypt"], conditions)


def _context(models: list[str]) -> Conditions:
    # ForAllValues alone would admit an empty context, and a context without a version; Null closes both.
    first, *others = CONTEXT_KEYS
    return {
        "StringEquals": {f"kms:EncryptionContext:{first}": models},
        "Null": {f"kms:EncryptionContext:{key}": "false" for key in others},
        "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": list(CONTEXT_KEYS)},
    }


def _register(name: str) -> str:
    return f"kms:RecipientAttestation:{name}"


def _allow(sid: str, arn: str, actions: Sequence[str], conditions: Conditions | None = None) -> Statement:
    return _statement(sid, "Allow", {"AWS": arn}, actions, conditions or {})


def _deny(sid: str, actions: Sequence[str], conditions: Conditions) -> Statement:
    return _statement(sid, "Deny", "*", actions, conditions)


def _statement(sid: str, effect: str, principal: object, actions: Sequence[str], conditions: Conditions) -> Statement:
    statement: Statement = {
        "Sid": sid,
        "Effect": effect,
        "Principal": principal,
        "Action": [f"kms:{action}" for action in actions],
        "Resource": "*",
    }
    return {**statement, "Condition": conditions} if conditions else statement
