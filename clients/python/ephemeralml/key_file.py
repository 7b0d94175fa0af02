"""Signing keys in files that only their owner can read; never on a command line, never printed."""

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ephemeral.errors import ConfigError
from ephemeral.trusted.ed25519 import SigningKey, VerifyingKey

_MAX_BYTES: Final = 4096
_SEED_BYTES: Final = 32
_MODE: Final = 0o600
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read_signing_key(path: Path) -> SigningKey:
    """Read an Ed25519 private key: PKCS #8 in PEM, or the seed as 64 hex characters (RFC 8032 section 5.1.5).

    Raises:
        ConfigError: unreadable, open to others (KEY_FILE_MODE), or not such a key (KEY_FILE).
    """
    raw = _read_private(path)
    if raw.lstrip().startswith(b"-----BEGIN"):
        return SigningKey(_from_pem(raw, path))
    try:
        seed = bytes.fromhex(raw.decode("ascii"))
    except ValueError:
        seed = b""
    if len(seed) != _SEED_BYTES:
        raise _no_key(path, "neither PEM nor a seed of 64 hex characters")
    return SigningKey.from_seed(seed)


def create_signing_key(path: Path) -> VerifyingKey:
    """Make an Ed25519 key in a new file that only its owner can read; return its public half.

    Raises:
        ConfigError: the file is there already (never overwritten), or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), _MODE)
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"cannot write the key {path}: {error.strerror}", code="FILE_UNWRITABLE") from None
    return SigningKey(key).verifying_key


def _read_private(path: Path) -> bytes:
    try:
        # Without blocking: a FIFO in the file's place would hold the command for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_BYTES + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(f"cannot read the key {path}: {error.strerror}", code="FILE_UNREADABLE") from None
    if not stat.S_ISREG(mode) or len(raw) > _MAX_BYTES:
        raise _no_key(path, "not a small regular file")
    if mode & _OTHERS:
        raise ConfigError(
            f"others may read or write the key {path} (mode {stat.S_IMODE(mode):04o}): chmod 600 it, or make a new key "
            "if they may have done so",
            code="KEY_FILE_MODE",
        )
    return raw


def _from_pem(raw: bytes, path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(raw, password=None)
    except TypeError:
        raise _no_key(path, "it is encrypted: decrypt it into a file of mode 600") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _no_key(path, "its PEM cannot be read") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "a key of another algorithm")
    return key


def _no_key(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is not an Ed25519 private key: {why}", code="KEY_FILE")
