"""Sealing a model into a container, on the publisher's machine."""

import os
from collections.abc import Iterable, Iterator

from ephemeral.trusted.artifact.layout import (
    NONCE_PREFIX_BYTES,
    check_chunk_bytes,
    check_container_id,
    chunk_aad,
    chunk_nonce,
    container_cipher,
    encode_header,
)
from ephemeral.trusted.secrets import SecretBytes


def seal_container(
    plaintext: Iterable[bytes], dek: SecretBytes, *, chunk_bytes: int, container_id: bytes
) -> Iterator[bytes]:
    """Yield the header, then each sealed chunk; holds one chunk in memory, whatever the pieces of `plaintext` are.

    The data key MUST be fresh: sealing two plaintexts under one data key and container id would repeat nonces.

    Raises:
        ValueError: a size is out of range, or there is no plaintext.
    """
    check_chunk_bytes(chunk_bytes)
    check_container_id(container_id)
    cipher = container_cipher(dek, container_id)
    header = encode_header(chunk_bytes, container_id, os.urandom(NONCE_PREFIX_BYTES))
    yield header
    chunks = _rechunk(plaintext, chunk_bytes)
    chunk, index = next(chunks, None), 0
    if chunk is None:
        raise ValueError("nothing to seal")
    while chunk is not None:
        following = next(chunks, None)
        aad = chunk_aad(header, index, final=following is None)
        yield cipher.encrypt(chunk_nonce(header, index), chunk, aad)
        chunk, index = following, index + 1


def _rechunk(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield blocks of `size` bytes, the last one shorter, from pieces of any size, in linear time."""
    block = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        while view:
            taken = view[: size - len(block)]
            block += taken
            view = view[len(taken) :]
            if len(block) == size:
                yield bytes(block)
                block.clear()
    if block:
        yield bytes(block)
