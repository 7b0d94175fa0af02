"""Linear layers whose weights are laid out once for the processor, and whose rows do not depend on their neighbours.

oneDNN takes a weight in a layout of its own choosing, and adds bias, activation or residual while the product is still
in the cache. PyTorch reaches it through operators that are not part of its documented interface: they are tried before
they are relied on, and the documented ones are used where they are missing or disagree.

A kernel is chosen by the shape of a product, and kernels differ in the order of their sums. So the last bits of a row
can depend on how many rows are beside it, unless every product has the same number of rows. And the libraries keep a
kernel of half a megabyte for every shape they ever met: only round numbers of rows are computed.
"""

from collections.abc import Iterable
from functools import cache
from typing import Final, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from ephemeral_enclave.cores import using

Tensor = torch.Tensor
Then = Literal["none", "gelu", "add"]
"""What follows the product; GELU by the error function (Hendrycks and Gimpel 2016)."""
BLOCK_ROWS: Final = 256
_FEW_ROWS: Final = (16, 64)  # numbers of rows are multiples of 16 up to 64, then of 64
_MANY_ROWS: Final = 512
_TOLERANCE: Final = {torch.float32: 1e-4, torch.bfloat16: 0.25}
_PROBE: Final = (5, 48, 80)  # rows, inputs, outputs: nothing that a kernel could find convenient


class Linear(nn.Module):
    """x W^T + b and what follows: float[rows, inputs] to float[rows, outputs]."""

    def __init__(self, weight: Tensor, bias: Tensor, then: Then = "none", *, prepack: bool | None = None) -> None:
        """Take weight float[outputs, inputs] and bias float[outputs]; prepacked where that works, if not told."""
        super().__init__()
        self.prepacked = can_prepack(weight.dtype) if prepack is None else prepack
        self.weight = _reorder(weight) if self.prepacked else weight
        self.bias = bias
        self.then: str = then
        self.inputs = weight.shape[1]
        self.block = BLOCK_ROWS
        self.in_blocks = False

    def forward(self, rows: Tensor, residual: Tensor | None = None) -> Tensor:
        """Compute the layer; "add" adds `residual` float[rows, outputs]."""
        if not self.in_blocks or rows.shape[0] == self.block:
            return self._compute(rows, residual)
        parts: list[Tensor] = []
        for start in range(0, rows.shape[0], self.block):
            end = start + self.block
            parts.append(self._compute(rows[start:end], None if residual is None else residual[start:end]))
        return torch.cat(parts)

    def keeps_rows_apart(self) -> bool:
        """Tell whether a row's result is the same bits for each number of rows and on one core, as far as trying tells.

        Trying means nothing in bfloat16, whose rounding hides most of the differences.
        """
        if self.bias.dtype is not torch.float32:
            return False
        rows = torch.randn(_MANY_ROWS, self.inputs, generator=_generator())
        nothing = torch.zeros(_MANY_ROWS, len(self.bias)) if self.then == "add" else None
        whole = self._compute(rows, nothing)
        with using(1):
            if not torch.equal(self._compute(rows, nothing), whole):
                return False
        for count in {rounded(count, in_blocks=False) for count in range(1, _MANY_ROWS)}:
            part = self._compute(rows[:count].clone(), None if nothing is None else nothing[:count])
            if not torch.equal(part, whole[:count]):
                return False
        return True

    def _compute(self, rows: Tensor, residual: Tensor | None) -> Tensor:
        if self.prepacked:
            return _prepacked(rows, residual, self.weight, self.bias, self.then)
        product = functional.linear(rows, self.weight, self.bias)
        if self.then == "gelu":
            return functional.gelu(product)
        return product if residual is None else product + residual


def keep_rows_apart(layers: Iterable[Linear], probed: Iterable[Linear]) -> bool:
    """Compute every product in blocks of BLOCK_ROWS unless the `probed` layers keep rows apart; say if they do."""
    apart = all(layer.keeps_rows_apart() for layer in probed)
    for layer in layers:
        layer.in_blocks = not apart
    return apart


def rounded(count: int, *, in_blocks: bool) -> int:
    """Return the number of rows to compute for `count` of them."""
    few, many = _FEW_ROWS
    step = BLOCK_ROWS if in_blocks else few if count <= many else many
    return -(-count // step) * step


@cache
def can_prepack(dtype: torch.dtype) -> bool:
    """Tell whether the prepacked operators are here and agree with the documented ones."""
    count, inputs, outputs = _PROBE
    shapes = ((count, inputs), (outputs, inputs), (outputs,), (count, outputs))
    rows, weight, bias, added = (torch.randn(*shape, generator=_generator()).to(dtype) for shape in shapes)
    try:
        for then in get_args(Then):
            residual = added if then == "add" else None
            ours, theirs = (Linear(weight, bias, then, prepack=how)(rows, residual) for how in (True, False))
            if not bool((ours - theirs).abs().max() <= _TOLERANCE[dtype]):
                return False
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    return True


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _reorder(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, None)  # type: ignore[no-any-return]  # noqa: SLF001


def _prepacked(rows: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, then: str) -> Tensor:
    if residual is not None:
        added: Tensor = torch.ops.mkldnn._linear_pointwise(rows, residual, weight, bias, "add")  # noqa: SLF001
        return added
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, then, [], "none")  # noqa: SLF001
    return product
