"""The key policy of the development stack, in the shape that a production key needs.

The publisher wraps, only with an encryption context that names the model. The host may have data keys unwrapped only to
an enclave of one accepted build, all three measurements together. Whatever else grants, nobody decrypts unattested.
"""

import json
from collections.abc import Sequence

from ephemeral.trusted.policy import Measurements
from ephemeral_devstack.kms.conditions import strings

Statement = dict[str, object]
_CONTEXT_KEYS = ("model_id", "version", "content_sha256")


def development_key_policy(
    *, publisher_arn: str, host_arn: str, measurements: Sequence[Measurements], model_ids: Sequence[str]
) -> str:
    """Return the policy document as JSON for `CreateKey` or `PutKeyPolicy`.

    Raises:
        ValueError: no measurements or no models; an empty list would not restrict.
    """
    if not measurements:
        raise ValueError("name at least one accepted build")
    models = list(strings(list(model_ids), "model_ids"))
    statements = [
        _administration(publisher_arn),
        _publishing(publisher_arn, models),
        *(_release(host_arn, models, build) for build in measurements),
        _no_release_without_attestation(),
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=1)


def _administration(arn: str) -> Statement:
    actions = ["DescribeKey", "GetKeyPolicy", "PutKeyPolicy", "DisableKey", "EnableKey", "ScheduleKeyDeletion"]
    return _statement("Administration", arn, actions)


def _publishing(arn: str, models: list[str]) -> Statement:
    return _statement("Publishing", arn, ["GenerateDataKey", "Encrypt"], _context(models))


def _release(arn: str, models: list[str], build: Measurements) -> Statement:
    # One statement per build: lists of values inside one statement would accept PCR0 of one build with PCR1 of another.
    registers = {0: build.pcr0, 1: build.pcr1, 2: build.pcr2, 3: build.pcr3, 4: build.pcr4, 8: build.pcr8}
    measured: dict[str, object] = {
        f"kms:RecipientAttestation:PCR{index}": value.hex() for index, value in registers.items() if value is not None
    }
    conditions: dict[str, dict[str, object]] = {**_context(models), "StringEqualsIgnoreCase": measured}
    sid = f"Release{build.pcr0.hex()[:16]}"
    return _statement(sid, arn, ["Decrypt"], conditions)


def _no_release_without_attestation() -> Statement:
    return {
        "Sid": "NoReleaseWithoutAttestation",
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["kms:Decrypt", "kms:ReEncrypt*"],
        "Resource": "*",
        "Condition": {"Null": {"kms:RecipientAttestation:ImageSha384": "true"}},
    }


def _context(models: list[str]) -> dict[str, dict[str, object]]:
    # ForAllValues alone would admit an empty context; the model_id that must equal closes that.
    return {
        "StringEquals": {"kms:EncryptionContext:model_id": models},
        "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": list(_CONTEXT_KEYS)},
    }


def _statement(
    sid: str, arn: str, actions: list[str], conditions: dict[str, dict[str, object]] | None = None
) -> Statement:
    statement: Statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": arn},
        "Action": [f"kms:{action}" for action in actions],
        "Resource": "*",
    }
    return statement if conditions is None else {**statement, "Condition": conditions}
