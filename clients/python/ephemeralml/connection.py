"""One connection to one enclave, which can be given up without failing the calls that are still on it."""

from threading import Lock

import grpc

from ephemeral import rpc, wire
from ephemeral.transport import Address


class Connection:
    """A channel that the relay joined to one enclave; another connection may reach another enclave."""

    def __init__(self, address: Address) -> None:
        """Prepare a channel; nothing is sent before the first call."""
        self._channel: grpc.Channel = rpc.open_channel(address)
        self.sessions = wire.SessionServiceStub(self._channel)
        self.inference = wire.InferenceServiceStub(self._channel)
        self._lock = Lock()
        self._users = 0
        self._retired = False

    def enter(self) -> None:
        """Count one user, who will leave()."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Count one user less; the last one of a retired connection closes it."""
        with self._lock:
            self._users -= 1
            last = self._retired and self._users == 0
        if last:
            self._channel.close()

    def retire(self) -> None:
        """Close as soon as nobody uses it."""
        with self._lock:
            self._retired = True
            idle = self._users == 0
        if idle:
            self._channel.close()

    def close(self) -> None:
        """Close now; calls that are under way fail."""
        self._channel.close()
