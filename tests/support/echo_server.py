"""A TCP or UNIX server for splice tests: what it does with a connection is a coroutine over a plain socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from ephemeral.transport import Address, listen

Talk = Callable[[socket.socket], Coroutine[None, None, None]]

CHUNK = 65_536


async def read_to_end(sock: socket.socket) -> bytes:
    """Return what comes until FIN."""
    loop, got = asyncio.get_running_loop(), bytearray()
    while data := await loop.sock_recv(sock, CHUNK):
        got += data
    return bytes(got)


async def echo(sock: socket.socket) -> None:
    """Send back every byte until the client ends, then end too."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, CHUNK):
        await loop.sock_sendall(sock, data)


@asynccontextmanager
async def serving(talk: Talk, address: str = "tcp://127.0.0.1:0") -> AsyncIterator[Address]:
    """Serve `talk` on each connection; the socket closes when it returns."""
    loop = asyncio.get_running_loop()
    listening = listen(Address.parse(address))
    tasks: set[asyncio.Task[None]] = set()

    def accept() -> None:
        sock, _ = listening.accept()
        sock.settimeout(0)
        task = loop.create_task(talk(sock))
        task.add_done_callback(lambda _: sock.close())
        tasks.add(task)

    loop.add_reader(listening, accept)
    try:
        yield Address.of(listening)
    finally:
        loop.remove_reader(listening)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listening.close()
