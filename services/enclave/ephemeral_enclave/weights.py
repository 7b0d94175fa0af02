"""Tensors out of a safetensors buffer, strictly and without a second copy.

The format is eight bytes of header length, a JSON header, and the tensors' bytes. The published reader admits headers
that take most of a minute to parse, so header size and tensor count are capped before anything is parsed.
"""

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import torch

from ephemeral.errors import ModelFormatError
from ephemeral_enclave.strict_json import parse_object

MAX_HEADER_BYTES: Final = 1024 * 1024
MAX_TENSORS: Final = 4096
_MAX_SIDES: Final = 8  # the product of tens of thousands takes most of a minute
_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_tensors(buffer: memoryview) -> dict[str, torch.Tensor]:
    """Build tensors that share memory with `buffer`, which must stay alive and unchanged.

    Raises:
        ModelFormatError: the header is too large or malformed, or the tensors do not tile the data exactly.
    """
    size = int.from_bytes(buffer[:8], "little")
    if len(buffer) < 8 or not 2 <= size <= min(MAX_HEADER_BYTES, len(buffer) - 8):
        raise _malformed("the safetensors header has an impossible size")
    header = parse_object(buffer[8 : 8 + size], "the safetensors header", max_bytes=MAX_HEADER_BYTES)
    header.pop("__metadata__", None)
    if not 0 < len(header) <= MAX_TENSORS:
        raise _malformed(f"the safetensors header names {len(header)} tensors, expected 1 to {MAX_TENSORS}")
    data = buffer[8 + size :]
    entries = sorted((_entry(name, value) for name, value in header.items()), key=lambda entry: entry[3:])
    position = 0
    for name, _, _, start, end in entries:
        if start != position:
            raise _malformed(f"tensor {name} leaves a hole or overlaps another")
        position = end
    if position != len(data):
        raise _malformed("bytes are left over after the last tensor")
    return {name: _tensor(data[start:end], dtype, shape) for name, dtype, shape, start, end in entries}


def require_match(
    tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, tuple[int, ...]], allowed: AbstractSet[str]
) -> None:
    """Hold tensors against the shapes that a model's configuration calls for; those `allowed` may be there besides.

    Raises:
        ModelFormatError: a tensor is missing, of the wrong shape, not finite, or belongs to no layer.
    """
    for name, shape in wanted.items():
        if name not in tensors or tensors[name].shape != shape or not tensors[name].is_floating_point():
            raise ModelFormatError(f"tensor {name} is missing or of the wrong shape", code="TENSORS_MISMATCH")
        # Least and greatest are NaN if any value is, and take no memory, as isfinite does.
        if not all(bool(end.isfinite()) for end in torch.aminmax(tensors[name])):
            raise ModelFormatError(f"tensor {name} is not finite", code="TENSORS_NOT_FINITE")
    if stray := tensors.keys() - wanted.keys() - allowed:
        raise ModelFormatError(f"tensor {min(stray)} belongs to no layer", code="TENSORS_MISMATCH")


def _entry(name: str, value: object) -> tuple[str, torch.dtype, tuple[int, ...], int, int]:
    match value:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [start, end], **rest} if (
            not rest and type(start) is type(end) is int
        ):
            pass
        case _:
            raise _malformed(f"tensor {name} is not described as safetensors wants it")
    dtype = _DTYPES.get(kind)
    if dtype is None or len(shape) > _MAX_SIDES or not all(type(side) is int and 0 <= side < 2**40 for side in shape):
        raise _malformed(f"tensor {name} has an unknown type or an impossible shape")
    if not 0 <= start <= end or end - start != math.prod(shape) * dtype.itemsize:
        raise _malformed(f"tensor {name} does not have the bytes that its shape needs")
    return name, dtype, tuple(shape), start, end


def _tensor(data: memoryview, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    if not len(data):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(shape)


def _malformed(text: str) -> ModelFormatError:
    return ModelFormatError(text, code="SAFETENSORS_MALFORMED")
