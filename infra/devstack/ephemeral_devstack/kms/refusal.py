"""KMS's errors under AWS's names, as they go over the wire."""

from typing import Final

# AWS KMS API reference, "Errors" of each operation; what is not listed is 400.
_STATUS: Final = {
    "DisabledException": 409,
    "KMSInvalidStateException": 409,
    "DryRunOperationException": 412,
    "KMSInternalException": 500,
}


class Refusal(Exception):
    """An answer that is an error: AWS's name for it and a line for a person."""

    def __init__(self, name: str, message: str) -> None:
        """Take the name an SDK matches on, e.g. `AccessDeniedException`."""
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message

    @property
    def status(self) -> int:
        """Return the HTTP status that AWS documents for the name."""
        return _STATUS.get(self.name, 400)


def invalid(message: str) -> Refusal:
    """Return the refusal of a request that breaks the API's constraints."""
    return Refusal("ValidationException", message)
