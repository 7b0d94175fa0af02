"""A network in front of S3 that carries some parts of an upload and then no more: it cuts them, or holds them."""

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_PART = re.compile(r"[?&]partNumber=(\d+)")


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_request: object) -> None:
        """A client that is killed in the middle is what this is for."""


class S3Gate:
    """Forwards to an S3; after `most` parts were stored, others are cut off, or held until the client goes."""

    def __init__(self, upstream: str) -> None:
        self.sent: list[int] = []  # part numbers that S3 took, in order
        self.enough = threading.Event()
        self._upstream = urlsplit(upstream).netloc
        self._most: int | None = None
        self._admitted = 0
        self._holding = False
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._http = _Quiet(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def close_after(self, most: int | None, *, holding: bool = False) -> None:
        """Carry `most` more parts, None: all; forget what was sent."""
        self.sent.clear()
        self.enough.clear()
        self._most, self._admitted, self._holding = most, 0, holding

    def _admit(self) -> bool:
        with self._lock:
            self._admitted += 1
            return self._most is None or self._admitted <= self._most

    def _stored(self, number: int) -> None:
        with self._lock:
            self.sent.append(number)
            if len(self.sent) == self._most:
                self.enough.set()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                if self.headers.get("Expect", "").lower() == "100-continue":
                    self.send_response_only(100)
                    self.end_headers()
                part = _PART.search(self.path) if self.command == "PUT" else None
                if part is not None and not gate._admit():
                    self.rfile.read(65_536)
                    if gate._holding:
                        gate._stopping.wait(60)
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                upstream = http.client.HTTPConnection(gate._upstream, timeout=60)
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                content = answer.read()
                upstream.close()
                if part is not None and answer.status == 200:
                    gate._stored(int(part[1]))
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                        self.send_header(name, value)
                length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(content)

            def handle_expect_100(self) -> bool:
                return True

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _forward  # noqa: N815 - http.server's names

            def log_message(self, *_args: object) -> None:
                pass

        return Handler

    @contextmanager
    def running(self) -> Iterator["S3Gate"]:
        """Serve in a thread."""
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            self._http.shutdown()
            thread.join()
            self._http.server_close()
