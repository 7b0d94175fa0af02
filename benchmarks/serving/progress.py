"""What is going on, on standard error, with the time since the start."""

import sys
import time
from typing import TextIO


class Progress:
    """A line for each thing that was done."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._begun = time.monotonic()
        self.doing = ""

    def say(self, done: str) -> None:
        """Write a line."""
        self._out.write(f"{time.monotonic() - self._begun:5.0f} s  {self.doing}: {done}\n")
        self._out.flush()
