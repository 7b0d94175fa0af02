"""An HTTP server that answers by a plan, so that unmodified boto3 meets real bytes, real errors and real silence."""

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """One answer; `missing` bytes of the body are never sent, `stalled` sends nothing until the server stops."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    stalled: bool = False


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


def aws_json(status: int, **content: object) -> Reply:
    """Answer in AWS JSON 1.1, which KMS speaks."""
    return Reply(status, json.dumps(content).encode(), {"Content-Type": "application/x-amz-json-1.1"})


def aws_error(code: str, status: int = 400) -> Reply:
    """Refuse in AWS JSON 1.1."""
    return aws_json(status, __type=code, message="arn:aws:iam::111122223333:role/secret-role said no")


def s3_error(code: str, status: int) -> Reply:
    """Refuse in S3's XML."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said no</Message></Error>"
    return Reply(status, body.encode(), {"Content-Type": "application/xml"})


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_request: object) -> None:
        """A client that gives up on a stalled or cut answer is part of the plan."""


class PlannedServer:
    """Gives the planned replies in order and keeps what was asked; beyond the plan it answers 500."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._plan: deque[Reply] = deque()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._http = _Quiet(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        """Endpoint URL."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def plan(self, *replies: Reply) -> None:
        """Forget what was asked and replace what is to come."""
        with self._lock:
            self.asked.clear()
            self._plan = deque(replies)

    def _next(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            return self._plan.popleft() if self._plan else Reply(500)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                reply = server._next(Asked(self.path, dict(self.headers), body))
                if reply.stalled:
                    server._stopping.wait(60)
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body[: len(reply.body) - reply.missing])
                self.close_connection = bool(reply.missing)

            do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 - http.server's names

            def log_message(self, *_args: object) -> None:
                pass

        return Handler

    @contextmanager
    def running(self) -> Iterator["PlannedServer"]:
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
