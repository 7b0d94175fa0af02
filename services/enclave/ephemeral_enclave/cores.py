"""How many processor cores PyTorch uses for what a thread computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def using(cores: int | None) -> Iterator[None]:
    """Compute on so many cores in this thread, as many as before if not told.

    PyTorch keeps the number for each thread, and a number for threads that are new: both are put back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if cores is None else cores)
    try:
        yield
    finally:
        torch.set_num_threads(before)
