"""What a vector file is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class VectorFile:
    """One file: inputs with the outputs that the product derives from them, and inputs that the product refuses."""

    name: str
    section: str
    description: str
    derive: Callable[[Values], Values]
    cases: Mapping[str, Values]
    refuse: Callable[[Values], str] | None = None
    refused: Mapping[str, Values] = field(default_factory=dict)

    def build(self) -> dict[str, Any]:
        """Return the content of the file, derived now."""
        content: dict[str, Any] = {"description": self.description, "spec": f"docs/SPEC.md, section {self.section}"}
        content["cases"] = [
            {"name": name, "inputs": plain(inputs), "outputs": plain(self.derive(inputs))}
            for name, inputs in self.cases.items()
        ]
        if self.refuse is not None:
            content["refused"] = [
                {"name": name, "inputs": plain(inputs), "code": self.refuse(inputs)}
                for name, inputs in self.refused.items()
            ]
        return content


def plain(value: Any) -> Any:
    """Return a value as JSON has it: bytes in lower-case hex."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def counting(start: int, size: int) -> bytes:
    """Return `size` bytes that count up from `start`."""
    return bytes((start + index) % 256 for index in range(size))
