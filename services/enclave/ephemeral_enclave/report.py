"""The start-up report: how long each stage of the boot took, and how many bytes it moved."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stage:
    """One stage; `model_id` is empty where it concerns the enclave as a whole."""

    name: str
    model_id: str = ""
    milliseconds: float = 0.0
    bytes: int = 0


@dataclass(slots=True)
class StartupReport:
    """Stages in the order in which they began."""

    stages: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, model_id: str = "") -> Iterator[Stage]:
        """Time a stage; the caller adds its bytes. A stage that fails is kept with the time it took."""
        stage = Stage(name, model_id)
        self.stages.append(stage)
        with timed(stage):
            yield stage

    def concerning(self, model_id: str) -> list[Stage]:
        """Return the stages of the enclave as a whole and of one model."""
        return [stage for stage in self.stages if stage.model_id in ("", model_id)]

    def replace(self, model_id: str, other: "StartupReport") -> None:
        """Put the stages of another report in the place of one model's."""
        self.stages = [stage for stage in self.stages if stage.model_id != model_id] + other.stages

    def lines(self) -> list[str]:
        """Return one line per stage for the boot log."""
        return [
            f"boot {stage.name}{f' {stage.model_id}' if stage.model_id else ''}: {stage.milliseconds:.1f} ms"
            + (f", {stage.bytes:,} bytes" if stage.bytes else "")
            for stage in self.stages
        ]


@contextmanager
def timed(stage: Stage) -> Iterator[None]:
    """Add the time of a block to `stage`, which may run in pieces."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        stage.milliseconds += (time.perf_counter() - begun) * 1000
