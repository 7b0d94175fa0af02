"""The enclave's own keys: made at boot, held in memory, gone with the process."""

from dataclasses import dataclass, field

from ephemeral.trusted.ed25519 import SigningKey


@dataclass(frozen=True, slots=True)
class EnclaveKeys:
    """One key per purpose: receipts are never signed with the key that signs handshakes."""

    receipt: SigningKey = field(default_factory=SigningKey.generate)
    identity: SigningKey = field(default_factory=SigningKey.generate)
