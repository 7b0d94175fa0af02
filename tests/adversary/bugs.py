"""Mistakes a session's code could make, each put into the product for one test: the schedules must notice every one."""

from collections.abc import Callable
from typing import Any

import pytest

from ephemeral.errors import FrameRejected
from ephemeral.trusted.channel import Answer, EnclaveChannel, Position, ReplayWindow, Request
from ephemeral.trusted.channel.lane import Lane
from ephemeral.trusted.handshake import client
from ephemeral.trusted.handshake.schedule import Transcript

_position = Lane._binding


def _nothing(*_arguments: Any, **_options: Any) -> None:
    """Do what a check that was forgotten does."""


def _open_marking_first(self: EnclaveChannel, frame: Any, method: Any) -> Request:
    self._window.check(frame.sequence)
    self._window.mark(frame.sequence)
    if frame.chunk != 0 or not frame.final:
        raise FrameRejected("")
    return Request(self._incoming.open(frame, method), frame.sequence, method, self._outgoing)


def _open_any_chunk(self: Answer, frame: Any) -> bytes:
    message = self._lane.open(frame, self._method)
    self._ended = frame.final
    return message


def _without(**fixed: Any) -> Callable[[Lane, Position], bytes]:
    """Return associated data in which some fields are always the same."""

    def binding(self: Lane, at: Position) -> bytes:
        return _position(self, Position(**{name: fixed.get(name, getattr(at, name)) for name in at._fields}))

    return binding


def _nonce_of_sequence_only(self: Lane, at: Position) -> bytes:
    return (self._iv ^ at.sequence << 32).to_bytes(12, "big")


FRAME_BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a replayed request runs again": lambda patch: patch.setattr(ReplayWindow, "mark", _nothing),
    "junk uses sequence numbers up": lambda patch: patch.setattr(EnclaveChannel, "open", _open_marking_first),
    "chunks may be left out": lambda patch: patch.setattr(Answer, "open", _open_any_chunk),
    "the method is not authenticated": lambda patch: patch.setattr(Lane, "_binding", _without(method=2)),
    "the end is not authenticated": lambda patch: patch.setattr(Lane, "_binding", _without(final=True)),
    "chunks share a nonce": lambda patch: patch.setattr(Lane, "_nonce", _nonce_of_sequence_only),
    "an answer cut short counts as whole": lambda patch: patch.setattr(Answer, "finish", _nothing),
}
HANDSHAKE_BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the hello's signature is not checked": lambda patch: patch.setattr(client, "_check_signature", _nothing),
    "the client's hello is not signed": lambda patch: patch.setattr(
        Transcript, "signed", property(lambda t: t.server_hello)
    ),
}
