"""Encrypted model containers, sealed under the data key of their context, wrong in one way."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ephemeral.errors import ContainerError
from tests.refusals.case import Case, Family
from tests.refusals.keys import stream

DATA_KEY, CONTAINER_ID, PREFIX = stream("container data key", 32), stream("container id", 16), stream("nonce prefix", 4)
CHUNK = 4096
FILES = {"config.json": bytes(CHUNK), "model.safetensors": bytes(CHUNK) + b"the last chunk"}
PLAINTEXT = b"".join(FILES.values())


@dataclass(frozen=True)
class Sealing:
    """A container as it is sealed; every field is a knob (SPEC section 13)."""

    data_key: bytes = DATA_KEY
    container_id: bytes = CONTAINER_ID
    version: int = 1
    last: int = 2  # which chunk is marked as the final one

    @property
    def header(self) -> bytes:
        """Return the header every chunk is bound to."""
        return b"EPHMODEL" + struct.pack(">HI", self.version, CHUNK) + self.container_id + PREFIX

    def chunks(self, plaintext: bytes = PLAINTEXT) -> list[bytes]:
        """Return the sealed chunks."""
        key = HKDF(SHA256(), 32, self.container_id, b"ephemeralml/1 container").derive(self.data_key)
        pieces = [plaintext[start : start + CHUNK] for start in range(0, len(plaintext), CHUNK)]
        return [
            ChaCha20Poly1305(key).encrypt(
                PREFIX + struct.pack(">Q", index), piece, self.header + struct.pack(">QB", index, index == self.last)
            )
            for index, piece in enumerate(pieces)
        ]

    def container(self) -> bytes:
        """Return the header and the chunks."""
        return self.header + b"".join(self.chunks())


SOUND = Sealing()
HEADER, (ONE, TWO, THREE) = SOUND.header, SOUND.chunks()
RAW = SOUND.container()


def context(container: bytes, files: Sequence[tuple[str, bytes]] = tuple(FILES.items())) -> dict[str, Any]:
    """Return what the manifest says: the digest is that of the container as it is, so that it cannot be what fails."""
    return {
        "public_test_data_key": DATA_KEY,
        "container": {
            "key": "models/m.bin",
            "sha256": sha256(container).digest(),
            "size": len(RAW),
            "chunk_bytes": CHUNK,
            "container_id": CONTAINER_ID,
        },
        "files": [{"name": name, "sha256": sha256(text).digest(), "size": len(text)} for name, text in files],
    }


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    yield Case("control", "D10", "a sound container of three chunks", RAW, context(RAW))
    for name, threat, says, raw in _corrupt():
        yield Case(name, threat, says, raw, context(raw), ContainerError, "CONTAINER_CORRUPT")
    for name, threat, says, code, raw, how in _elsewhere():
        yield Case(name, threat, says, raw, how, ContainerError, code)


def _corrupt() -> Iterator[tuple[str, str, str, bytes]]:
    other = Sealing(container_id=stream("another container", 16))
    yield "chunks-swapped", "D10", "the first two chunks have changed places", HEADER + TWO + ONE + THREE
    yield "chunk-repeated", "D10", "the first chunk stands in the second's place too", HEADER + ONE + ONE + THREE
    yield "chunk-damaged", "D10", "one bit of a chunk is changed", HEADER + bytes([ONE[0] ^ 1]) + ONE[1:] + TWO + THREE
    yield "chunk-foreign", "D10", "a chunk of another container", HEADER + other.chunks()[0] + TWO + THREE
    yield "container-foreign", "E1", "another container under the same data key", other.container()
    yield (
        "data-key-other",
        "D4",
        "sealed under another data key",
        Sealing(data_key=stream("another data key", 32)).container(),
    )
    yield "version-2", "D10", "another version of the format, sealed so", Sealing(version=2).container()
    yield "end-not-final", "D10", "no chunk is marked as the final one", Sealing(last=9).container()
    yield "end-early", "D10", "the second chunk is marked as the final one", Sealing(last=1).container()


def _elsewhere() -> Iterator[tuple[str, str, str, str, bytes, dict[str, Any]]]:
    yield "truncated", "D10", "the last chunk is missing", "CONTAINER_TRUNCATED", HEADER + ONE + TWO, context(RAW)
    yield "extended", "D10", "a byte follows the last chunk", "CONTAINER_EXTENDED", RAW + b"\0", context(RAW)
    says = "opens, and is not the container that the manifest names"
    yield "digest-other", "E1", says, "CONTAINER_DIGEST", RAW, context(b"another container")
    texts = list(FILES.values())
    altered = [("config.json", b"\1" * CHUNK), ("model.safetensors", texts[1])]
    yield "file-other", "E12", "a file is not the manifest's", "MODEL_FILE_DIGEST", RAW, context(RAW, altered)
    swapped = [("model.safetensors", texts[1]), ("config.json", texts[0])]
    yield "files-swapped", "E12", "the files lie in another order", "MODEL_FILE_DIGEST", RAW, context(RAW, swapped)


FAMILY = Family(
    "containers",
    "Encrypted model containers, sealed as they stand under the public test data key of the context; the digest in the "
    "context is their own, unless the digest is what is wrong. SPEC section 13.",
    cases,
)
