"""A recorder between client and host: what anyone on the path, the host above all, gets to see."""

import socket
import threading
from types import TracebackType
from typing import Self

from ephemeral.transport import Address, listen


class Wiretap:
    """Passes every byte on and keeps a copy of each direction."""

    def __init__(self, upstream: str) -> None:
        self._upstream = Address.parse(upstream)
        self._listening = listen(Address.parse("tcp://127.0.0.1:0"))
        self._listening.settimeout(None)
        self.address = str(Address.of(self._listening))
        self._copies = (bytearray(), bytearray())

    def captured(self) -> tuple[bytes, bytes]:
        """Return what went to the host and what came from it."""
        return bytes(self._copies[0]), bytes(self._copies[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            host = _dial(self._upstream)
            for source, target, copy in ((client, host, self._copies[0]), (host, client, self._copies[1])):
                threading.Thread(target=_pump, args=(source, target, copy), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket, copy: bytearray) -> None:
    try:
        while part := source.recv(65_536):
            copy += part
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()


def _dial(address: Address) -> socket.socket:
    upstream = socket.socket(address.family)
    upstream.connect(address.sockaddr)
    return upstream
