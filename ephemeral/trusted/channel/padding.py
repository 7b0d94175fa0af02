"""Padding: what a frame's size may say about its message."""

import struct
from typing import Final

from ephemeral.errors import FrameRejected
from ephemeral.protocol import MIN_PADDED_BYTES

_LENGTH: Final = struct.Struct(">I")


def padded_size(size: int) -> int:
    """Return the Padme bucket of `size` bytes: at most 12 % larger, and log log many buckets (Nikitin et al., 2019)."""
    size = max(size, MIN_PADDED_BYTES)
    exponent = size.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (size + mask) & ~mask


def pad(message: bytes) -> bytes:
    """Prefix the length and fill with zeros to the bucket."""
    body = _LENGTH.pack(len(message)) + message
    return body.ljust(padded_size(len(body)), b"\0")


def unpad(padded: bytes) -> bytes:
    """Undo pad().

    Raises:
        FrameRejected: the length lies or the padding is not what pad() writes.
    """
    end = _LENGTH.size + int.from_bytes(padded[: _LENGTH.size], "big")
    if len(padded) != padded_size(end) or padded[end:] != bytes(len(padded) - end):
        raise FrameRejected("the frame was refused")
    return padded[_LENGTH.size : end]
