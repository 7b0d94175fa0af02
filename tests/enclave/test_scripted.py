"""Compiled modules: used where they change nothing, and only there."""

import sys
import threading
import time

import pytest
import torch
from torch import nn

from ephemeral_enclave.scripted import scripted

ROWS = torch.arange(6.0).reshape(2, 3)


class Doubling(nn.Module):
    def forward(self, rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
        for count in counts:
            rows = rows * count
        return rows


class Foreign(nn.Module):
    """A module in more of Python than TorchScript knows."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return max([rows, rows], key=lambda tensor: float(tensor.sum()))


class Inconstant(nn.Module):
    """A module whose compiled half does something else."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + 1 if torch.jit.is_scripting() else rows


class Slow(nn.Module):
    """A module of many small products."""

    def forward(self, rows: torch.Tensor, times: int) -> torch.Tensor:
        for _ in range(times):
            rows = rows @ rows
        return rows


def test_what_compiles_to_the_same_bits_is_used_compiled() -> None:
    module = Doubling()
    run = scripted(module, [(ROWS, [2]), (ROWS, [2, 3])])
    assert run is not module
    assert torch.equal(run(ROWS, [2, 3, 5]), ROWS * 30)


@pytest.mark.parametrize("module", [Foreign(), Inconstant()], ids=["does not compile", "differs"])
def test_what_does_not_compile_to_the_same_bits_is_used_as_it_stands(module: nn.Module) -> None:
    assert scripted(module, [(ROWS,)]) is module


def test_compiled_module_does_not_wait_for_the_interpreter_between_its_products() -> None:
    run, interval = scripted(Slow(), [(torch.eye(3), 2)]), sys.getswitchinterval()
    thread = threading.Thread(target=run, args=(torch.eye(256), 1000))
    sys.setswitchinterval(0.5)  # whoever wants the interpreter back waits that long while the loop below has it
    try:
        thread.start()
        deadline = time.monotonic() + 20
        while thread.is_alive() and time.monotonic() < deadline:
            pass
        assert not thread.is_alive()  # a thousand such waits are minutes
    finally:
        sys.setswitchinterval(interval)
        thread.join()
