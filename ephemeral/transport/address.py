"""Where a socket listens or dials: ``tcp://host:port``, ``unix:///path`` or ``vsock://cid:port``."""

import re
import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from ephemeral.errors import AddressError

_MAX_TEXT: Final = 512
_MAX_UNIX_PATH_BYTES: Final = 107  # sun_path has 108 bytes, one of them for the final NUL (unix(7))
_MAX_TCP_PORT: Final = 2**16 - 1
_MAX_U32: Final = 2**32 - 1
_HOST_PORT: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):(?P<port>\d{1,10})", re.ASCII)
_FORMS: Final = "tcp://host:port, unix:///path or vsock://cid:port"


class Scheme(StrEnum):
    """Kinds of sockets."""

    TCP = "tcp"
    UNIX = "unix"
    VSOCK = "vsock"


@dataclass(frozen=True, slots=True)
class Address:
    """One end of a stream; ``str(address)`` parses back to an equal address.

    Port 0 lets the kernel choose when listening. A TCP name resolves to IPv4; an IPv6 address stands in brackets.
    """

    scheme: Scheme
    host: str
    """Host name or IP address; the path of a UNIX socket; a CID in decimal, or ``any`` to listen on every CID."""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            AddressError: `text` has none of the three forms.
        """
        scheme, _, rest = text.partition("://")
        try:
            kind = Scheme(scheme)
        except ValueError:
            raise AddressError(f"{text[:80]!r} is not an address: write {_FORMS}") from None
        if len(text) > _MAX_TEXT:
            raise AddressError(f"an address has at most {_MAX_TEXT} characters, not {len(text)}")
        return cls._parse_unix(rest) if kind is Scheme.UNIX else cls._parse_port(kind, rest, text)

    @classmethod
    def _parse_unix(cls, path: str) -> Self:
        if not path.startswith("/") or "\0" in path or len(path.encode()) > _MAX_UNIX_PATH_BYTES:
            raise AddressError(f"{path!r} is not an absolute path of at most {_MAX_UNIX_PATH_BYTES} bytes")
        return cls(Scheme.UNIX, path)

    @classmethod
    def _parse_port(cls, kind: Scheme, rest: str, text: str) -> Self:
        match = _HOST_PORT.fullmatch(rest)
        if match is None:
            raise AddressError(f"{text!r} is not an address: write {_FORMS}")
        host, port = match["host"].strip("[]"), int(match["port"])
        if port > (_MAX_U32 - 1 if kind is Scheme.VSOCK else _MAX_TCP_PORT):
            raise AddressError(f"{text!r}: there is no port {port}")
        if kind is Scheme.VSOCK and host != "any" and not (host.isdecimal() and int(host) < _MAX_U32):
            raise AddressError(f"{text!r}: a CID is a number, or any to listen on every CID")
        return cls(kind, host, port)

    @classmethod
    def of(cls, bound: socket.socket) -> Self:
        """Return the address a socket is bound to, with the port the kernel chose."""
        name = bound.getsockname()
        if bound.family == socket.AF_UNIX:
            return cls(Scheme.UNIX, name)
        if bound.family == socket.AF_VSOCK:
            return cls(Scheme.VSOCK, "any" if name[0] == socket.VMADDR_CID_ANY else str(name[0]), name[1])
        return cls(Scheme.TCP, name[0], name[1])

    def __str__(self) -> str:
        if self.scheme is Scheme.UNIX:
            return f"unix://{self.host}"
        return f"{self.scheme}://{self._host_port}"

    @property
    def _host_port(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        """Address family of a socket for this address."""
        if self.scheme is Scheme.TCP:
            return socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.AF_UNIX if self.scheme is Scheme.UNIX else socket.AF_VSOCK

    @property
    def sockaddr(self) -> str | tuple[str, int] | tuple[int, int]:
        """What ``bind`` and ``connect`` of the socket module take."""
        if self.scheme is Scheme.UNIX:
            return self.host
        if self.scheme is Scheme.TCP:
            return (self.host, self.port)
        cid = socket.VMADDR_CID_ANY if self.host == "any" else int(self.host)
        return (cid, self.port or socket.VMADDR_PORT_ANY)

    @property
    def grpc_target(self) -> str:
        """Name gRPC dials or binds; a VSock address has none (the wheels cannot speak it): use a bridge."""
        if self.scheme is Scheme.VSOCK:
            raise RuntimeError(f"gRPC cannot open {self}: put a LocalBridge or a ServerBridge in between")
        return f"unix:{self.host}" if self.scheme is Scheme.UNIX else self._host_port
