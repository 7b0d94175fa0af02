"""A spy on the cipher: every (key, nonce) that anything was sealed with, and a violation when one comes back."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ephemeral.trusted.channel import lane
from tests.adversary.oracle import Violation


class NonceSpy:
    """Every seal since `start`."""

    def __init__(self) -> None:
        self.seen: set[tuple[bytes, bytes]] = set()
        self.seals = 0

    def start(self) -> None:
        """Forget what was sealed before: keys of one schedule are never those of another."""
        self.seen.clear()

    def sealed(self, key: bytes, nonce: bytes) -> None:
        self.seals += 1
        if (key, nonce) in self.seen:
            raise Violation("a nonce was used twice under one key")
        self.seen.add((key, nonce))


@contextmanager
def watched() -> Iterator[NonceSpy]:
    """Put the product's own cipher behind a spy for the block; it still is the cipher that encrypts."""
    spy = NonceSpy()

    class Watched:
        def __init__(self, key: bytes) -> None:
            self._key = key
            self._cipher = ChaCha20Poly1305(key)
            self.decrypt = self._cipher.decrypt

        def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
            spy.sealed(self._key, nonce)
            return self._cipher.encrypt(nonce, data, associated_data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane, "ChaCha20Poly1305", Watched)
        yield spy
