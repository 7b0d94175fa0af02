"""How much of one model an enclave takes on at a time, so that no model's callers crowd out another's."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from ephemeral.errors import Overloaded


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Most requests and texts of one model, waiting and running together; None is no limit of the model's own."""

    queued_requests: int | None = None
    queued_texts: int | None = None


class Quotas:
    """Counts what is under way for each model id that has limits, of whatever version."""

    def __init__(self, limits: Mapping[str, ModelLimits]) -> None:
        self._limits = limits
        self._requests: Counter[str] = Counter()
        self._texts: Counter[str] = Counter()

    def admitted(self, model_id: str, texts: int) -> AbstractContextManager[None]:
        """Take a place for one request of `texts` texts until the block ends.

        Raises:
            Overloaded: on entering, if the model has no room for it; nothing was executed.
        """
        limits = self._limits.get(model_id)
        return nullcontext() if limits is None else self._counted(model_id, texts, limits)

    @contextmanager
    def _counted(self, model_id: str, texts: int, limits: ModelLimits) -> Iterator[None]:
        full = _exceeds(self._requests[model_id] + 1, limits.queued_requests)
        if full or _exceeds(self._texts[model_id] + texts, limits.queued_texts):
            raise Overloaded("the model is busy; try again", code="QUEUE_FULL")
        self._requests[model_id] += 1
        self._texts[model_id] += texts
        try:
            yield
        finally:
            self._requests[model_id] -= 1
            self._texts[model_id] -= texts


def _exceeds(count: int, most: int | None) -> bool:
    return most is not None and count > most
