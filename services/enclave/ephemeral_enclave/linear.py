"""Linear layers whose weights are laid out once for the processor, and whose rows do not depend on their neighbours.

oneDNN takes a weight in a layout of its own choosing, and adds bias, activation or residual while the product is still
in the cache. PyTorch reaches it through operators that are not part of its documented interface: they are tried before
they are relied on, and the documented ones are used where they are missing or disagree.

A kernel is chosen by the shape of a product, and kernels differ in the order of their sums. So the last bits of a row
can depend on how many rows are beside it, unless every product has the same number of rows.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

import torch
from torch.nn import functional

Tensor = torch.Tensor
BLOCK_ROWS: Final = 256
_TOLERANCE: Final = {torch.float32: 1e-4, torch.bfloat16: 0.25}
_PROBE: Final = (5, 48, 80)  # rows, inputs, outputs: nothing that a kernel could find convenient
_COUNTS: Final = (2, 3, 16, 31, 32, 33, 48, 64, 96, 128, 192, 256, 384, 512, 768)
_MANY: Final = 1024


class Linear:
    """x W^T + b, with an activation after it or something added to it: float[rows, inputs] to float[rows, outputs]."""

    def __init__(self, weight: Tensor, bias: Tensor, *, prepack: bool | None = None) -> None:
        """Take weight float[outputs, inputs] and bias float[outputs]; prepacked where that works, if not told."""
        self._prepacked = can_prepack(weight.dtype) if prepack is None else prepack
        self._weight = _reorder(weight) if self._prepacked else weight
        self._bias = bias
        self._inputs = weight.shape[1]
        self.block: int | None = None  # rows of each product, if they must all have as many

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the product."""
        return self._in_blocks(self._product, rows)

    def gelu(self, rows: Tensor) -> Tensor:
        """Return GELU of the product, by the error function (Hendrycks and Gimpel 2016)."""
        return self._in_blocks(self._gelu, rows)

    def plus(self, rows: Tensor, residual: Tensor) -> Tensor:
        """Return the product plus `residual` float[rows, outputs]."""
        return self._in_blocks(self._plus, rows, residual)

    def keeps_rows_apart(self) -> bool:
        """Tell whether a row's product is the same bits for any number of rows from 2 on, as far as trying can tell.

        One row alone is a product of a vector, with kernels of its own. Trying means nothing in bfloat16, whose
        rounding hides most of the differences.
        """
        if self._bias.dtype is not torch.float32:
            return False
        rows = torch.randn(_MANY, self._inputs, generator=_generator())
        whole = self(rows)
        return all(torch.equal(self(rows[:count].clone()), whole[:count]) for count in _COUNTS)

    def _in_blocks(self, compute: Callable[..., Tensor], *operands: Tensor) -> Tensor:
        if self.block is None or operands[0].shape[0] == self.block:
            return compute(*operands)
        parts = zip(*(torch.split(operand, self.block) for operand in operands), strict=True)
        return torch.cat([compute(*part) for part in parts])

    def _product(self, rows: Tensor) -> Tensor:
        if self._prepacked:
            return _pointwise(rows, self._weight, self._bias, "none", [], "")  # type: ignore[no-any-return]
        return functional.linear(rows, self._weight, self._bias)

    def _gelu(self, rows: Tensor) -> Tensor:
        if self._prepacked:
            return _pointwise(rows, self._weight, self._bias, "gelu", [], "none")  # type: ignore[no-any-return]
        return functional.gelu(functional.linear(rows, self._weight, self._bias))

    def _plus(self, rows: Tensor, residual: Tensor) -> Tensor:
        if self._prepacked:
            return _pointwise.binary(rows, residual, self._weight, self._bias, "add")  # type: ignore[no-any-return]
        return functional.linear(rows, self._weight, self._bias) + residual


def keep_rows_apart(layers: Iterable[Linear], probed: Iterable[Linear]) -> None:
    """Make every product one of BLOCK_ROWS rows, unless those of the `probed` layers do not depend on their number."""
    if not all(layer.keeps_rows_apart() for layer in probed):
        for layer in layers:
            layer.block = BLOCK_ROWS


@cache
def can_prepack(dtype: torch.dtype) -> bool:
    """Tell whether the prepacked operators are here and agree with the documented ones."""
    count, inputs, outputs = _PROBE
    shapes = ((count, inputs), (outputs, inputs), (outputs,), (count, outputs))
    rows, weight, bias, residual = (torch.randn(*shape, generator=_generator()).to(dtype) for shape in shapes)
    theirs = Linear(weight, bias, prepack=False)
    try:
        ours = Linear(weight, bias, prepack=True)
        pairs = [
            (ours(rows), theirs(rows)),
            (ours.gelu(rows), theirs.gelu(rows)),
            (ours.plus(rows, residual), theirs.plus(rows, residual)),
        ]
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    return all(bool((a - b).abs().max() <= _TOLERANCE[dtype]) for a, b in pairs)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _reorder(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, None)  # type: ignore[no-any-return]  # noqa: SLF001


_pointwise = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
