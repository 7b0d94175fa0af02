"""Everything a hostile host can do to clients and enclaves that talk through it, one method each, judged as it is done.

The host holds every message it ever saw. It delivers any of them to anybody, any number of times or never, as it was or
tampered with. Each method takes `choose`, the source of its choices; a method that has nothing to work on does nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import shake_256
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ephemeral.protocol import REPLAY_WINDOW, X25519_KEY_BYTES, Method
from ephemeral.wire import HelloResponse, OpenRequest, OpenResponse, SealedFrame
from tests.adversary import tampering
from tests.adversary.oracle import Channels, Sent, Violation, judged, wire_bytes
from tests.adversary.parties import Caller, Cast, Line, Offered, Opened, Server, nonce
from tests.adversary.tampering import Choose
from tests.support.peers import now

_T = TypeVar("_T")
_MOST_CHUNKS = 4
_KEY = X25519PrivateKey.generate()
Action = Callable[["World", Choose], None]


class World:
    """One schedule: the host's hands, and the oracle's memory."""

    def __init__(self, cast: Cast, *, established: int = 0) -> None:
        cast.reset()
        self.cast = cast
        self.counts: Counter[str] = Counter()
        self.callers: list[Caller] = []
        self.offered: list[Offered] = []
        self.opens: list[OpenRequest] = []
        self.opened: list[Opened] = []
        self.frames: list[SealedFrame] = []
        self.lines: list[Line] = []
        self.sent: list[Sent] = []
        self.by_frame: dict[bytes, Sent] = {}
        for number in range(established):
            secrets = shake_256(bytes([number])).digest(80)
            self.lines.append(cast.servers[number % 2].establish(secrets))

    # --- the handshake

    def greet(self, choose: Choose) -> None:
        """A client says hello."""
        caller = self.cast.greet(fresh=bool(choose(2)), text=self._text("waiting"))
        self.callers.append(caller)
        self._left_a_client(caller.hello)

    def answer_hello(self, choose: Choose) -> None:
        """An enclave gets a hello, or something like it."""
        if not self.callers:
            return
        server = _one(self.cast.servers, choose)
        hello = _one(self.callers, choose).hello
        raw = tampering.tamper_hello(hello, choose)
        with judged(expected=True if raw == hello else None, what="hello") as verdict:
            response, bound = server.answer(raw)
        self._count("hello", accepted=verdict.accepted)
        if verdict.accepted:
            self.offered.append(Offered(server, raw, response))
            self.cast.know(server, response.attestation_document, bound)

    def believe(self, choose: Choose) -> None:
        """A client gets an answer to its hello, or something like it."""
        callers = [caller for caller in self.callers if caller.believed is None]
        if not callers or not self.offered:
            return
        caller = _one(callers, choose)
        own = [offered for offered in self.offered if offered.client_hello == caller.hello]
        offered = _favouring(own, self.offered, choose)
        others = [other.response for other in self.offered]
        answer = tampering.tamper_answer(offered.response, others, caller.hello, choose)
        with judged(expected=self._may_believe(caller, answer), what="server hello") as verdict:
            caller.pending = caller.greeting.verify(answer, now()).open()
        self._count("server hello", accepted=verdict.accepted)
        if verdict.accepted and caller.pending is not None:
            caller.believed = answer
            self.opens.append(caller.pending.request)
            self._left_a_client(caller.pending.request.SerializeToString())

    def _may_believe(self, caller: Caller, answer: HelloResponse) -> bool:
        made_by, bound = self.cast.documents.get(answer.attestation_document, (None, None))
        return any(
            offered.server is made_by
            and offered.server.accepted
            and offered.client_hello == caller.hello
            and offered.response.server_hello == answer.server_hello
            and offered.response.signature == answer.signature
            and (not caller.fresh or bound == nonce(caller))
            for offered in self.offered
        )

    def take_open(self, choose: Choose) -> None:
        """An enclave gets an Open, or something like it."""
        if not self.opens:
            return
        request = tampering.tamper_open(_recent(self.opens, choose), self.opens, choose)
        homes = [server for server in self.cast.servers if request.offer_id in server.offers]
        server = _favouring(homes, self.cast.servers, choose)
        offered = server.offers.pop(request.offer_id, None)  # spent, whatever comes of it
        usable = not request.HasField("client_auth") and _usable(request.encapsulated_key)
        with judged(expected=offered is not None and usable, what="open") as verdict:
            response = server.sessions.open(request)
        self._count("open", accepted=verdict.accepted)
        if verdict.accepted and offered is not None:
            self._opened(server, offered, request.encapsulated_key, response)

    def _opened(self, server: Server, offered: Offered, key: bytes, response: OpenResponse) -> None:
        from_id = response.finished.session_id
        if any(from_id in other.live for other in self.cast.servers):
            raise Violation("two sessions have one id")
        opened = Opened(offered, key, response, Channels(from_id))
        server.live[from_id] = opened.channels
        self.opened.append(opened)
        self.frames.append(response.finished)

    def confirm(self, choose: Choose) -> None:
        """A client gets a Finished, or something like it."""
        callers = [caller for caller in self.callers if caller.pending is not None and not caller.done]
        if not callers or not self.opened:
            return
        caller = _one(callers, choose)
        own = [opened for opened in self.opened if opened.encapsulated_key == _key_of(caller)]
        opened = _favouring(own, self.opened, choose)
        answer = tampering.tamper_finished(opened.response, self.frames, choose)
        made = next((made for made in self.opened if self._may_confirm(caller, made, answer)), None)
        assert caller.pending is not None
        with judged(expected=made is not None, what="finished") as verdict:
            session = caller.pending.confirm(answer)
        self._count("finished", accepted=verdict.accepted)
        if verdict.accepted and made is not None:
            caller.done = True
            if session.enclave.binding.identity_key != made.offered.server.enclave.identity_key.verifying_key:
                raise Violation("the client believes that it talks to another enclave")
            line = Line(session.channel, made.channels)
            self.lines.append(line)
            self._send(line, caller.text, Method.INFER)

    def _may_confirm(self, caller: Caller, opened: Opened, answer: OpenResponse) -> bool:
        believed, offered = caller.believed, opened.offered
        return (
            caller.pending is not None
            and believed is not None
            and wire_bytes(opened.response.finished) == wire_bytes(answer.finished)
            and opened.encapsulated_key == _key_of(caller)
            and offered.client_hello == caller.hello
            and offered.response.server_hello == believed.server_hello
            and offered.response.attestation_document == believed.attestation_document
        )

    # --- frames

    def ask(self, choose: Choose) -> None:
        """A client sends a request; one in sixteen closes the session."""
        if self.lines:
            method = Method.CLOSE if choose(16) == 0 else (Method.INFER, Method.INFER_STREAM)[choose(2)]
            self._send(_one(self.lines, choose), self._text("question"), method)

    def lose_many(self, choose: Choose) -> None:
        """A client sends about as many requests as the window holds, and the host drops all of them."""
        if self.lines and choose(40) == 0:
            line = _one(self.lines, choose)
            for _ in range(REPLAY_WINDOW - 2 + choose(4)):
                line.channel.seal(b"lost", Method.INFER)

    def _send(self, line: Line, text: bytes, method: Method) -> Sent:
        answer = line.channel.seal(text, method)
        sent = Sent(line.channels, method, text, answer)
        self.sent.append(sent)
        self.frames.append(answer.frame)
        self.by_frame[wire_bytes(answer.frame)] = sent
        self._left_a_client(wire_bytes(answer.frame))
        return sent

    def deliver_request(self, choose: Choose) -> None:
        """An enclave gets a frame as a request: any that the host holds, of either direction, under any method."""
        if not self.frames:
            return
        frame = tampering.tamper_frame(_recent(self.frames, choose), self.frames, choose)
        sent = self.by_frame.get(wire_bytes(frame))
        method = sent.method if sent is not None and choose(8) else tuple(Method)[choose(len(Method))]
        homes = [server for server in self.cast.servers if frame.session_id in server.live]
        self._deliver_request(_favouring(homes, self.cast.servers, choose), frame, method)

    def _deliver_request(self, server: Server, frame: SealedFrame, method: Method) -> None:
        sent = self.by_frame.get(wire_bytes(frame))
        expected = (
            sent is not None
            and sent.method is method
            and sent.executions == 0
            and server.live.get(frame.session_id) is sent.session
            and sent.session.in_window(sent.answer.sequence)
        )
        with judged(expected=expected, what="request") as verdict:
            session = server.sessions.get(frame.session_id)
            request = session.channel.open(frame, method)
        self._count("request", accepted=verdict.accepted)
        if verdict.accepted and sent is not None:
            sent.executed(request.message)
            sent.request = request
            if method is Method.CLOSE:
                server.sessions.close(frame.session_id)
                server.live.pop(frame.session_id)

    def answer(self, choose: Choose) -> None:
        """An enclave seals the next chunk of an answer; only streams have several."""
        waiting = [sent for sent in self.sent if sent.request is not None and not sent.answered and not sent.closes]
        if waiting:
            sent = _one(waiting, choose)
            streams = sent.method is Method.INFER_STREAM and len(sent.sealed) < _MOST_CHUNKS
            self._answer(sent, final=not streams or not choose(3))

    def _answer(self, sent: Sent, *, final: bool) -> SealedFrame:
        assert sent.request is not None
        text = self._text("answer")
        frame = sent.request.seal(text, final=final)
        self.frames.append(frame)
        sent.sealed.append((text, final, wire_bytes(frame)))
        return frame

    def deliver_answer(self, choose: Choose) -> None:
        """A client gets a frame as the next of an answer: any that the host holds, of either direction."""
        if not self.sent:
            return
        sent = _favouring([sent for sent in self.sent if sent.due], self.sent, choose)
        frame = SealedFrame.FromString(sent.due[0]) if sent.due and choose(4) else _recent(self.frames, choose)
        self._deliver_answer(sent, tampering.tamper_frame(frame, self.frames, choose))

    def _deliver_answer(self, sent: Sent, frame: SealedFrame) -> None:
        with judged(expected=sent.expects(frame), what="answer") as verdict:
            message = sent.answer.open(frame)
        self._count("answer", accepted=verdict.accepted)
        if verdict.accepted:
            sent.took(message)

    def finish(self, choose: Choose) -> None:
        """A client asks whether an answer came to its end."""
        if self.sent:
            sent = _favouring([sent for sent in self.sent if sent.ended], self.sent, choose)
            with judged(expected=sent.ended, what="end of an answer") as verdict:
                sent.answer.finish()
            self._count("end", accepted=verdict.accepted)

    def restart(self, choose: Choose) -> None:
        """The host restarts an enclave, now and then."""
        if choose(8) == 0:
            _one(self.cast.servers, choose).restart()

    # --- the end

    def settle(self) -> None:
        """Whatever was done, a request that is left alone still gets through, on every session that is alive."""
        for line in self.lines:
            homes = [server for server in self.cast.servers if line.channels in server.live.values()]
            for server in homes:
                sent = self._send(line, self._text("last question"), Method.INFER)
                self._deliver_request(server, sent.answer.frame, Method.INFER)
                self._deliver_answer(sent, self._answer(sent, final=True))
                sent.answer.finish()

    def _left_a_client(self, raw: bytes) -> None:
        if _MARK in raw:
            raise Violation("a text left its client in the clear")

    def _text(self, kind: str) -> bytes:
        self.counts["texts"] += 1
        return _MARK + f"{kind} {self.counts['texts']}".encode()

    def _count(self, what: str, *, accepted: bool) -> None:
        self.counts[f"{what} {'accepted' if accepted else 'refused'}"] += 1


_MARK = b"for the enclave alone: "
HANDSHAKE: tuple[Action, ...] = (World.greet, World.answer_hello, World.believe, World.take_open, World.confirm)
FRAMES: tuple[Action, ...] = (
    World.ask,
    World.deliver_request,
    World.answer,
    World.deliver_answer,
    World.finish,
    World.lose_many,
    World.restart,
)


def _one(items: Sequence[_T], choose: Choose) -> _T:
    return items[choose(len(items))]


def _recent(items: Sequence[_T], choose: Choose) -> _T:
    """Choose among the last eight in three of four cases, else among all."""
    return _one(items[-8:] if choose(4) else items, choose)


def _favouring(likely: Sequence[_T], everything: Sequence[_T], choose: Choose) -> _T:
    """Choose what an honest network would bring in three of four cases, else anything."""
    return _one(likely if likely and choose(4) else everything, choose)


def _key_of(caller: Caller) -> bytes:
    return b"" if caller.pending is None else caller.pending.request.encapsulated_key


def _usable(key: bytes) -> bool:
    """Whether X25519 with this public key gives a secret (RFC 7748 section 6.1)."""
    if len(key) != X25519_KEY_BYTES:
        return False
    try:
        _KEY.exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True
