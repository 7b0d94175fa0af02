"""Seeded mutations, for runs without atheris: the same bytes for the same seed, on every machine."""

import random
from collections.abc import Sequence
from typing import Final

_BOUNDARIES: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x1F, 0x5F, 0x9F, 0xBF, 0xFB, 0x18, 0x1B, 0x3B, 0x5B, 0x7B, 0xDB)
_MOST: Final = 65_536


def mutate(raw: bytes, others: Sequence[bytes], choices: random.Random) -> bytes:
    """Change one to four places of `raw`: flip, replace, cut, repeat, insert, or splice with another input."""
    changed = bytearray(raw)
    for _ in range(choices.randint(1, 4)):
        place = choices.randint(0, len(changed))
        match choices.randrange(6):
            case 0 if changed:
                changed[place % len(changed)] ^= 1 << choices.randrange(8)
            case 1 if changed:
                changed[place % len(changed)] = choices.choice(_BOUNDARIES)
            case 2:
                del changed[place : place + choices.randint(1, 16)]
            case 3:
                changed[place:place] = changed[place : place + choices.randint(1, 64)]
            case 4:
                changed[place:place] = choices.randbytes(choices.randint(1, 9))
            case _:
                other = choices.choice(others)
                changed[place:] = other[choices.randint(0, len(other)) :]
    return bytes(changed[:_MOST])
