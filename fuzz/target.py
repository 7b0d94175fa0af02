"""One parser under attack: what to call, the only errors that may come out, and inputs to start from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Target:
    """A parser of at most `cap` bytes: `parse` takes any bytes, and raises nothing but `errors`.

    `seeds` makes inputs by name, with our own code; those whose name does not begin with "bad" are accepted.
    """

    name: str
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], Mapping[str, bytes]]
    cap: int

    def accepts(self, raw: bytes) -> bool:
        """Parse; whatever escapes but `errors` is a finding."""
        try:
            self.parse(raw)
        except self.errors:
            return False
        return True

    @property
    def folder(self) -> Path:
        """Where its committed seeds are."""
        return CORPUS / self.name

    def corpus(self) -> list[Path]:
        """Return its committed seeds."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())
