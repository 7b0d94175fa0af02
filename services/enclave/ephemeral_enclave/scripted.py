"""A module compiled by TorchScript, which computes it in one go and without Python's interpreter.

Between two operators that Python calls, a thread hands the interpreter back, and waits for it while the event loop has
it: hundreds of times a batch. TorchScript is deprecated, and PyTorch pinned: what was compiled is tried against the
module itself before it is relied on, and the module is used where they disagree or nothing can be compiled.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

Run = Callable[..., torch.Tensor]


def scripted(module: nn.Module, samples: Sequence[tuple[Any, ...]]) -> Run:
    """Return the module compiled, or the module itself unless each of `samples`, its arguments, gives the same bits."""
    try:
        run = _compiled(module)
        same = all(torch.equal(run(*sample), module(*sample)) for sample in samples)
    except Exception:  # noqa: BLE001  # the compiler raises errors of many kinds, and reads source files
        return module
    return run if same else module


def _compiled(module: nn.Module) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled = torch.jit.script(module)

    def run(*arguments: object) -> torch.Tensor:
        # Optimizing would take longer than compiling, for each kind of input, and may fuse what rounds apart.
        with torch.jit.optimized_execution(should_optimize=False):  # type: ignore[attr-defined]
            result: torch.Tensor = compiled(*arguments)
            return result

    return run
