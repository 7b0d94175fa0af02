"""The header of a safetensors file, as strictly as the enclave reads it, and the values behind it.

The published reader admits headers that take most of a minute to parse, so header size and tensor count are capped
before anything is parsed. Nothing here builds a tensor.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from ephemeral.errors import ModelFormatError
from ephemeralml.publishing.strict_json import as_object, parse_value

MAX_HEADER_BYTES: Final = 1024 * 1024
MAX_TENSORS: Final = 4096
_ITEM_BYTES: Final = {
    **dict.fromkeys(("F64", "I64"), 8),
    **dict.fromkeys(("F32", "I32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL"), 1),
}
# An exponent of all ones is infinity or NaN (IEEE 754 section 3.4); bfloat16 is the upper half of a float32.
_EXPONENTS: Final[Mapping[str, tuple[str, int]]] = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
_VALUES_AT_ONCE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header describes it; `start` and `end` are offsets into the file, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def floating(self) -> bool:
        """Whether the values are floating-point numbers."""
        return self.dtype in _EXPONENTS


def read_header(path: Path) -> dict[str, Tensor]:
    """Read the tensors that the file at `path` describes, by name.

    Raises:
        ModelFormatError: the header is too large or malformed, or the tensors do not tile the data exactly.
    """
    try:
        length = path.stat().st_size
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if length < 8 or not 2 <= size <= min(MAX_HEADER_BYTES, length - 8):
                _refuse("the safetensors header has an impossible size")
            raw = stream.read(size)
    except OSError as error:
        raise ModelFormatError(f"cannot read {path.name}: {error.strerror}", code="MODEL_FILES") from None
    header = as_object(parse_value(raw, "the safetensors header"), "the safetensors header")
    header.pop("__metadata__", None)
    if not 0 < len(header) <= MAX_TENSORS:
        _refuse(f"the safetensors header names {len(header)} tensors, expected 1 to {MAX_TENSORS}")
    tensors = sorted(
        (_entry(*item, 8 + size) for item in header.items()), key=lambda tensor: (tensor.start, tensor.end)
    )
    position = 8 + size
    for tensor in tensors:
        if tensor.start != position:
            _refuse(f"tensor {tensor.name} leaves a hole or overlaps another")
        position = tensor.end
    if position != length:
        _refuse("bytes are missing or left over after the last tensor")
    return {tensor.name: tensor for tensor in tensors}


def require_finite(path: Path, tensor: Tensor) -> None:
    """Read a tensor's values; those that are not floating-point are finite anyway.

    Raises:
        ModelFormatError: one is infinite or not a number.
    """
    if not tensor.floating or tensor.start == tensor.end:
        return
    kind, exponent = _EXPONENTS[tensor.dtype]
    values = np.memmap(path, kind, "r", tensor.start, (math.prod(tensor.shape),))
    for begin in range(0, len(values), _VALUES_AT_ONCE):
        part = values[begin : begin + _VALUES_AT_ONCE]
        if bool(((part & part.dtype.type(exponent)) == exponent).any()):
            raise ModelFormatError(f"tensor {tensor.name} is not finite", code="TENSORS_NOT_FINITE")


def _entry(name: str, value: object, base: int) -> Tensor:
    match value:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [start, end], **rest} if (
            not rest and type(start) is type(end) is int
        ):
            pass
        case _:
            _refuse(f"tensor {name} is not described as safetensors wants it")
    item = _ITEM_BYTES.get(kind)
    if item is None or not all(type(side) is int and 0 <= side < 2**40 for side in shape):
        _refuse(f"tensor {name} has an unknown type or an impossible shape")
    if not 0 <= start <= end or end - start != math.prod(shape) * item:
        _refuse(f"tensor {name} does not have the bytes that its shape needs")
    return Tensor(name, kind, tuple(shape), base + start, base + end)


def _refuse(text: str) -> NoReturn:
    raise ModelFormatError(text, code="SAFETENSORS_MALFORMED")
