"""What came of each row of a batch: a vector, or a refusal of its own.

What fails, fails for its own row alone, and says so in an error of its own: a traceback out of the engine would keep
the tokens of everybody in the batch.
"""

import logging
import traceback
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ephemeral.errors import RequestRefused
from ephemeral_enclave.engine import Engine, Tokens

Vectors = npt.NDArray[np.float32]
Outcome = Vectors | RequestRefused
_log = logging.getLogger(__name__)


def outcomes(engine: Engine, rows: Sequence[Tokens], cores: int) -> list[Outcome]:
    """Compute rows together; when that fails, each half by itself, so that only the rows at fault pay."""
    computed = _attempt(engine, rows, cores)
    if not isinstance(computed, RequestRefused):
        return [vector if np.isfinite(vector).all() else _not_finite() for vector in computed]
    if len(rows) == 1:
        return [computed]
    half = len(rows) // 2
    return outcomes(engine, rows[:half], cores) + outcomes(engine, rows[half:], cores)


def tokenized(engine: Engine, texts: Sequence[str]) -> list[Tokens] | RequestRefused:
    """Tokenize texts of one caller, or say why that is refused."""
    try:
        return engine.tokenize(texts)
    except RequestRefused as refusal:
        return RequestRefused(refusal.detail, code=refusal.code)
    except BaseException as error:  # noqa: BLE001  # a future takes some as orders to itself, and is never done
        report(error)
        return failed()


def report(error: BaseException) -> None:
    """Say for the log what failed and where, without its text, which may quote the input."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    _log.error("%s in the engine at %s", type(error).__name__, *(f"{at.name}:{at.lineno}" for at in place))


def failed() -> RequestRefused:
    """Make the refusal that says no more than that."""
    return RequestRefused("the engine failed on this input", code="ENGINE")


def _attempt(engine: Engine, rows: Sequence[Tokens], cores: int) -> Vectors | RequestRefused:
    try:
        vectors = engine.compute(rows, cores)
        if vectors.shape != (len(rows), engine.dimension):
            raise ValueError("the engine gives vectors of another shape")
    except RequestRefused as refusal:
        return RequestRefused(refusal.detail, code=refusal.code)
    except BaseException as error:  # noqa: BLE001  # a Rust panic is no Exception, and must not end the thread
        report(error)
        return failed()
    return vectors


def _not_finite() -> RequestRefused:
    return RequestRefused("the model has no finite answer to this input", code="ENGINE")
