"""The synchronous client: one verified session to one enclave, renewed without the caller noticing."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock
from types import TracebackType
from typing import Final, Self, TypeVar

from ephemeral import rpc
from ephemeral.errors import (
    AddressError,
    AttestationError,
    EphemeralError,
    PolicyError,
    ReceiptError,
    SessionError,
    SessionUnknown,
    Unavailable,
)
from ephemeral.protocol import Method
from ephemeral.transport import Address, Scheme
from ephemeral.trusted.attestation import VerifiedEnclave
from ephemeral.trusted.handshake import ClientSession, Greeting
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.verification import VerificationStep
from ephemeral.wire import CloseNotice, CloseRequest, ServedModel
from ephemeralml.chain import verify_bundle
from ephemeralml.connection import Connection
from ephemeralml.deadline import Deadline
from ephemeralml.description import ModelDescription, bundle_of, seal_description
from ephemeralml.embeddings import Embeddings
from ephemeralml.patience import Pause, patience
from ephemeralml.policy_source import Trust, refuse_unaccepted, source_of
from ephemeralml.session import choose_model, seal_embed

DEFAULT_TIMEOUT: Final = 60.0
_RENEW_BEFORE_SECONDS: Final = 30.0
_LOG: Final = logging.getLogger("ephemeralml.client")
T = TypeVar("T")


@dataclass(slots=True)
class _Live:
    """An open session, the connection it is on, the policy it was last held against, and when it may ask again."""

    session: ClientSession
    connection: Connection
    policy: TrustPolicy
    expires: float
    pause: Pause = field(default_factory=Pause)


class Client:
    """A client of one enclave behind one address. Threads may share it."""

    def __init__(self, address: Address, trust: Trust, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Prepare a client; connect() is what users call. `timeout` bounds each call, waiting included, in seconds."""
        self._address = address
        self._source = source_of(trust)
        self._timeout = timeout
        self._connection = Connection(address)
        self._left: Connection | None = None
        self._lock = Lock()
        self._closed = Event()
        self._live: _Live | None = None

    @classmethod
    def connect(cls, address: str, *, trust: Trust, timeout: float = DEFAULT_TIMEOUT) -> Self:
        """Connect, verify the enclave and open a session.

        `trust` is a policy, or a PolicyFile or SignedPolicyFile that is watched while the client lives: the session of
        an enclave that the policy of the moment does not accept is dropped, and another is opened.

        Raises:
            PolicyError: the policy has expired.
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
            client._ask(client._current)
        except BaseException:
            client._close_connections()
            raise
        return client

    @property
    def enclave(self) -> VerifiedEnclave:
        """The verified enclave of the current session."""
        return self._current().enclave

    @property
    def steps(self) -> tuple[VerificationStep, ...]:
        """The checks that the current session passed before it was opened."""
        return self._current().steps

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """The models the enclave serves, as attested."""
        return self._current().models

    @property
    def policy(self) -> TrustPolicy:
        """The trust policy in force: the last good one, if it comes from a file."""
        return self._source.current(datetime.now(UTC))

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> Embeddings:
        """Return one vector per text with a verified receipt; `model` may be omitted when only one is served.

        Raises:
            RequestRefused: the texts are empty, too large, or not for this model.
            ReceiptError: the answer's receipt does not prove it.
            AttestationError: another session had to be opened, and no accepted enclave answers.
            PolicyError: the policy has expired.
            SessionError: the answer is not authentic; the session is dropped and the next call opens another.
            ServiceError: unavailable, too late, or Overloaded for longer than the timeout lasts.
        """
        if isinstance(texts, str):
            raise TypeError("texts is a list of strings, not one string")
        return self._ask(lambda deadline: self._embed(texts, model, deadline))

    def describe(self, *, model: str | None = None) -> ModelDescription:
        """Return the signed manifest of a model and what the enclave was built from, held against what it attested.

        Raises:
            ManifestError: not the attested manifest, or not of a publisher that the policy names.
            BindingMismatch: not the attested build.
            RequestRefused: the enclave's sealed answer is a refusal.
            SessionError, ServiceError, PolicyError: as for `embed`.
        """
        return self._ask(lambda deadline: self._describe(model, deadline))[0]

    def bundle(self, answer: Embeddings, *, include_plaintext: bool = False) -> bytes:
        """Return one file that re-checks `answer` years later, with nothing but a policy (`ephemeralml verify bundle`).

        It asks the enclave for the signed manifest. `include_plaintext` adds the texts and the vectors, so that the
        hashes in the receipt can be computed again: whoever has the file can read them.

        Raises:
            EvidenceError: the enclave that answers now is of another build or serves other models than the one that
                gave `answer`.
            ManifestError, BindingMismatch, RequestRefused: as for `describe`.
            SessionError, ServiceError, PolicyError: as for `embed`.
        """
        description, policy = self._ask(lambda deadline: self._describe(answer.model_id, deadline))
        raw = bundle_of(answer, description, policy, include_plaintext=include_plaintext).encode()
        verify_bundle(raw, policy)
        return raw

    def close(self) -> None:
        """End the session and the connection; the enclave forgets the keys at once."""
        self._closed.set()
        live, self._live = self._live, None
        if live is not None:
            try:
                frame = live.session.channel.seal(CloseNotice().SerializeToString(), Method.CLOSE).frame
                with rpc.claimed():
                    live.connection.sessions.Close(CloseRequest(frame=frame), timeout=1.0)
            except EphemeralError:
                pass  # the keys die with this object, and the enclave's with the session's idle time
        self._close_connections()

    def _ask(self, ask: Callable[[Deadline], T]) -> T:
        """Ask until the timeout, again when it is said that nothing was executed: no room, or an unknown session."""
        deadline = Deadline(self._timeout)

        def once() -> T:
            if self._closed.is_set():
                raise Unavailable("this client was closed")
            try:
                return ask(deadline)
            except SessionUnknown:  # expired, or another enclave
                return ask(deadline)

        return patience(self._timeout, self._closed)(once)

    def _embed(self, texts: Sequence[str], model: str | None, deadline: Deadline) -> Embeddings:
        with self._in_use(deadline) as live:
            session = live.session
            try:
                with live.pause.heeded():
                    pending = seal_embed(session, choose_model(session, live.policy, model), texts)
                    with rpc.claimed():
                        frame = live.connection.inference.Infer(pending.frame, timeout=deadline.left)
                return pending.open(frame, datetime.now(UTC))
            except (SessionError, ReceiptError):
                self._forget(session)
                raise

    def _describe(self, model: str | None, deadline: Deadline) -> tuple[ModelDescription, TrustPolicy]:
        with self._in_use(deadline) as live:
            try:
                with live.pause.heeded():
                    pending = seal_description(live.session, choose_model(live.session, live.policy, model))
                    with rpc.claimed():
                        frame = live.connection.inference.Infer(pending.frame, timeout=deadline.left)
                return pending.open(frame, live.policy), live.policy
            except SessionError:
                self._forget(live.session)
                raise

    def _current(self, deadline: Deadline | None = None) -> ClientSession:
        """Return the open session, or open one."""
        deadline = deadline or Deadline(self._timeout)
        with deadline.holding(self._lock):
            return self._accepted(deadline).session

    @contextmanager
    def _in_use(self, deadline: Deadline) -> Iterator[_Live]:
        """Give the open session; its connection stays open until the block ends."""
        with deadline.holding(self._lock):
            live = self._accepted(deadline)
            live.connection.enter()
        try:
            yield live
        finally:
            live.connection.leave()

    def _accepted(self, deadline: Deadline) -> _Live:
        """Return a session whose enclave the policy of the moment accepts; threads wait for the one that opens it."""
        now = datetime.now(UTC)
        live = self._live
        if live is not None and time.monotonic() < live.expires:
            policy = self._source.current(now)
            try:
                refuse_unaccepted(live.session, policy, now, models=policy is not live.policy)
            except (AttestationError, PolicyError) as error:
                _LOG.warning("the session's enclave is no longer accepted: %s: %s", error.code, error.detail)
                self._leave()
            else:
                live.policy = policy
                return live
        self._live = None
        try:
            self._live = self._open_session(deadline)
        except SessionUnknown:  # the enclave's models changed between the two messages
            self._live = self._open_session(deadline)
        self._retire_left()
        return self._live

    def _leave(self) -> None:
        """Use another connection next, since this one leads to an enclave that is not accepted.

        This one stays open until a session is: a relay that counts connections then takes another enclave.
        """
        self._retire_left()
        self._left, self._connection = self._connection, Connection(self._address)

    def _retire_left(self) -> None:
        """Close the connection that was left, as soon as what is under way on it has ended."""
        left, self._left = self._left, None
        if left is not None:
            left.retire()

    def _close_connections(self) -> None:
        """Close what is open; calls that are under way fail."""
        self._connection.close()
        if self._left is not None:
            self._left.close()

    def _forget(self, session: ClientSession) -> None:
        """Drop `session`, unless another thread has already replaced it."""
        with self._lock:
            if self._live is not None and self._live.session is session:
                self._live = None

    def _open_session(self, deadline: Deadline) -> _Live:
        """Run the handshake; only its last step makes anything that can seal."""
        policy = self._source.latest(datetime.now(UTC))
        policy.refuse_expired(datetime.now(UTC))
        connection, greeting = self._connection, Greeting(policy)
        with rpc.claimed():
            answer = connection.sessions.Hello(greeting.request, timeout=deadline.left)
        try:
            peer = greeting.verify(answer, datetime.now(UTC))
        except AttestationError:
            self._leave()
            raise
        pending = peer.open()
        with rpc.claimed():
            opened = connection.sessions.Open(pending.request, timeout=deadline.left)
        session = pending.confirm(opened)
        expires = time.monotonic() + session.limits.lifetime_seconds - _RENEW_BEFORE_SECONDS
        return _Live(session, connection, policy, expires)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()
