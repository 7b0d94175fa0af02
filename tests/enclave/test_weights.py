"""The safetensors reader against the published one, and against headers that lie."""

import json

import pytest
import torch
from safetensors.torch import load, save

from ephemeral.errors import ModelFormatError
from ephemeral_enclave.weights import MAX_TENSORS, read_tensors
from tests.support import minilm


def buffer(header: object, data: bytes = b"", size: int | None = None) -> memoryview:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return memoryview(bytearray((len(raw) if size is None else size).to_bytes(8, "little") + raw + data))


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_reads_what_the_published_reader_reads() -> None:
    raw = minilm.files()["model.safetensors"]
    ours, theirs = read_tensors(raw), load(bytes(raw))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_empty_tensor_may_stand_anywhere_in_the_header() -> None:
    header = {"full": entry([1], 0, 4), "empty": entry([0], 0, 0)}
    assert read_tensors(buffer(header, bytes(4)))["empty"].shape == (0,)


def test_tensors_share_the_buffer() -> None:
    raw = memoryview(bytearray(save({"a": torch.ones(4)})))
    tensor = read_tensors(raw)["a"]
    raw[-4:] = bytes(4)
    assert tensor[-1] == 0


@pytest.mark.parametrize(
    "raw",
    [
        memoryview(bytearray()),
        memoryview(bytearray(7)),
        buffer(b"{}", size=2**63),
        buffer(b"{}", size=1),
        buffer({}),
        buffer({"a": entry([2], 0, 4)}, bytes(4)),
        buffer({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
        buffer({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, bytes(8)),
        buffer({"a": entry([1], 0, 4)}, bytes(5)),
        buffer({"a": entry([1], 0, 4)}, bytes(3)),
        buffer({"a": entry([-1], 0, 4)}, bytes(4)),
        buffer({"a": entry([2**40, 2**40], 0, 4)}, bytes(4)),
        buffer({"a": entry([1], 0, 4, "F8_E5M2")}, bytes(4)),
        buffer({"a": entry([True], 0, 4)}, bytes(4)),
        buffer({"a": entry([2**40 - 1] * 60_000, 0, 4)}, bytes(4)),
        buffer({"a": {**entry([1], 0, 4), "data_offsets": [False, 4]}}, bytes(4)),
        buffer({"a": {**entry([1], 0, 4), "x": 1}}, bytes(4)),
        buffer({"a": [1]}, bytes(4)),
        buffer(
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            bytes(4),
        ),
        buffer(b'{"a":NaN}'),
        buffer(b"[" * 100_000),
        buffer({f"t{n}": entry([0], 0, 0) for n in range(MAX_TENSORS + 1)}),
    ],
    ids=range(22),
)
def test_lying_headers_are_refused(raw: memoryview) -> None:
    with pytest.raises(ModelFormatError):
        read_tensors(raw)


def test_three_hundred_thousand_tensors_are_refused_before_they_are_parsed() -> None:
    header = (
        b"{" + b",".join(b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(300_000)) + b"}"
    )
    with pytest.raises(ModelFormatError, match="impossible size"):
        read_tensors(buffer(header))
