"""Constants of EphemeralML protocol v1 (docs/SPEC.md). Both ends must agree: change one, bump VERSION."""

from datetime import timedelta
from enum import IntEnum
from typing import Final

VERSION: Final = 1

# Labels: every string that separates one use of a key, hash or document from another.
LABEL_HELLO: Final = b"ephemeralml/1 hello"
LABEL_SESSION: Final = b"ephemeralml/1 session"
LABEL_C2S: Final = b"ephemeralml/1 c2s"
LABEL_S2C: Final = b"ephemeralml/1 s2c"
LABEL_SESSION_ID: Final = b"ephemeralml/1 session id"
LABEL_KEY: Final = b"key"
LABEL_IV: Final = b"iv"
LABEL_FINISHED: Final = b"finished"
LABEL_FRAME: Final = b"ephemeralml/1"
LABEL_DEK_COMMITMENT: Final = b"ephemeralml/1 dek"
LABEL_CONTAINER: Final = b"ephemeralml/1 container"
PURPOSE_SESSION: Final = "ephemeralml/session/v1"
PURPOSE_KMS: Final = "ephemeralml/kms/v1"


class Suite(IntEnum):
    """HPKE suites by protocol number."""

    X25519_HKDF_SHA256_CHACHA20POLY1305 = 1


class Direction(IntEnum):
    """Who sealed a frame; a byte of its associated data."""

    CLIENT_TO_ENCLAVE = 1
    ENCLAVE_TO_CLIENT = 2


class Method(IntEnum):
    """RPC a frame belongs to; a byte of its associated data."""

    OPEN = 1
    INFER = 2
    INFER_STREAM = 3
    CLOSE = 4


# Sizes, in bytes.
NONCE_BYTES: Final = 32
SALT_BYTES: Final = 32
OFFER_ID_BYTES: Final = 16
SESSION_ID_BYTES: Final = 16
X25519_KEY_BYTES: Final = 32
ED25519_KEY_BYTES: Final = 32
ED25519_SIGNATURE_BYTES: Final = 64
SHA256_BYTES: Final = 32
PCR_BYTES: Final = 48
DEK_BYTES: Final = 32
TAG_BYTES: Final = 16
MAX_HELLO_BYTES: Final = 1024
MAX_DOCUMENT_BYTES: Final = 20_480
MAX_RECEIPT_BYTES: Final = 65_536
MAX_MANIFEST_BYTES: Final = 262_144
MAX_BOOT_CONFIG_BYTES: Final = 65_536
MAX_WRAPPED_KEY_BYTES: Final = 6_144
MAX_CMS_BYTES: Final = 8_192
MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
MAX_CHUNK_BYTES: Final = 1024 * 1024
MIN_PADDED_BYTES: Final = 256

# Counts.
REPLAY_WINDOW: Final = 1024
MAX_REQUESTS: Final = 2**20
MAX_TEXTS: Final = 512
MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_MODELS: Final = 16

# Times.
OFFER_LIFETIME: Final = timedelta(seconds=60)
SESSION_LIFETIME: Final = timedelta(hours=1)
SESSION_IDLE: Final = timedelta(minutes=10)
LONGEST_RETRY_AFTER: Final = timedelta(seconds=30)
DOCUMENT_MAX_AGE: Final = timedelta(minutes=5)
CLOCK_SKEW: Final = timedelta(seconds=60)

# Default ports of the original system.
ENCLAVE_VSOCK_PORT: Final = 5000
HOST_VSOCK_CID: Final = 3
HOST_VSOCK_PORT: Final = 8082
