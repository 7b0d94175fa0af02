"""Symmetric KMS keys: their states, and wrapping under them with the encryption context as associated data."""

import os
import threading
import uuid
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ephemeral.trusted.cbor import encode
from ephemeral_devstack.credentials import REGION
from ephemeral_devstack.kms.policy import KeyPolicy
from ephemeral_devstack.kms.refusal import Refusal

_BLOB_VERSION: Final = b"\x01"
_ID_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_HEADER_BYTES: Final = len(_BLOB_VERSION) + _ID_BYTES
_MASTER_KEY_BITS: Final = 256


class KeyState(StrEnum):
    """KMS's names of the states a key of ours can be in."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"


class KmsKey:
    """One key; its master key never leaves this object."""

    def __init__(self, account: str, policy: KeyPolicy, description: str = "") -> None:
        self.id = uuid.uuid4()
        self.arn = f"arn:aws:kms:{REGION}:{account}:key/{self.id}"
        self.policy = policy
        self.description = description
        self.state = KeyState.ENABLED
        self.created = datetime.now(UTC)
        self.deletion: datetime | None = None
        self._account = account
        self._aead = AESGCM(AESGCM.generate_key(_MASTER_KEY_BITS))

    def wrap(self, plaintext: bytes, context: dict[str, str]) -> bytes:
        """Encrypt up to 4 KiB; the blob names this key, and opens only under the same encryption context."""
        header, nonce = _BLOB_VERSION + self.id.bytes, os.urandom(_NONCE_BYTES)
        return header + nonce + self._aead.encrypt(nonce, plaintext, header + encode(context))

    def unwrap(self, blob: bytes, context: dict[str, str]) -> bytes:
        """Decrypt what `wrap` made.

        Raises:
            Refusal: InvalidCiphertextException; damaged, or another encryption context.
        """
        header, nonce, sealed = blob[:_HEADER_BYTES], blob[_HEADER_BYTES:][:_NONCE_BYTES], blob[_HEADER_BYTES:]
        try:
            return self._aead.decrypt(nonce, sealed[_NONCE_BYTES:], header + encode(context))
        except (InvalidTag, ValueError):
            raise _bad_ciphertext() from None

    def require_usable(self) -> None:
        """Return if the key is enabled.

        Raises:
            Refusal: DisabledException or KMSInvalidStateException.
        """
        if self.state is KeyState.DISABLED:
            raise Refusal("DisabledException", f"{self.arn} is disabled.")
        self.require_kept()

    def require_kept(self) -> None:
        """Return unless the key is pending deletion.

        Raises:
            Refusal: KMSInvalidStateException.
        """
        if self.state is KeyState.PENDING_DELETION:
            raise Refusal("KMSInvalidStateException", f"{self.arn} is pending deletion.")

    def schedule_deletion(self, days: int) -> datetime:
        """Put the key out of use for good; nothing is deleted before the process ends."""
        self.state, self.deletion = KeyState.PENDING_DELETION, datetime.now(UTC) + timedelta(days=days)
        return self.deletion

    def metadata(self) -> dict[str, object]:
        """Return KMS's KeyMetadata."""
        metadata: dict[str, object] = {
            "AWSAccountId": self._account,
            "KeyId": str(self.id),
            "Arn": self.arn,
            "CreationDate": self.created.timestamp(),
            "Enabled": self.state is KeyState.ENABLED,
            "Description": self.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": self.state.value,
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "MultiRegion": False,
        }
        return metadata if self.deletion is None else {**metadata, "DeletionDate": self.deletion.timestamp()}


class KeyRing:
    """Every key of this KMS, found by id, by ARN or by what a blob says; safe for the server's threads."""

    def __init__(self) -> None:
        self._keys: dict[uuid.UUID, KmsKey] = {}
        self._lock = threading.Lock()

    def add(self, key: KmsKey) -> None:
        """Keep a new key."""
        with self._lock:
            self._keys[key.id] = key

    def find(self, name: str) -> KmsKey:
        """Return the key with this id or ARN.

        Raises:
            Refusal: NotFoundException.
        """
        try:
            key = self._keys[uuid.UUID(name.rpartition("/")[2])]
        except (KeyError, ValueError):
            key = None
        if key is None or name not in (str(key.id), key.arn):
            raise Refusal("NotFoundException", f"Key '{name[:200]}' does not exist")
        return key

    def of_blob(self, blob: bytes) -> KmsKey:
        """Return the key that a ciphertext blob names.

        Raises:
            Refusal: InvalidCiphertextException.
        """
        named = blob[len(_BLOB_VERSION) : _HEADER_BYTES]
        key = self._keys.get(uuid.UUID(bytes=named)) if len(named) == _ID_BYTES else None
        if key is None or blob[:1] != _BLOB_VERSION:
            raise _bad_ciphertext()
        return key


def _bad_ciphertext() -> Refusal:
    return Refusal("InvalidCiphertextException", "The ciphertext or its encryption context is not valid.")
