"""Channel arguments of gRPC's C core: what a peer may make us hold, and how a dead peer is noticed.

Both lists belong together: a client that pings more often than the server permits is disconnected ("too many pings").
"""

from typing import Final

from ephemeral.protocol import MAX_FRAME_BYTES, SESSION_IDLE

_OVERHEAD_BYTES: Final = 4096  # the other fields of a message around one ciphertext
MAX_MESSAGE_BYTES: Final = MAX_FRAME_BYTES + _OVERHEAD_BYTES

_PING_EVERY_MS: Final = 30_000
_PING_PERMITTED_MS: Final = 20_000  # below the interval, so that a ping that arrives early is no offence

_IDENTITY_ONLY: Final = 1

# What a peer may send ahead of our reading, on each stream. A stranger can fill it while his call is pending: a
# server's, times its streams, is what one connection can pin. A client waits for few answers, and wants large ones
# without pauses.
_SERVER_WINDOW_BYTES: Final = 1024 * 1024
_CLIENT_WINDOW_MESSAGES: Final = 4

Option = tuple[str, int]


def channel_options(*, max_message_bytes: int = MAX_MESSAGE_BYTES) -> list[Option]:
    """Return the arguments of a client's channel."""
    return [
        *_common_options(max_message_bytes, window_bytes=_CLIENT_WINDOW_MESSAGES * max_message_bytes),
        # One channel, one connection: otherwise channels of one process share it, and a session leaves its enclave.
        ("grpc.use_local_subchannel_pool", 1),
        # http_proxy in the environment is for web traffic; a connection goes where its address says.
        ("grpc.enable_http_proxy", 0),
        # Whoever made a request decides whether it may run again: a sealed frame sent twice is a replay.
        ("grpc.enable_retries", 0),
        ("grpc.keepalive_time_ms", _PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # how long one attempt to connect may take
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]


def server_options(*, max_message_bytes: int = MAX_MESSAGE_BYTES) -> list[Option]:
    """Return the hardening arguments of a server; ``maximum_concurrent_rpcs`` is an argument of the server itself."""
    return [
        *_common_options(max_message_bytes, window_bytes=_SERVER_WINDOW_BYTES),
        ("grpc.so_reuseport", 0),  # else a second process can bind the same port and take half the connections
        ("grpc.max_concurrent_streams", 32),  # unlimited by default; bounds rapid reset (CVE-2023-44487)
        ("grpc.max_allowed_incoming_connections", 1024),
        ("grpc.max_metadata_size", 4096),
        ("grpc.absolute_max_metadata_size", 8192),
        ("grpc.server_handshake_timeout_ms", 5_000),  # a client that connects and says nothing
        ("grpc.max_connection_idle_ms", int(SESSION_IDLE.total_seconds() * 1000)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_PERMITTED_MS),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


def _common_options(max_message_bytes: int, *, window_bytes: int) -> list[Option]:
    return [
        # gRPC would look for its window by probing: pings beside most requests, each of which wakes the relay and a
        # thread at either end, and a window that a stranger can drive up to hundreds of megabytes.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", window_bytes),
        # Ciphertext does not shrink, and a compressed size would speak of what was compressed: neither end offers any.
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]
