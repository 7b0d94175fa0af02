"""The JSON body of one call, read strictly: a value of another type or size is a ValidationException."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Final, Self

from ephemeral_devstack.kms.refusal import Refusal, invalid

MAX_BODY_BYTES: Final = 524_288  # the largest legal call: 262,144 bytes of attestation document in base64, and the rest
_MAX_CONTEXT_CHARACTERS: Final = 8_192


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a call, or of a structure inside it."""

    values: dict[str, object]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read one JSON object.

        Raises:
            Refusal: SerializationException, too large, not JSON, not an object, or a name twice.
        """
        try:
            values = json.loads(body or b"{}", object_pairs_hook=_unique) if len(body) <= MAX_BODY_BYTES else None
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise Refusal("SerializationException", "the body is not one JSON object within the size limit")
        return cls(values)

    def text(self, name: str, *, most: int = 2_048) -> str:
        """Return a required string of 1 to `most` characters."""
        value = self.optional_text(name, most=most)
        if value is None:
            raise invalid(f"{name} is required")
        return value

    def optional_text(self, name: str, *, most: int = 2_048) -> str | None:
        """Return a string of 1 to `most` characters, or None if it is absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not 1 <= len(value) <= most:
            raise invalid(f"{name} must be a string of 1 to {most} characters")
        return value

    def blob(self, name: str, *, most: int) -> bytes:
        """Return required base64 of 1 to `most` bytes."""
        try:
            value = base64.b64decode(self.text(name, most=4 * most), validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"{name} is not base64") from None
        if not 1 <= len(value) <= most:
            raise invalid(f"{name} must have 1 to {most} bytes")
        return value

    def number(self, name: str, *, least: int, most: int) -> int | None:
        """Return an integer of the range, or None if it is absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if type(value) is not int or not least <= value <= most:
            raise invalid(f"{name} must be an integer from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean, false if it is absent."""
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise invalid(f"{name} must be true or false")
        return value

    def structure(self, name: str) -> "Parameters | None":
        """Return a nested object, or None if it is absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid(f"{name} must be an object")
        return Parameters(value)

    def encryption_context(self) -> dict[str, str]:
        """Return the encryption context, empty if it is absent."""
        inner = self.structure("EncryptionContext")
        if inner is None:
            return {}
        pairs = {key: value for key, value in inner.values.items() if isinstance(value, str)}
        if len(pairs) != len(inner.values) or sum(map(len, [*pairs, *pairs.values()])) > _MAX_CONTEXT_CHARACTERS:
            raise invalid(
                f"EncryptionContext must map strings to strings, {_MAX_CONTEXT_CHARACTERS} characters at most"
            )
        # Policy conditions do not tell the keys' case apart (kms:EncryptionContext), so two such keys would be one.
        if len({key.lower() for key in pairs}) != len(pairs):
            raise invalid("EncryptionContext keys must not differ by case only")
        return pairs


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values
