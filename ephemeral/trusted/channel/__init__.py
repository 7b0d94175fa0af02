"""The sealed channel of an open session (docs/SPEC.md, "Frames"): both sides, no IO.

::

    key, iv    = HKDF-Expand(secret, "key", 32), HKDF-Expand(secret, "iv", 12)          per direction
    nonce      = iv XOR (sequence u64 BE || chunk u32 BE)
    AAD        = "ephemeralml/1" || session_id || direction u8 || method u8 || sequence u64 || chunk u32 || final u8
    plaintext  = u32 length || message || zero padding to a Padme bucket

A nonce is used once because a (direction, sequence, chunk) is sealed once: the client hands out each sequence once, and
the enclave can seal only through the Request that opening a fresh sequence returned.
"""

from ephemeral.trusted.channel.client import Answer, ClientChannel
from ephemeral.trusted.channel.enclave import EnclaveChannel, Request
from ephemeral.trusted.channel.lane import Lane, Position, lanes
from ephemeral.trusted.channel.padding import pad, padded_size, unpad
from ephemeral.trusted.channel.window import ReplayWindow
from ephemeral.trusted.hkdf import expand

__all__ = [
    "Answer",
    "ClientChannel",
    "EnclaveChannel",
    "Lane",
    "Position",
    "ReplayWindow",
    "Request",
    "expand",
    "lanes",
    "pad",
    "padded_size",
    "unpad",
]
