"""An enclave with a full queue: what it refuses costs it next to nothing."""

import asyncio

import pytest

from ephemeral.errors import FrameRejected, Overloaded
from ephemeral.protocol import Method
from ephemeral.trusted.handshake import Greeting
from ephemeral.wire import SealedFrame
from ephemeral_enclave.batcher import Batcher
from ephemeral_enclave.counters import Counters
from ephemeral_enclave.inference import Inference
from ephemeral_enclave.service import InferenceService
from ephemeral_enclave.sessions import Sessions
from tests.support.gated_engine import GatedEngine, behind_the_first, started
from tests.support.generations import empty_generation
from tests.support.peers import Enclave, nonce_of, now


def opened(sessions: Sessions) -> bytes:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    offer = sessions.offer(
        greeting.request.client_hello, enclave.document(nonce_of(greeting)), empty_generation(enclave.identity)
    )
    pending = greeting.verify(offer.response, now()).open()
    answer = sessions.open(pending.request)
    pending.confirm(answer)
    return answer.finished.session_id


async def test_full_enclave_opens_no_frame_but_the_first_of_a_session_until_there_is_room() -> None:
    engine, batcher, sessions = GatedEngine(), Batcher(1), Sessions(most_sessions=2, most_offers=2)
    inference = Inference.__new__(Inference)  # what it answers with needs a whole enclave
    inference._batcher = batcher
    service = InferenceService(inference, sessions, Counters())
    frame = SealedFrame(session_id=opened(sessions), sequence=1, final=True, ciphertext=bytes(300))  # not authentic
    running = started(batcher, engine, "running")
    await behind_the_first(batcher, engine)
    with pytest.raises(FrameRejected):  # opened: had it been authentic, the session would be in use from now on
        await service._answer(frame, Method.INFER)
    sessions.touch(sessions.get(frame.session_id))
    with pytest.raises(Overloaded) as refused:
        await service._answer(frame, Method.INFER)
    assert refused.value.retry_after
    engine.gate.set()
    await running
    await asyncio.sleep(0)
    with pytest.raises(FrameRejected):
        await service._answer(frame, Method.INFER)
    batcher.close()
