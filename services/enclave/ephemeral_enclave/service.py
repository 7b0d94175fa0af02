"""The two services that the enclave's port serves: sessions and inference."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import grpc.aio

from ephemeral import rpc
from ephemeral.errors import Overloaded
from ephemeral.protocol import CLOCK_SKEW, DOCUMENT_MAX_AGE, Method
from ephemeral.trusted.handshake import parse_client_hello
from ephemeral.wire import (
    CloseRequest,
    CloseResponse,
    HelloRequest,
    HelloResponse,
    InferenceServiceServicer,
    OpenRequest,
    OpenResponse,
    SealedFrame,
    SessionServiceServicer,
)
from ephemeral_enclave.boot import BootedEnclave
from ephemeral_enclave.counters import Counters
from ephemeral_enclave.generation import Generation
from ephemeral_enclave.inference import Inference
from ephemeral_enclave.sessions import Sessions

_MOST_ATTESTING: Final = 32
_REUSE: Final = (DOCUMENT_MAX_AGE - 2 * CLOCK_SKEW) / timedelta(seconds=1)
Context = grpc.aio.ServicerContext[Any, Any]


class SessionService(SessionServiceServicer):
    """Handshakes."""

    def __init__(self, enclave: BootedEnclave, sessions: Sessions) -> None:
        self._enclave = enclave
        self._sessions = sessions
        self._shared: tuple[float, Generation, bytes] | None = None
        self._sharing = asyncio.Lock()
        self._attesting = 0

    @rpc.serving
    async def Hello(self, request: HelloRequest, _context: Context) -> HelloResponse:  # noqa: N802  # the RPC's name
        """Attest and offer a fresh HPKE key."""
        hello = parse_client_hello(request.client_hello)
        self._sessions.require_room()
        generation = self._enclave.generation
        attested = self._fresh(generation, hello.nonce) if hello.fresh_attestation else self._reusable(generation)
        return self._sessions.offer(request.client_hello, await attested, generation).response

    @rpc.serving
    async def Open(self, request: OpenRequest, _context: Context) -> OpenResponse:  # noqa: N802
        """Turn an offer into a session."""
        return self._sessions.open(request)

    @rpc.serving
    async def Close(self, request: CloseRequest, _context: Context) -> CloseResponse:  # noqa: N802
        """End a session; the frame proves that the caller holds its keys."""
        session = self._sessions.get(request.frame.session_id)
        session.channel.open(request.frame, Method.CLOSE)
        self._sessions.close(request.frame.session_id)
        return CloseResponse()

    async def _fresh(self, generation: Generation, nonce: bytes | None) -> bytes:
        """Ask the security module, which takes its time: hellos beyond a few at once are refused, not queued."""
        if self._attesting >= _MOST_ATTESTING:
            raise Overloaded("the security module is busy; try again", code="SESSIONS_FULL")
        self._attesting += 1
        try:
            return await asyncio.to_thread(self._enclave.attest, generation, nonce)
        finally:
            self._attesting -= 1

    async def _reusable(self, generation: Generation) -> bytes:
        """One document serves the clients that asked for no nonce, while it is young enough for all of them."""
        async with self._sharing:  # those who come while it is made wait for that one
            made, attested, document = self._shared or (-_REUSE, None, b"")
            if attested is not generation or time.monotonic() - made > _REUSE:
                made, document = time.monotonic(), await self._fresh(generation, None)
                self._shared = (made, generation, document)
            return document


class InferenceService(InferenceServiceServicer):
    """Sealed requests and answers."""

    def __init__(self, inference: Inference, sessions: Sessions, counters: Counters) -> None:
        self._inference = inference
        self._counters = counters
        self._sessions = sessions

    @rpc.serving
    async def Infer(self, request: SealedFrame, _context: Context) -> SealedFrame:  # noqa: N802
        """Answer one request."""
        return await self._answer(request, Method.INFER)

    @rpc.serving
    async def InferStream(self, request: SealedFrame, _context: Context) -> AsyncIterator[SealedFrame]:  # noqa: N802
        """Answer one request as a stream; embeddings are whole, so theirs has one, final, chunk."""
        yield await self._answer(request, Method.INFER_STREAM)

    async def _answer(self, frame: SealedFrame, method: Method) -> SealedFrame:
        with self._counters.request():
            session = self._sessions.get(frame.session_id)
            if self._sessions.is_proven(session):  # for others, only an opened frame is proof
                self._inference.require_room(session)  # an overloaded enclave refuses most of what comes, unopened
            request = session.channel.open(frame, method)
            self._sessions.touch(session)
            return request.seal(await self._inference.answer(session, request))
