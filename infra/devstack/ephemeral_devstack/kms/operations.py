"""The operations of this KMS: who may, then in which state, then the cryptography; the order in which AWS decides."""

import base64
import os
from collections.abc import Callable, Collection, Mapping
from typing import Final

from ephemeral.trusted.policy import RootOfTrust
from ephemeral_devstack.kms.call import KmsCall
from ephemeral_devstack.kms.keys import KeyRing, KeyState, KmsKey
from ephemeral_devstack.kms.policy import MAX_POLICY_CHARACTERS, KeyPolicy, Verdict
from ephemeral_devstack.kms.recipient import Recipient
from ephemeral_devstack.kms.refusal import Refusal, invalid
from ephemeral_devstack.kms.request import Parameters

Answer = dict[str, object]
_MAX_PLAINTEXT_BYTES: Final = 4_096
_MAX_BLOB_BYTES: Final = 6_144
_MAX_RANDOM_BYTES: Final = 1_024
_KEY_SPECS: Final = {"AES_256": 32, "AES_128": 16}
_POLICY_NAME: Final = "default"


class Operations:
    """The keys, and what can be done with them."""

    def __init__(self, roots: Collection[RootOfTrust], key_creators: Collection[str]) -> None:
        """Trust `roots` for attestation documents; roles with an ARN in `key_creators` may create keys."""
        self._roots = roots
        self._key_creators = key_creators
        self._keys = KeyRing()
        self._table: Mapping[str, Callable[[KmsCall], Answer]] = {
            "CreateKey": self._create_key,
            "DescribeKey": self._describe_key,
            "PutKeyPolicy": self._put_key_policy,
            "GetKeyPolicy": self._get_key_policy,
            "DisableKey": lambda call: self._set_state(call, KeyState.DISABLED),
            "EnableKey": lambda call: self._set_state(call, KeyState.ENABLED),
            "ScheduleKeyDeletion": self._schedule_key_deletion,
            "GenerateDataKey": self._generate_data_key,
            "Decrypt": self._decrypt,
            "Encrypt": self._encrypt,
            "GenerateRandom": self._generate_random,
        }

    def perform(self, call: KmsCall) -> Answer:
        """Perform one call.

        Raises:
            Refusal: whatever AWS would answer.
        """
        operation = self._table.get(call.operation)
        if operation is None:
            raise Refusal("UnknownOperationException", f"{call.operation[:100]} is not simulated")
        call.encryption_context = call.parameters.encryption_context()
        self.admit_recipient(call)
        return operation(call)

    def admit_recipient(self, call: KmsCall) -> None:
        """Verify the Recipient of the call, if it has one.

        Raises:
            Refusal: ValidationException.
        """
        structure = call.parameters.structure("Recipient")
        if structure is not None and call.recipient is None:
            call.recipient = Recipient.verify(structure, self._roots, call.now)

    def swapped_blob(self, call: KmsCall) -> str:
        """Return base64 of a blob that opens as the call's own does, but to another data key."""
        key = self._keys.of_blob(call.parameters.blob("CiphertextBlob", most=_MAX_BLOB_BYTES))
        return _base64(key.wrap(os.urandom(32), call.parameters.encryption_context()))

    def _create_key(self, call: KmsCall) -> Answer:
        if call.role.arn not in self._key_creators:
            raise _denied(call, "kms:CreateKey", "*", "because no identity-based policy allows the action")
        for name, only in {"KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT"}.items():
            if call.parameters.optional_text(name) not in (None, only):
                raise Refusal("UnsupportedOperationException", f"{name} must be {only}")
        # AWS's default policy hands the key to IAM, which is no attestation: here a policy must be given.
        policy = self._parse_policy(call)
        call.key = KmsKey(call.role.account, policy, call.parameters.optional_text("Description", most=8_192) or "")
        self._keys.add(call.key)
        return {"KeyMetadata": call.key.metadata()}

    def _describe_key(self, call: KmsCall) -> Answer:
        return {"KeyMetadata": self._authorised_key(call).metadata()}

    def _put_key_policy(self, call: KmsCall) -> Answer:
        key = self._authorised_key(call)
        _require_default_name(call)
        key.require_kept()
        key.policy = self._parse_policy(call)
        return {}

    def _get_key_policy(self, call: KmsCall) -> Answer:
        key = self._authorised_key(call)
        _require_default_name(call)
        return {"Policy": key.policy.text, "PolicyName": _POLICY_NAME}

    def _set_state(self, call: KmsCall, state: KeyState) -> Answer:
        key = self._authorised_key(call)
        key.require_kept()
        key.state = state
        return {}

    def _schedule_key_deletion(self, call: KmsCall) -> Answer:
        key = self._authorised_key(call)
        key.require_kept()
        days = call.parameters.number("PendingWindowInDays", least=7, most=30) or 30
        moment = key.schedule_deletion(days)
        return {"KeyId": key.arn, "DeletionDate": moment.timestamp(), "KeyState": key.state.value}

    def _generate_data_key(self, call: KmsCall) -> Answer:
        key = self._usable_key(call)
        plaintext = os.urandom(_data_key_bytes(call.parameters))
        blob = _base64(key.wrap(plaintext, call.encryption_context))
        return {"KeyId": key.arn, "CiphertextBlob": blob, **_released(call, plaintext)}

    def _encrypt(self, call: KmsCall) -> Answer:
        key = self._usable_key(call)
        plaintext = call.parameters.blob("Plaintext", most=_MAX_PLAINTEXT_BYTES)
        blob = _base64(key.wrap(plaintext, call.encryption_context))
        return {"KeyId": key.arn, "CiphertextBlob": blob, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}

    def _decrypt(self, call: KmsCall) -> Answer:
        blob = call.parameters.blob("CiphertextBlob", most=_MAX_BLOB_BYTES)
        call.key = self._keys.of_blob(blob)
        named = call.parameters.optional_text("KeyId")
        if named is not None and self._keys.find(named) is not call.key:
            raise Refusal(
                "IncorrectKeyException", "The key ID in the request does not identify a key that can decrypt this."
            )
        self._authorise(call, call.key)
        self._require_usable(call, call.key)
        plaintext = call.key.unwrap(blob, call.encryption_context)
        return {"KeyId": call.key.arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", **_released(call, plaintext)}

    def _generate_random(self, call: KmsCall) -> Answer:
        size = call.parameters.number("NumberOfBytes", least=1, most=_MAX_RANDOM_BYTES)
        if size is None:
            raise invalid("NumberOfBytes is required")
        return _released(call, os.urandom(size))

    def _authorised_key(self, call: KmsCall) -> KmsKey:
        call.key = self._keys.find(call.parameters.text("KeyId"))
        self._authorise(call, call.key)
        return call.key

    def _usable_key(self, call: KmsCall) -> KmsKey:
        key = self._authorised_key(call)
        self._require_usable(call, key)
        return key

    def _authorise(self, call: KmsCall, key: KmsKey) -> None:
        action = f"kms:{call.operation}"
        verdict = key.policy.decide(call.access(action))
        if verdict is not Verdict.ALLOWED:
            raise _denied(call, action, key.arn, verdict.value)

    def _require_usable(self, call: KmsCall, key: KmsKey) -> None:
        key.require_usable()
        if call.parameters.flag("DryRun"):
            raise Refusal("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")

    def _parse_policy(self, call: KmsCall) -> KeyPolicy:
        policy = KeyPolicy.parse(call.parameters.text("Policy", most=MAX_POLICY_CHARACTERS))
        # AWS's lockout check: who puts a policy must be able to put the next one.
        may_put_again = policy.decide(call.access("kms:PutKeyPolicy")) is Verdict.ALLOWED
        if not may_put_again and not call.parameters.flag("BypassPolicyLockoutSafetyCheck"):
            raise Refusal(
                "MalformedPolicyDocumentException",
                "The new key policy will not allow you to update the key policy in the future.",
            )
        return policy


def forged_answer(call: KmsCall) -> Answer:
    """Return what a dishonest host makes up: well-formed CMS of its own key to the key it read in the document.

    No secret of KMS is needed for it, which is the point: the recipient must know its data key by other means.
    """
    if call.recipient is None:
        raise invalid("forge_cms needs a Recipient")
    return {"KeyId": "", "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", **_released(call, os.urandom(32))}


def _released(call: KmsCall, plaintext: bytes) -> Answer:
    if call.recipient is None:
        return {"Plaintext": _base64(plaintext)}
    return {"CiphertextForRecipient": _base64(call.recipient.seal(plaintext))}


def _data_key_bytes(parameters: Parameters) -> int:
    spec, size = (
        parameters.optional_text("KeySpec"),
        parameters.number("NumberOfBytes", least=1, most=_MAX_RANDOM_BYTES),
    )
    if (spec is None) == (size is None) or (spec is not None and spec not in _KEY_SPECS):
        raise invalid("give exactly one of KeySpec (AES_256, AES_128) and NumberOfBytes")
    return _KEY_SPECS[spec] if spec is not None else size or 0


def _require_default_name(call: KmsCall) -> None:
    if call.parameters.optional_text("PolicyName") not in (None, _POLICY_NAME):
        raise Refusal("NotFoundException", f"the only key policy is named {_POLICY_NAME}")


def _denied(call: KmsCall, action: str, resource: str, reason: str) -> Refusal:
    text = f"User: {call.role.arn} is not authorized to perform: {action} on resource: {resource} {reason}"
    return Refusal("AccessDeniedException", text)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
