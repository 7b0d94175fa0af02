"""The container's layout, and the records of a manifest that describe it."""

import re
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ephemeral.protocol import DEK_BYTES, LABEL_CONTAINER, SHA256_BYTES, TAG_BYTES
from ephemeral.trusted.secrets import SecretBytes

MIN_CHUNK_BYTES: Final = 4096
MAX_CHUNK_BYTES: Final = 16 * 1024 * 1024
MAX_PLAINTEXT_BYTES: Final = 64 * 1024**3
CONTAINER_ID_BYTES: Final = 16
NONCE_PREFIX_BYTES: Final = 4
MAX_NAME_BYTES: Final = 200
MAX_KEY_BYTES: Final = 1024  # Amazon S3: an object key is at most 1,024 bytes of UTF-8
_MAGIC: Final = b"EPHMODEL"
_VERSION: Final = 1
_HEADER: Final = struct.Struct(f">8sHI{CONTAINER_ID_BYTES}s{NONCE_PREFIX_BYTES}s")
HEADER_BYTES: Final = _HEADER.size
_INDEX: Final = struct.Struct(">Q")
_POSITION: Final = struct.Struct(">QB")
# A file, or a file in one folder. No segment starts with a dot, so "..", "." and hidden files cannot be written.
_NAME: Final = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_OBJECT_KEY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=/-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: relative name, SHA-256 and size in bytes of its plaintext."""

    name: str
    sha256: bytes
    size: int

    def __post_init__(self) -> None:
        if len(self.name) > MAX_NAME_BYTES or not _NAME.fullmatch(self.name):
            raise ValueError("a file name is letters, digits, '_', '-' and '.', in at most one folder")
        _check_digest(self.sha256)
        if not 0 <= self.size <= MAX_PLAINTEXT_BYTES:
            raise ValueError("file size is out of range")


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """A stored container: object key, SHA-256 and size of its bytes, plaintext bytes per chunk, random id of 16."""

    key: str
    sha256: bytes
    size: int
    chunk_bytes: int
    container_id: bytes

    def __post_init__(self) -> None:
        if len(self.key) > MAX_KEY_BYTES or not _OBJECT_KEY.fullmatch(self.key):
            raise ValueError("an object key is letters, digits and '_', '-', '.', '=', '/', at most 1,024")
        _check_digest(self.sha256)
        check_chunk_bytes(self.chunk_bytes)
        check_container_id(self.container_id)
        if self.size <= HEADER_BYTES + TAG_BYTES:
            raise ValueError("container size is out of range")


def container_size(plaintext_size: int, chunk_bytes: int) -> int:
    """Return the size of the container that holds `plaintext_size` bytes, at least one.

    Raises:
        ValueError: a size is out of range.
    """
    check_chunk_bytes(chunk_bytes)
    if not 1 <= plaintext_size <= MAX_PLAINTEXT_BYTES:
        raise ValueError(f"a container holds 1 to {MAX_PLAINTEXT_BYTES} bytes")
    return HEADER_BYTES + plaintext_size + TAG_BYTES * -(-plaintext_size // chunk_bytes)


def encode_header(chunk_bytes: int, container_id: bytes, nonce_prefix: bytes) -> bytes:
    """Return the header every chunk is bound to."""
    return _HEADER.pack(_MAGIC, _VERSION, chunk_bytes, container_id, nonce_prefix)


def chunk_nonce(header: bytes, index: int) -> bytes:
    """Return the nonce of chunk `index`: the header's prefix, then the index."""
    return header[-NONCE_PREFIX_BYTES:] + _INDEX.pack(index)


def chunk_aad(header: bytes, index: int, *, final: bool) -> bytes:
    """Return what binds a chunk to its container, its place and the container's end."""
    return header + _POSITION.pack(index, final)


def container_cipher(dek: SecretBytes, container_id: bytes) -> ChaCha20Poly1305:
    """Derive the container's own key from the data key (RFC 5869).

    Raises:
        ValueError: the data key has not 32 bytes.
    """
    if len(dek) != DEK_BYTES:
        raise ValueError(f"a data key has {DEK_BYTES} bytes")
    return ChaCha20Poly1305(HKDF(SHA256(), 32, container_id, LABEL_CONTAINER).derive(dek.reveal()))


def check_chunk_bytes(chunk_bytes: int) -> None:
    """Refuse a chunk size out of range with a ValueError."""
    if not MIN_CHUNK_BYTES <= chunk_bytes <= MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk holds {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES} bytes")


def check_container_id(container_id: bytes) -> None:
    """Refuse an id that is not 16 bytes, or that nobody drew at random, with a ValueError."""
    if len(container_id) != CONTAINER_ID_BYTES or not any(container_id):
        raise ValueError(f"a container id is {CONTAINER_ID_BYTES} random bytes")


def _check_digest(sha256: bytes) -> None:
    if len(sha256) != SHA256_BYTES:
        raise ValueError(f"a SHA-256 has {SHA256_BYTES} bytes")
