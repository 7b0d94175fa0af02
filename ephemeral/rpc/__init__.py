"""gRPC as every zone uses it: the same limits, the same deadlines, one table between errors and statuses.

Two addresses matter to gRPC: TCP and UNIX. A VSock address goes through a bridge of ``ephemeral.transport``.
"""

from ephemeral.rpc.calling import claimed, translated
from ephemeral.rpc.channel import open_aio_channel, open_channel
from ephemeral.rpc.deadline import deadline
from ephemeral.rpc.options import MAX_MESSAGE_BYTES, channel_options, server_options
from ephemeral.rpc.serving import abort_with, abort_with_async, serving
from ephemeral.rpc.status import KIND_OF_CODE, STATUS_OF, error_from, status_of

__all__ = [
    "KIND_OF_CODE",
    "MAX_MESSAGE_BYTES",
    "STATUS_OF",
    "abort_with",
    "abort_with_async",
    "channel_options",
    "claimed",
    "deadline",
    "error_from",
    "open_aio_channel",
    "open_channel",
    "server_options",
    "serving",
    "status_of",
    "translated",
]
