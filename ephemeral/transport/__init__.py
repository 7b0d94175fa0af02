"""Byte streams between the zones: addresses, sockets and the splice that joins two of them.

Nothing here knows what the bytes mean, and nothing here imports gRPC: the relay is built from these parts alone.
"""

from ephemeral.transport.address import Address, Scheme
from ephemeral.transport.bridge import LocalBridge, ServerBridge
from ephemeral.transport.sockets import connect, listen
from ephemeral.transport.splice import EventKind, Splice, SpliceEvent, SpliceLimits, Traffic, serve_splice

__all__ = [
    "Address",
    "EventKind",
    "LocalBridge",
    "Scheme",
    "ServerBridge",
    "Splice",
    "SpliceEvent",
    "SpliceLimits",
    "Traffic",
    "connect",
    "listen",
    "serve_splice",
]
