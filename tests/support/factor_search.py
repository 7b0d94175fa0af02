"""Looking for an RSA private key in another process's memory, from outside, with nothing but its public half.

Whoever has one prime has the key. OpenSSL keeps a prime of a 2,048-bit key as 16 words of 64 bits, least first, with
the two highest bits set; whatever looks like that is tried as a divisor of the modulus.
"""

import numpy as np

from ephemeral_devstack.memory import mapped_windows

_WORDS = 16
_PRIME_BYTES = 8 * _WORDS


def holds_factor(pid: int, modulus: int) -> bool:
    """Whether any readable mapping of process `pid` holds a prime factor of the 2,048-bit `modulus`."""
    return any(_divides(window, modulus) for window in mapped_windows(pid, overlap=_PRIME_BYTES))


def _divides(window: bytes, modulus: int) -> bool:
    words = np.frombuffer(window, "<u8", count=len(window) // 8)
    if len(words) < _WORDS:
        return False
    lowest, highest = words[: len(words) - _WORDS + 1], words[_WORDS - 1 :]
    places = np.flatnonzero((lowest & 1 == 1) & (highest >> np.uint64(62) == 3))
    starts = (int(place) * 8 for place in places)
    return any(modulus % int.from_bytes(window[at : at + _PRIME_BYTES], "little") == 0 for at in starts)
