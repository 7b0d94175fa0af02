"""A generation of the model set with nothing loaded behind it, for tests that only open sessions."""

from ephemeral.trusted.handshake import Identity
from ephemeral_enclave.generation import Generation


def empty_generation(identity: Identity) -> Generation:
    return Generation(identity, {}, b"\x06" * 32)
