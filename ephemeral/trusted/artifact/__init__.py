"""Encrypted model containers: what lies in the bucket, and how it becomes files again inside the enclave.

::

    container  = header || chunk 0 || chunk 1 || ...
    header     = "EPHMODEL" || version u16 || chunk size u32 || container id (16) || nonce prefix (4)        big-endian
    chunk i    = ChaCha20-Poly1305(key, nonce = nonce prefix || i u64, AAD = header || i u64 || final u8)
    key        = HKDF-SHA256(data key, salt = container id, info = "ephemeralml/1 container")

All chunks hold the same number of plaintext bytes except the last, which alone is `final`. Any chunk can be fetched by
range and verified on its own. One that is altered, swapped, reordered, repeated or another container's does not open; a
container without its final chunk is truncated. A data key is made for one upload and never used for another: that, not
the nonce prefix, is what keeps nonces from repeating.

ChaCha20-Poly1305 does not commit to its key, so a container that opens proves nothing about who chose the key. The
signed manifest's commitment to the data key, and its digests of the container and every file, decide what a model is.
"""

from ephemeral.trusted.artifact.layout import ContainerInfo, ModelFile, container_size
from ephemeral.trusted.artifact.opener import ContainerOpener, split_files
from ephemeral.trusted.artifact.sealer import seal_container

__all__ = ["ContainerInfo", "ContainerOpener", "ModelFile", "container_size", "seal_container", "split_files"]
