"""Computing an answer again outside of an enclave, with the engine that computed it."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ephemeral_enclave.engines import build_engine, precision
from ephemeral_enclave.turns import BATCH_TOKENS


def replay(files: Mapping[str, memoryview], architecture: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return one vector per text, float32[n, dimension]; the files are the model's by name, as its manifest lists them.

    Raises:
        ModelFormatError: no engine takes the files or the architecture.
        RequestRefused: a text cannot be computed.
    """
    engine = build_engine(files, precision(architecture))
    rows = engine.tokenize(texts)
    most = max(1, BATCH_TOKENS // engine.longest)
    return np.concatenate([engine.compute(rows[start : start + most]) for start in range(0, len(rows), most)])
