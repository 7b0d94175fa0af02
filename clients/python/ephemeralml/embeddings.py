"""Embeddings as the caller gets them: never without a verified receipt."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ephemeral.trusted.receipt import VerifiedReceipt
from ephemeralml.bundle import Messages


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors and the proof of what computed them.

    Attributes:
        vectors: float32[n, dimension], row i for text i.
        receipt: verified under the attested receipt key, over exactly this request and this answer.
        document: the attestation document the receipt names, to re-check it offline.
        messages: the exact plaintext messages whose hashes the receipt holds.
        model_id: the model that answered.
        tokens: tokens computed, special tokens included, after truncation.
        tokenize_us: time the enclave took to make tokens of the texts, microseconds.
        queue_us: time they waited for its engine, microseconds.
        compute_us: time the engine computed, microseconds.
    """

    vectors: npt.NDArray[np.float32]
    receipt: VerifiedReceipt
    document: bytes
    messages: Messages
    model_id: str
    tokens: int
    tokenize_us: int
    queue_us: int
    compute_us: int
