"""Calls: whatever a stub raises becomes the typed error of the status table."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from ephemeral.rpc.status import error_from


@contextmanager
def translated() -> Iterator[None]:
    """Raise a failed call's typed error in place of gRPC's.

    Raises:
        EphemeralError: as the status table says.
    """
    try:
        yield
    except grpc.RpcError as failure:
        raise error_from(failure) from None
