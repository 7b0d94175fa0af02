"""Proofs of a log: a log that lies about what it holds is refused, and one that does not never is."""

from base64 import b64decode
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ephemeral.errors import LogProofError
from ephemeral.trusted.merkle import (
    MAX_PROOF_HASHES,
    MAX_TREE_SIZE,
    LeafHash,
    TreeHead,
    VerifiedConsistency,
    VerifiedInclusion,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from tests.support.vectors import vector_json

Proof = tuple[bytes, ...]
# Every shape of a small tree, and both sides of where a tree gets another level.
SIZES = [*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257]
ENDLESS = 1 << 20_000  # Python refuses to print it
DEEPEST_CONSISTENCY = 3  # the size whose proof is longest in a tree as large as can be


def entry(index: int) -> bytes:
    return b"entry %d" % index


@cache
def naive_root(start: int, end: int) -> bytes:
    """Hash entries `start` to `end` as the definition of RFC 9162 section 2.1.1 does."""
    if end - start == 1:
        return leaf_hash(entry(start))
    middle = split(start, end)
    return node_hash(naive_root(start, middle), naive_root(middle, end))


def split(start: int, end: int) -> int:
    left = 1
    while left * 2 < end - start:
        left *= 2
    return start + left


def naive_inclusion(index: int, start: int, end: int) -> Proof:
    if end - start == 1:
        return ()
    middle = split(start, end)
    if index < middle:
        return (*naive_inclusion(index, start, middle), naive_root(middle, end))
    return (*naive_inclusion(index, middle, end), naive_root(start, middle))


def naive_consistency(older: int, start: int, end: int, *, known: bool = True) -> Proof:
    if older == end:
        return () if known else (naive_root(start, end),)
    middle = split(start, end)
    if older <= middle:
        return (*naive_consistency(older, start, middle, known=known), naive_root(middle, end))
    return (*naive_consistency(older, middle, end, known=False), naive_root(start, middle))


def head(size: int) -> TreeHead:
    return TreeHead(size, naive_root(0, size))


def flipped(value: bytes, bit: int) -> bytes:
    return (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")


def spoilt(proof: Proof, bit: int) -> list[Proof]:
    """Every way to drop, double, change or add one hash, and the proof backwards."""
    changes = [(*proof, bytes(32)), (bytes(32), *proof)]
    for place, value in enumerate(proof):
        before, after = proof[:place], proof[place + 1 :]
        changes += [(*before, *after), (*before, value, value, *after), (*before, flipped(value, bit), *after)]
        changes += [(*before, value[:-1], *after), (*before, value + b"\0", *after), (*before, b"", *after)]
    return [*changes, proof[::-1]] if len(proof) > 1 else changes


def code_of_inclusion(leaf: LeafHash, index: int, of: TreeHead, proof: Proof) -> str:
    with pytest.raises(LogProofError) as caught:
        verify_inclusion(leaf, index, of, proof)
    return caught.value.code


def code_of_consistency(older: TreeHead, newer: TreeHead, proof: Proof) -> str:
    with pytest.raises(LogProofError) as caught:
        verify_consistency(older, newer, proof)
    return caught.value.code


def hashes(encoded: list[str] | None) -> Proof:
    return tuple(b64decode(value) for value in encoded or [])


def inclusion_of(vector: dict[str, Any]) -> VerifiedInclusion:
    of = TreeHead(vector["treeSize"], b64decode(vector["root"]))
    return verify_inclusion(LeafHash(b64decode(vector["leafHash"])), vector["leafIdx"], of, hashes(vector["proof"]))


def consistency_of(vector: dict[str, Any]) -> VerifiedConsistency:
    older = TreeHead(vector["size1"], b64decode(vector["root1"]))
    newer = TreeHead(vector["size2"], b64decode(vector["root2"]))
    return verify_consistency(older, newer, hashes(vector["proof"]))


@pytest.mark.vectors
def test_third_party_inclusion_proofs() -> None:
    vectors = vector_json("merkle/proofs.json")["inclusion"]
    for vector in vectors:
        if vector["wantErr"]:
            with pytest.raises(LogProofError):
                inclusion_of(vector)
        else:
            inclusion_of(vector)
    assert [vector["wantErr"] for vector in vectors].count(False) == 6
    assert len(vectors) == 37


@pytest.mark.vectors
def test_third_party_consistency_proofs() -> None:
    vectors = vector_json("merkle/proofs.json")["consistency"]
    stricter = 0
    for vector in vectors:
        # One accepted vector has roots of 12 bytes; here a hash has 32.
        short = len(b64decode(vector["root1"])) != 32
        stricter += short and not vector["wantErr"]
        if vector["wantErr"] or short:
            with pytest.raises(LogProofError):
                consistency_of(vector)
        else:
            consistency_of(vector)
    assert stricter == 1
    assert [vector["wantErr"] for vector in vectors].count(False) == 6
    assert len(vectors) == 98


def test_hashes_and_roots_are_those_that_every_log_of_rfc_6962_has() -> None:
    """The eight entries on which implementations of Certificate Transparency test themselves."""
    texts = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    level: list[bytes] = [leaf_hash(bytes.fromhex(text)) for text in texts]
    assert level[0].hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert node_hash(level[0], level[1]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    while len(level) > 1:
        level = [node_hash(level[place], level[place + 1]) for place in range(0, len(level), 2)]
    assert level[0].hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("size", SIZES)
def test_every_entry_of_a_naive_tree_is_proven(size: int) -> None:
    for index in range(size):
        proof = naive_inclusion(index, 0, size)
        leaf = leaf_hash(entry(index))
        assert verify_inclusion(leaf, index, head(size), proof) == VerifiedInclusion(leaf, index, head(size))


@pytest.mark.parametrize("size", SIZES)
def test_every_earlier_size_of_a_naive_tree_is_proven(size: int) -> None:
    for older in range(1, size + 1):
        proof = naive_consistency(older, 0, size)
        proven = verify_consistency(head(older), head(size), proof)
        assert proven == VerifiedConsistency(head(older), head(size))


@given(st.data(), st.integers(1, 257), st.integers(0, 255))
def test_every_change_to_an_inclusion_proof_is_refused(data: st.DataObject, size: int, bit: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaf, proof = leaf_hash(entry(index)), naive_inclusion(index, 0, size)
    for changed in spoilt(proof, bit):
        assert code_of_inclusion(leaf, index, head(size), changed) in {"LOG_PROOF", "LOG_NOT_INCLUDED"}
    root = TreeHead(size, flipped(head(size).root, bit))
    assert code_of_inclusion(leaf, index, root, proof) == "LOG_NOT_INCLUDED"
    assert code_of_inclusion(LeafHash(flipped(leaf, bit)), index, head(size), proof) == "LOG_NOT_INCLUDED"
    for other in {0, index - 1, index + 1, index ^ 1, size - 1, size, -1, index + 2**64, ENDLESS} - {index}:
        code_of_inclusion(leaf, other, head(size), proof)


@given(st.data(), st.integers(1, 257), st.integers(0, 255))
def test_every_change_to_a_consistency_proof_is_refused(data: st.DataObject, size: int, bit: int) -> None:
    older = data.draw(st.integers(1, size))
    proof = naive_consistency(older, 0, size)
    for changed in spoilt(proof, bit):
        assert code_of_consistency(head(older), head(size), changed) in {"LOG_PROOF", "LOG_NOT_CONSISTENT"}
    forked_past = TreeHead(older, flipped(head(older).root, bit))
    forked_now = TreeHead(size, flipped(head(size).root, bit))
    assert code_of_consistency(forked_past, head(size), proof) == "LOG_NOT_CONSISTENT"
    assert code_of_consistency(head(older), forked_now, proof) == "LOG_NOT_CONSISTENT"
    for other in {1, older - 1, older + 1, size} - {0, older, size + 1}:
        code_of_consistency(TreeHead(other, head(older).root), head(size), proof)
    if older < size:
        assert code_of_consistency(head(size), head(older), proof) == "LOG_PROOF"


@pytest.mark.parametrize("size", [1, 2, 4, 9, 2**63, MAX_TREE_SIZE])
def test_a_size_at_which_the_way_to_the_root_is_longer_or_shorter_is_refused(size: int) -> None:
    leaf, proof = leaf_hash(entry(3)), naive_inclusion(3, 0, 8)
    assert code_of_inclusion(leaf, 3, TreeHead(size, head(8).root), proof) == "LOG_PROOF"


def test_an_inner_node_never_passes_for_an_entry() -> None:
    """A log of two whose leaves would be the inner nodes of the log of four has its root."""
    forged = TreeHead(2, head(4).root)
    inner, sibling = (leaf_hash(entry(0)), leaf_hash(entry(1))), naive_root(2, 4)
    for claimed in (b"".join(inner), b"\x00" + b"".join(inner), b"\x01" + b"".join(inner), node_hash(*inner)):
        assert code_of_inclusion(leaf_hash(claimed), 0, forged, (sibling,)) == "LOG_NOT_INCLUDED"


@pytest.mark.parametrize("size", [0, -1, MAX_TREE_SIZE + 1, ENDLESS], ids=["0", "-1", "2^64", "endless"])
def test_a_head_of_no_entries_or_of_more_than_can_be_counted_is_refused(size: int) -> None:
    with pytest.raises(LogProofError) as caught:
        TreeHead(size, bytes(32))
    assert caught.value.code == "LOG_PROOF"


@pytest.mark.parametrize("length", [0, 12, 31, 33, 64])
def test_hashes_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(LogProofError, match="32 bytes"):
        TreeHead(1, bytes(length))
    with pytest.raises(LogProofError, match="32 bytes"):
        verify_inclusion(LeafHash(bytes(length)), 0, head(1), ())


def test_the_largest_tree_s_proofs_have_as_many_hashes_as_the_cap_and_no_more() -> None:
    largest, path = TreeHead(MAX_TREE_SIZE, bytes(32)), (bytes(32),) * MAX_PROOF_HASHES
    older = TreeHead(DEEPEST_CONSISTENCY, bytes(32))
    assert code_of_inclusion(leaf_hash(b""), 0, largest, path[:-1]) == "LOG_NOT_INCLUDED"
    assert code_of_inclusion(leaf_hash(b""), 0, largest, path) == "LOG_PROOF"
    assert code_of_consistency(older, largest, path) == "LOG_NOT_CONSISTENT"
    assert code_of_consistency(older, largest, path[:-1]) == "LOG_PROOF"
    with pytest.raises(LogProofError, match="needs more than 65"):
        verify_consistency(older, largest, (bytes(32),) * 1_000_000)


@given(
    st.integers(1, MAX_TREE_SIZE),
    st.integers(1, MAX_TREE_SIZE),
    st.integers(-1, MAX_TREE_SIZE),
    st.lists(st.binary(min_size=30, max_size=34) | st.just(bytes(32)), max_size=70).map(tuple),
)
def test_whatever_a_log_sends_ends_in_the_one_error(older: int, newer: int, index: int, proof: Proof) -> None:
    code_of_inclusion(leaf_hash(b""), index, TreeHead(newer, bytes(32)), proof)
    code_of_consistency(TreeHead(older, bytes(32)), TreeHead(newer, b"\1" * 32), proof)
