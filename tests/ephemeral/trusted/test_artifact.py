"""Encrypted containers: what a host that holds every byte of one can do to it, and at what sizes."""

from collections.abc import Iterable, Iterator
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from ephemeral.errors import ContainerError
from ephemeral.trusted.artifact import (
    ContainerInfo,
    ContainerOpener,
    ModelFile,
    container_size,
    seal_container,
    split_files,
)
from ephemeral.trusted.artifact.layout import (
    HEADER_BYTES,
    MAX_PLAINTEXT_BYTES,
    chunk_aad,
    chunk_nonce,
    container_cipher,
)
from ephemeral.trusted.secrets import SecretBytes

DEK = SecretBytes(b"\x42" * 32)
ID = b"\x17" * 16
CHUNK = 4096
RECORD = CHUNK + 16
PLAINTEXT = bytes(index * 7 % 251 for index in range(3 * CHUNK + 100))  # three whole chunks and a short one


def seal(
    plaintext: bytes = PLAINTEXT, *, dek: SecretBytes = DEK, chunk_bytes: int = CHUNK, container_id: bytes = ID
) -> bytes:
    return b"".join(seal_container([plaintext], dek, chunk_bytes=chunk_bytes, container_id=container_id))


def info(
    container: bytes, *, size: int | None = None, chunk_bytes: int = CHUNK, container_id: bytes = ID
) -> ContainerInfo:
    """Describe a container truthfully, so that only the ciphers stand between a forgery and the plaintext."""
    return ContainerInfo("models/m", sha256(container).digest(), size or len(container), chunk_bytes, container_id)


def open_whole(
    container: bytes, described: ContainerInfo, *, size: int = len(PLAINTEXT), dek: SecretBytes = DEK
) -> bytes:
    opener = ContainerOpener(described, size, dek)
    opener.push(container)
    return bytes(opener.finish())


def refused(container: bytes, described: ContainerInfo | None = None, *, size: int = len(PLAINTEXT)) -> str:
    with pytest.raises(ContainerError) as caught:
        open_whole(container, described or info(container), size=size)
    return caught.value.code


def records(container: bytes) -> tuple[bytes, list[bytes]]:
    body = container[HEADER_BYTES:]
    return container[:HEADER_BYTES], [body[at : at + RECORD] for at in range(0, len(body), RECORD)]


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 100])
def test_a_container_opens_to_what_was_sealed_and_has_the_predicted_size(size: int) -> None:
    container = seal(PLAINTEXT[:size])
    assert len(container) == container_size(size, CHUNK)
    assert open_whole(container, info(container), size=size) == PLAINTEXT[:size]


@given(st.lists(st.integers(0, 3 * CHUNK), max_size=8), st.lists(st.integers(1, 2 * RECORD), max_size=12))
def test_pieces_of_any_size_seal_and_open_to_the_same(sealed_in: list[int], pushed_in: list[int]) -> None:
    container = b"".join(seal_container(cut(PLAINTEXT, sealed_in), DEK, chunk_bytes=CHUNK, container_id=ID))
    opener = ContainerOpener(info(container), len(PLAINTEXT), DEK)
    for piece in cut(container, pushed_in):
        opener.push(piece)
    assert opener.finish() == PLAINTEXT


def cut(whole: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield whole[at : at + size]
        at += size
    yield whole[at:]


def test_the_layout_is_the_documented_one() -> None:
    container = seal(PLAINTEXT[: CHUNK + 1])
    header, prefix = container[:34], container[30:34]
    assert header == b"EPHMODEL" + b"\0\1" + CHUNK.to_bytes(4, "big") + ID + prefix
    key = HKDF(SHA256(), 32, ID, b"ephemeralml/1 container").derive(b"\x42" * 32)
    aad, nonce = header + bytes(7) + b"\1" + b"\1", prefix + bytes(7) + b"\1"
    assert ChaCha20Poly1305(key).decrypt(nonce, container[34 + RECORD :], aad) == PLAINTEXT[CHUNK : CHUNK + 1]


def test_one_byte_at_a_time_is_enough() -> None:
    container = seal(PLAINTEXT[: CHUNK + 3])
    opener = ContainerOpener(info(container), CHUNK + 3, DEK)
    for byte in container:
        opener.push(bytes([byte]))
    assert opener.finish() == PLAINTEXT[: CHUNK + 3]


def test_plaintext_is_decrypted_into_the_one_buffer_handed_out() -> None:
    container = seal()
    opener = ContainerOpener(info(container), len(PLAINTEXT), DEK)
    opener.push(container)
    assert opener.finish().obj is opener.plaintext


def test_every_chunk_can_be_fetched_by_range_and_verified_on_its_own() -> None:
    header, chunks = records(seal())
    cipher = container_cipher(DEK, ID)
    for index, chunk in enumerate(chunks):
        aad = chunk_aad(header, index, final=index == len(chunks) - 1)
        assert cipher.decrypt(chunk_nonce(header, index), chunk, aad) == PLAINTEXT[index * CHUNK :][:CHUNK]
        with pytest.raises(InvalidTag):
            cipher.decrypt(chunk_nonce(header, index), chunk, chunk_aad(header, index, final=index != len(chunks) - 1))


# --- a host that rewrites the container and describes what it made


@pytest.mark.parametrize("bit", [0, 8 * 8, 14 * 8, (HEADER_BYTES - 1) * 8, HEADER_BYTES * 8, -1])
def test_no_bit_can_be_changed_even_under_a_matching_digest(bit: int) -> None:
    container = bytearray(seal())
    container[bit // 8] ^= 1
    assert refused(bytes(container)) == "CONTAINER_CORRUPT"


def test_two_chunks_cannot_be_swapped() -> None:
    header, (first, second, *rest) = records(seal())
    assert refused(b"".join([header, second, first, *rest])) == "CONTAINER_CORRUPT"


def test_a_chunk_cannot_be_repeated_in_the_place_of_another() -> None:
    header, (first, _, *rest) = records(seal())
    assert refused(b"".join([header, first, first, *rest])) == "CONTAINER_CORRUPT"


def test_a_chunk_of_another_container_under_the_same_data_key_does_not_fit() -> None:
    header, (_, *rest) = records(seal())
    _, (foreign, *_) = records(seal(container_id=b"\x18" * 16))
    assert refused(b"".join([header, foreign, *rest])) == "CONTAINER_CORRUPT"


def test_a_chunk_of_another_sealing_of_the_same_container_does_not_fit() -> None:
    header, (_, *rest) = records(seal())
    other_header, (foreign, *_) = records(seal())
    assert header != other_header
    assert refused(b"".join([header, foreign, *rest])) == "CONTAINER_CORRUPT"


def test_another_containers_header_does_not_fit() -> None:
    other = seal(container_id=b"\x18" * 16)
    assert refused(other, info(other)) == "CONTAINER_CORRUPT"
    assert refused(seal(PLAINTEXT, chunk_bytes=2 * CHUNK)[: len(seal())], info(seal())) == "CONTAINER_CORRUPT"


def test_a_container_cut_at_a_chunk_boundary_does_not_pass_for_a_shorter_one() -> None:
    header, chunks = records(seal())
    shorter = b"".join([header, *chunks[:2]])
    assert refused(shorter, size=2 * CHUNK) == "CONTAINER_CORRUPT"  # its last chunk is not the final one


def test_another_data_key_opens_nothing() -> None:
    with pytest.raises(ContainerError) as caught:
        open_whole(seal(), info(seal()), dek=SecretBytes(b"\x43" * 32))
    assert caught.value.code == "CONTAINER_CORRUPT"


# --- a host that does not describe it


@pytest.mark.parametrize("kept", [0, 1, HEADER_BYTES, HEADER_BYTES + RECORD, len(seal()) - 1])
def test_a_container_that_ends_early_is_truncated(kept: int) -> None:
    container = seal()
    assert refused(container[:kept], info(container)) == "CONTAINER_TRUNCATED"


def test_a_container_cannot_be_extended() -> None:
    container = seal()
    assert refused(container + b"\0", info(container)) == "CONTAINER_EXTENDED"
    opener = ContainerOpener(info(container), len(PLAINTEXT), DEK)
    opener.push(container)
    with pytest.raises(ContainerError):
        opener.push(b"\0")


def test_an_authentic_container_that_is_not_the_manifests_is_refused() -> None:
    """Two sealings of one model under one data key are both authentic; only the digest tells which is signed for."""
    assert refused(seal(), info(seal())) == "CONTAINER_DIGEST"


# --- the opener as an object


def test_no_plaintext_is_to_be_had_before_the_end_is_proven() -> None:
    container = seal()
    opener = ContainerOpener(info(container), len(PLAINTEXT), DEK)
    opener.push(container[:-1])
    with pytest.raises(RuntimeError):
        _ = opener.plaintext


def test_a_failed_opener_stays_failed_and_empty() -> None:
    container = seal()
    opener = ContainerOpener(info(container), len(PLAINTEXT), DEK)
    opener.push(container[:-RECORD])
    with pytest.raises(ContainerError):
        opener.push(bytes(len(container)))
    with pytest.raises(RuntimeError):
        opener.push(b"")
    with pytest.raises(RuntimeError):
        opener.finish()
    with pytest.raises(RuntimeError):
        _ = opener.plaintext


def test_a_finished_opener_takes_no_more() -> None:
    container = seal()
    opener = ContainerOpener(info(container), len(PLAINTEXT), DEK)
    opener.push(container)
    opener.finish()
    with pytest.raises(RuntimeError):
        opener.push(b"")
    with pytest.raises(RuntimeError):
        opener.finish()


def test_sizes_that_do_not_fit_are_the_callers_bug_before_anything_is_allocated() -> None:
    container = seal()
    with pytest.raises(ValueError):
        ContainerOpener(info(container), len(PLAINTEXT) + 1, DEK)
    with pytest.raises(ValueError):
        ContainerOpener(info(container, size=len(container) + 1), len(PLAINTEXT), DEK)


@pytest.mark.parametrize(
    ("chunk_bytes", "container_id", "dek", "plaintext"),
    [
        (4095, ID, DEK, b"x"),
        (16 * 1024 * 1024 + 1, ID, DEK, b"x"),
        (CHUNK, bytes(16), DEK, b"x"),
        (CHUNK, b"\1" * 15, DEK, b"x"),
        (CHUNK, ID, SecretBytes(b"short"), b"x"),
        (CHUNK, ID, DEK, b""),
    ],
)
def test_sealing_refuses_what_could_not_be_opened(
    chunk_bytes: int, container_id: bytes, dek: SecretBytes, plaintext: bytes
) -> None:
    with pytest.raises(ValueError):
        seal(plaintext, dek=dek, chunk_bytes=chunk_bytes, container_id=container_id)


@pytest.mark.parametrize("size", [0, -1, MAX_PLAINTEXT_BYTES + 1])
def test_a_container_has_a_size_only_for_something_within_bounds(size: int) -> None:
    with pytest.raises(ValueError):
        container_size(size, CHUNK)


# --- files


def test_files_are_cut_in_order_without_a_copy() -> None:
    files = [
        ModelFile(name, sha256(content).digest(), len(content))
        for name, content in (("a", b"one"), ("b", b""), ("c/d", b"two"))
    ]
    plaintext = memoryview(bytearray(b"onetwo"))
    contents = split_files(plaintext, files)
    assert {name: bytes(content) for name, content in contents.items()} == {"a": b"one", "b": b"", "c/d": b"two"}
    assert contents["c/d"].obj is plaintext.obj


def test_a_file_that_is_not_the_manifests_is_refused() -> None:
    files = [ModelFile("a", sha256(b"one").digest(), 3), ModelFile("b", sha256(b"two").digest(), 3)]
    with pytest.raises(ContainerError) as caught:
        split_files(memoryview(b"onetwO"), files)
    assert caught.value.code == "MODEL_FILE_DIGEST"


def test_files_that_do_not_fill_the_container_are_refused() -> None:
    with pytest.raises(ContainerError) as caught:
        split_files(memoryview(b"one!"), [ModelFile("a", sha256(b"one").digest(), 3)])
    assert caught.value.code == "MODEL_FILE_SIZE"
