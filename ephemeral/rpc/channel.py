"""Channels: one per session, so that a session stays on its connection and its connection on its enclave."""

import grpc
import grpc.aio

from ephemeral.rpc.options import MAX_MESSAGE_BYTES, channel_options
from ephemeral.transport.address import Address


def open_channel(address: Address, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.Channel:
    """Return a channel to a TCP or UNIX address; it connects with its first call.

    There is no TLS, because what must stay secret is sealed before it gets here.
    """
    options = channel_options(max_message_bytes=max_message_bytes)
    return grpc.insecure_channel(address.grpc_target, options)


def open_aio_channel(address: Address, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.aio.Channel:
    """Return what `open_channel` does, for asyncio."""
    options = channel_options(max_message_bytes=max_message_bytes)
    return grpc.aio.insecure_channel(address.grpc_target, options)
