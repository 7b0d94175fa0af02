"""Proofs of an append-only log, which is a Merkle tree: RFC 9162 section 2.1, the trees of RFC 6962.

Two proofs: an entry is in the log, and a later log begins with all of an earlier one. Both are about *heads*, which are
only what somebody states: that a head is the log's own, its size included, is for a signature on it to show. A root by
itself does not tell trees apart in which the way to a leaf has one shape (the first leaf's in 5 to 8 leaves).

This is for the log of receipts that is to come. There is none yet: neither an entry about a receipt nor a signed head
is defined, and nothing in this project calls this module.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NewType

from ephemeral.errors import LogProofError
from ephemeral.protocol import SHA256_BYTES

MAX_TREE_SIZE: Final = 2**64 - 1  # RFC 9162 counts in uint64
MAX_PROOF_HASHES: Final = 65  # of a consistency proof in such a tree; an inclusion proof has at most 64

LeafHash = NewType("LeafHash", bytes)
"""What `leaf_hash` returns: a hash of an entry, never of two hashes."""


@dataclass(frozen=True, slots=True)
class TreeHead:
    """What a log is said to hold: its number of entries, from 1 to 2^64 - 1, and the root, one hash of them all.

    Raises:
        LogProofError: LOG_PROOF, another size (nothing can be proven of an empty log), or a root that is not 32 bytes.
    """

    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_TREE_SIZE:
            raise LogProofError("there are proofs for logs of 1 to 2^64 - 1 entries only")
        _require_hashes((self.root,))


@dataclass(frozen=True, slots=True)
class VerifiedInclusion:
    """The entry with this leaf hash is number `index`, from 0, of the log with this head."""

    leaf: LeafHash
    index: int
    head: TreeHead


@dataclass(frozen=True, slots=True)
class VerifiedConsistency:
    """The log with head `newer` begins with every entry of the log with head `older`, in the same order."""

    older: TreeHead
    newer: TreeHead


def leaf_hash(entry: bytes) -> LeafHash:
    """Hash an entry (RFC 9162 section 2.1.1); the leading byte keeps an inner node from passing for an entry."""
    return LeafHash(sha256(b"\x00" + entry).digest())


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees' 32-byte hashes into that of the tree over both (RFC 9162 section 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def verify_inclusion(leaf: LeafHash, index: int, head: TreeHead, proof: tuple[bytes, ...]) -> VerifiedInclusion:
    """Verify that an entry is in a log (RFC 9162 section 2.1.3); `proof` is the hashes from the leaf's sibling upward.

    Raises:
        LogProofError: LOG_PROOF, no such proof has this form: an index outside the log, another number of hashes than
            the way from leaf to root has, one that is not 32 bytes; LOG_NOT_INCLUDED, it leads to another root.
    """
    _require_hashes((leaf,))
    _require_hashes(proof)
    if not 0 <= index < head.size:
        raise LogProofError(f"the index is not within a log of {head.size} entries")
    if _root(index, head.size, (leaf, *proof)) != head.root:
        raise LogProofError("the proof does not lead from the entry to the log's root", code="LOG_NOT_INCLUDED")
    return VerifiedInclusion(leaf, index, head)


def verify_consistency(older: TreeHead, newer: TreeHead, proof: tuple[bytes, ...]) -> VerifiedConsistency:
    """Verify that a log only grew (RFC 9162 section 2.1.4); `proof` is the hashes in the order given there.

    Raises:
        LogProofError: LOG_PROOF, no such proof has this form: `newer` is smaller, another number of hashes than these
            sizes need, one that is not 32 bytes; LOG_NOT_CONSISTENT, it leads to another root.
    """
    _require_hashes(proof)
    if older.size > newer.size:
        raise LogProofError(f"a log of {newer.size} entries cannot begin with {older.size}")
    # The older tree is then itself a subtree of the newer one, and its hash is left out of the proof.
    if older.size == newer.size or older.size.bit_count() == 1:
        proof = (older.root, *proof)
    if _roots(older.size, newer.size, proof) != (older.root, newer.root):
        raise LogProofError("the proof does not lead from the older root to the newer", code="LOG_NOT_CONSISTENT")
    return VerifiedConsistency(older, newer)


def _root(index: int, size: int, path: tuple[bytes, ...]) -> bytes:
    """Compute a tree's root from one leaf and its proof: PATH of RFC 9162 section 2.1.3.1, read backwards."""
    if size == 1:
        return _only(path)
    left_size, (path, sibling) = _left(size), _split(path)
    if index < left_size:
        return node_hash(_root(index, left_size, path), sibling)
    return node_hash(sibling, _root(index - left_size, size - left_size, path))


def _roots(older: int, newer: int, path: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """Compute the roots of a tree's first `older` leaves and of all: SUBPROOF of section 2.1.4.1, read backwards."""
    if older == newer:
        shared = _only(path)
        return shared, shared
    left_size, (path, sibling) = _left(newer), _split(path)
    if older <= left_size:
        first, whole = _roots(older, left_size, path)
        return first, node_hash(whole, sibling)
    first, whole = _roots(older - left_size, newer - left_size, path)
    return node_hash(sibling, first), node_hash(sibling, whole)


def _left(size: int) -> int:
    """Return how many leaves are on the left of a tree's root: the largest power of two below its size."""
    return 1 << (size - 1).bit_length() - 1


def _split(path: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], bytes]:
    if not path:
        raise LogProofError("the proof has fewer hashes than a log of this size needs")
    return path[:-1], path[-1]


def _only(path: tuple[bytes, ...]) -> bytes:
    if len(path) > 1:
        raise LogProofError("the proof has more hashes than a log of this size needs")
    return _split(path)[1]


def _require_hashes(hashes: tuple[bytes, ...]) -> None:
    if len(hashes) > MAX_PROOF_HASHES:
        raise LogProofError(f"the proof has {len(hashes)} hashes: none needs more than {MAX_PROOF_HASHES}")
    if any(len(value) != SHA256_BYTES for value in hashes):
        raise LogProofError(f"every hash has {SHA256_BYTES} bytes")
