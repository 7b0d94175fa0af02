"""One authenticated call on its way through this KMS."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ephemeral_devstack.credentials import RoleCredentials
from ephemeral_devstack.kms.keys import KmsKey
from ephemeral_devstack.kms.policy import Access
from ephemeral_devstack.kms.recipient import Recipient
from ephemeral_devstack.kms.request import Parameters


@dataclass(slots=True)
class KmsCall:
    """One authenticated call, and what becomes known of it on the way; the audit log reads it at the end."""

    operation: str
    role: RoleCredentials
    parameters: Parameters
    now: datetime
    key: KmsKey | None = None
    recipient: Recipient | None = None
    encryption_context: dict[str, str] = field(default_factory=dict)

    def condition_keys(self) -> Mapping[str, frozenset[str]]:
        """Return every condition key of the call, named in lower case."""
        pairs = {f"kms:EncryptionContext:{key}": frozenset({text}) for key, text in self.encryption_context.items()}
        names = {"kms:EncryptionContextKeys": frozenset(self.encryption_context)} if pairs else {}
        caller = {
            "aws:PrincipalArn": self.role.arn,
            "kms:CallerAccount": self.role.account,
            "aws:SecureTransport": "false",
        }
        keys = {name: frozenset({value}) for name, value in caller.items()} | pairs | names
        measured = self.recipient.condition_keys() if self.recipient else {}
        return {name.lower(): values for name, values in (keys | measured).items()}

    def access(self, action: str) -> Access:
        """Return what a key policy decides on."""
        return Access(self.role.arn, action, self.condition_keys())

    def audit(self) -> Mapping[str, object]:
        """Return what the audit log keeps of the call."""
        return {
            "operation": self.operation,
            "principal": self.role.arn,
            "access_key_id": self.role.access_key_id,
            "key_arn": self.key.arn if self.key else None,
            "encryption_context": self.encryption_context,
            "recipient": self.recipient.audit() if self.recipient else None,
        }
