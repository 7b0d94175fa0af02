"""The handshake (docs/SPEC.md, "Handshake"): attest, agree on keys, confirm. Both sides, no IO.

::

    client                                                   enclave
    Greeting.request             ── client_hello ──▶         Offer.answer(...)
    Greeting.verify(answer, now) ◀─ server_hello, document ─ offer.response
      └▶ VerifiedPeer.open()     ── encapsulated key ──▶     offer.open(...)
           └▶ Pending.confirm()  ◀─ Finished, sealed ──────  Accepted.response
                └▶ ClientSession                             Accepted.channel

Each state is a method of the one before, so nothing can be sealed to a peer that was not verified.
"""

from ephemeral.trusted.handshake.client import ClientSession, Greeting, PendingSession, VerifiedPeer
from ephemeral.trusted.handshake.enclave import Accepted, Identity, Offer, parse_client_hello

__all__ = [
    "Accepted",
    "ClientSession",
    "Greeting",
    "Identity",
    "Offer",
    "PendingSession",
    "VerifiedPeer",
    "parse_client_hello",
]
