"""A client of the OpenAI-style route `/v1/embeddings`, with a connection of its own.

The generator shares the machine with what it measures, so that its client has to cost little: it knows keep-alive, a
JSON body and Content-Length, which is all that these servers use.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Final, Self

import numpy as np

from benchmarks.serving.load import Refused, Vector

_BUSY: Final = (429, 503)
_OK: Final = 200
_MOST_BYTES: Final = 1 << 20
_HEAD: Final = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpError(Exception):
    """An answer that is no embedding."""


class HttpClient:
    """One keep-alive connection, made anew when the server has ended it; one request at a time."""

    def __init__(self, address: tuple[str, int], streams: _Streams, model: str) -> None:
        self._address = address
        self._reader, self._writer = streams
        self._model = model

    @classmethod
    async def connect(cls, host: str, port: int, model: str) -> Self:
        """Connect."""
        return cls((host, port), await _open(host, port), model)

    async def embed(self, text: str) -> Callable[[], Vector]:
        """Post one text; see Client.embed.

        Raises:
            Refused: 429 or 503.
            HttpError: any other status, or no Content-Length.
        """
        if self._reader.at_eof():  # uvicorn ends a connection that idles for five seconds
            await self.close()
            self._reader, self._writer = await _open(*self._address)
        body = json.dumps({"model": self._model, "input": text}).encode()
        self._writer.write(_HEAD + str(len(body)).encode() + b"\r\n\r\n" + body)
        status, answer = await self._answer()
        if status in _BUSY:
            raise Refused
        if status != _OK:
            raise HttpError(f"HTTP {status} {answer[:80]!r}")
        return lambda: np.array(json.loads(answer)["data"][0]["embedding"], np.float32)

    async def _answer(self) -> tuple[int, bytes]:
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        fields = dict(line.split(b":", 1) for line in lines if line)
        if b"content-length" not in fields:
            raise HttpError("the answer has no Content-Length")
        return int(first.split()[1]), await self._reader.readexactly(int(fields[b"content-length"]))

    async def close(self) -> None:
        """End the connection."""
        self._writer.close()
        await self._writer.wait_closed()


async def _open(host: str, port: int) -> _Streams:
    return await asyncio.open_connection(host, port, limit=_MOST_BYTES)
