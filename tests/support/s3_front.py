"""A network in front of S3 that lets requests through, or answers them badly: errors, silence, cuts, other bytes."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    """One request of boto3."""

    command: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Answered:
    """S3's answer to it, before anything is done to it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Fault:
    """What becomes of a request: refused with a status, left hanging, cut off, or answered with other bytes."""

    status: int = 0
    code: str = ""
    hangs: bool = False
    resets: bool = False
    keeps: int | None = None  # bytes of the body that arrive before the connection ends
    changes: Callable[[bytes], bytes] | None = None
    states: int | None = None  # the size that HEAD tells


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_request: object) -> None:
        """A client that gives up in the middle is what this is for."""


class S3Front:
    """Forwards to an S3; `fault` decides about each request, and `seen` is told what S3 answered."""

    def __init__(self, upstream: str) -> None:
        self.fault: Callable[[Asked], Fault | None] = lambda _asked: None
        self.seen: Callable[[Asked, Answered], None] = lambda _asked, _answered: None
        self._upstream = urlsplit(upstream).netloc
        self.stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"front": self})
        self._http = _Quiet(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def ask(self, asked: Asked, body: bytes) -> Answered:
        upstream = http.client.HTTPConnection(self._upstream, timeout=60)
        upstream.request(asked.command, asked.path, body, asked.headers)
        answer = upstream.getresponse()
        answered = Answered(answer.status, answer.getheaders(), answer.read())
        upstream.close()
        self.seen(asked, answered)
        return answered

    @contextmanager
    def running(self) -> Iterator["S3Front"]:
        """Serve in a thread."""
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.stopping.set()
            self._http.shutdown()
            thread.join()
            self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: S3Front

    def _forward(self) -> None:
        asked = Asked(self.command, self.path, dict(self.headers))
        fault = self.front.fault(asked) or Fault()
        if fault.hangs or fault.resets:
            self.front.stopping.wait(60 if fault.hangs else 0)
            self.close_connection = True
            return
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._reply(refusal(fault) if fault.status else self.front.ask(asked, body), fault)

    def _reply(self, answered: Answered, fault: Fault) -> None:
        body = answered.body if fault.changes is None else fault.changes(answered.body)
        self.send_response_only(answered.status)
        for name, value in answered.headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        told = dict(answered.headers).get("Content-Length", "0")
        stated = told if fault.states is None else str(fault.states)
        self.send_header("Content-Length", stated if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            keeps = len(body) if fault.keeps is None else fault.keeps
            self.wfile.write(body[:keeps])
            self.close_connection = keeps < len(body)

    def handle_expect_100(self) -> bool:
        return True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _forward  # noqa: N815 - http.server's names

    def log_message(self, *_args: object) -> None:
        pass


def refusal(fault: Fault) -> Answered:
    """S3's XML."""
    xml = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>no</Message></Error>"
    return Answered(fault.status, [("Content-Type", "application/xml")], xml.encode())
