"""The synchronous client: one verified session to one enclave, renewed without the caller noticing."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Lock
from types import TracebackType
from typing import Final, Self

import grpc

from ephemeral import rpc, wire
from ephemeral.errors import AddressError, EphemeralError, ReceiptError, SessionError, SessionUnknown
from ephemeral.protocol import Method
from ephemeral.transport import Address, Scheme
from ephemeral.trusted.attestation import VerifiedEnclave
from ephemeral.trusted.handshake import ClientSession, Greeting
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.wire import CloseNotice, CloseRequest, ServedModel
from ephemeralml.embeddings import Embeddings
from ephemeralml.session import choose_model, seal_embed

DEFAULT_TIMEOUT: Final = 60.0
_RENEW_BEFORE_SECONDS: Final = 30.0


class Client:
    """A client of one enclave behind one address. Threads may share it."""

    def __init__(self, address: Address, trust: TrustPolicy, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Prepare a client; connect() is what users call. `timeout` bounds each call, in seconds."""
        self._trust = trust
        self._timeout = timeout
        self._channel: grpc.Channel = rpc.open_channel(address)
        self._sessions = wire.SessionServiceStub(self._channel)
        self._inference = wire.InferenceServiceStub(self._channel)
        self._lock = Lock()
        self._session: ClientSession | None = None
        self._expires = 0.0

    @classmethod
    def connect(cls, address: str, *, trust: TrustPolicy, timeout: float = DEFAULT_TIMEOUT) -> Self:
        """Connect, verify the enclave and open a session.

        Raises:
            AddressError: the address cannot be read.
            AttestationError: the enclave is not one the policy trusts; nothing was sent to it.
            SessionError: something altered the handshake.
            ServiceError: nothing answers.
        """
        parsed = Address.parse(address)
        if parsed.scheme is Scheme.VSOCK:
            raise AddressError("clients connect to the host: tcp://host:port or unix:///path, not vsock://")
        client = cls(parsed, trust, timeout=timeout)
        try:
            client._current()
        except BaseException:
            client._channel.close()
            raise
        return client

    @property
    def enclave(self) -> VerifiedEnclave:
        """The verified enclave of the current session."""
        return self._current().enclave

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """The models the enclave serves, as attested."""
        return self._current().models

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> Embeddings:
        """Return one vector per text with a verified receipt; `model` may be omitted when only one is served.

        Raises:
            RequestRefused: the texts are empty, too large, or not for this model.
            ReceiptError: the answer's receipt does not prove it.
            SessionError: the answer is not authentic; the session is dropped and the next call opens another.
            ServiceError: overloaded, unavailable or too late.
        """
        if isinstance(texts, str):
            raise TypeError("texts is a list of strings, not one string")
        try:
            return self._embed(self._current(), texts, model)
        except SessionUnknown:  # expired or another enclave: nothing was executed
            return self._embed(self._current(), texts, model)

    def close(self) -> None:
        """End the session and the connection; the enclave forgets the keys at once."""
        session, self._session = self._session, None
        if session is not None:
            try:
                frame = session.channel.seal(CloseNotice().SerializeToString(), Method.CLOSE).frame
                with rpc.translated():
                    self._sessions.Close(CloseRequest(frame=frame), timeout=1.0)
            except EphemeralError:
                pass  # the keys die with this object, and the enclave's with the session's idle time
        self._channel.close()

    def _embed(self, session: ClientSession, texts: Sequence[str], model: str | None) -> Embeddings:
        pending = seal_embed(session, choose_model(session, self._trust, model), texts)
        try:
            with rpc.translated():
                frame = self._inference.Infer(pending.frame, timeout=self._timeout)
            return pending.open(frame, datetime.now(UTC))
        except (SessionError, ReceiptError):
            self._forget(session)
            raise

    def _current(self) -> ClientSession:
        """Return the open session, or open one; threads that find none wait for the one that opens it."""
        with self._lock:
            if self._session is None or time.monotonic() >= self._expires:
                self._session = self._open_session()
                self._expires = time.monotonic() + self._session.limits.lifetime_seconds - _RENEW_BEFORE_SECONDS
            return self._session

    def _forget(self, session: ClientSession) -> None:
        """Drop `session`, unless another thread has already replaced it."""
        with self._lock:
            if self._session is session:
                self._session = None

    def _open_session(self) -> ClientSession:
        """Run the handshake; only its last step makes anything that can seal."""
        greeting = Greeting(self._trust)
        with rpc.translated():
            answer = self._sessions.Hello(greeting.request, timeout=self._timeout)
        pending = greeting.verify(answer, datetime.now(UTC)).open()
        with rpc.translated():
            opened = self._sessions.Open(pending.request, timeout=self._timeout)
        return pending.confirm(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()
