"""The Nitro Security Module: attestation documents and entropy (CBOR over one ioctl, as in AWS's nsm-api)."""

import array
import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from ephemeral.errors import AttestationError
from ephemeral.trusted.cbor import CborError, decode_nsm, encode

DEVICE: Final = Path("/dev/nsm")
MAX_REQUEST_BYTES: Final = 0x1000
MAX_RESPONSE_BYTES: Final = 0x3000
# _IOWR(0x0A, 0, struct nsm_raw): two iovecs of a pointer and a length each.
_IOCTL: Final = (3 << 30) | (32 << 16) | (0x0A << 8)
_RAW: Final = struct.Struct("@QQQQ")


class SecurityModule(Protocol):
    """Signs attestation documents over this enclave's measurements."""

    def attest(self, *, public_key: bytes, user_data: bytes | None, nonce: bytes | None) -> bytes:
        """Return an attestation document with these bindings.

        Raises:
            AttestationError: the module refused or cannot be reached.
        """


class NitroSecurityModule:
    """The module's CBOR protocol over an exchange of one request for one response."""

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange

    def attest(self, *, public_key: bytes, user_data: bytes | None, nonce: bytes | None) -> bytes:
        """Ask for an attestation document; see SecurityModule.attest."""
        fields = {"public_key": public_key, "user_data": user_data, "nonce": nonce}
        match self._request({"Attestation": fields}):
            case {"Attestation": {"document": bytes() as document}}:
                return document
            case {"Error": str() as reason}:
                raise AttestationError(f"the security module refused: {reason[:100]}", code="NSM_REFUSED")
            case _:
                raise AttestationError("the security module's answer is not understood", code="NSM_ANSWER")

    def _request(self, message: dict[str, object]) -> object:
        request = encode(message)
        if len(request) > MAX_REQUEST_BYTES:
            raise ValueError("the request is larger than the module takes")
        try:
            return decode_nsm(self._exchange(request), max_bytes=MAX_RESPONSE_BYTES)
        except (OSError, CborError) as error:
            raise AttestationError(f"the security module does not answer: {error}", code="NSM_UNREACHABLE") from None


def device_exchange(device: Path = DEVICE) -> Callable[[bytes], bytes]:
    """Return an exchange over the kernel's NSM device."""

    def exchange(request: bytes) -> bytes:
        outgoing = ctypes.create_string_buffer(request, len(request))
        incoming = ctypes.create_string_buffer(MAX_RESPONSE_BYTES)
        addresses = (ctypes.addressof(outgoing), len(request), ctypes.addressof(incoming), MAX_RESPONSE_BYTES)
        raw = array.array("B", _RAW.pack(*addresses))
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _IOCTL, raw, True)  # noqa: FBT003  # mutate_flag is positional-only
        finally:
            os.close(descriptor)
        return incoming.raw[: _RAW.unpack(raw)[3]]

    return exchange
