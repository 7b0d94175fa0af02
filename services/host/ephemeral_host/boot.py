"""BootConfigService: tells the enclave where its models lie. Nothing here is secret and nothing is believed."""

from collections.abc import Iterable

import grpc

from ephemeral import rpc
from ephemeral.errors import ConfigError, InvalidRequest
from ephemeral.protocol import MAX_BOOT_CONFIG_BYTES, VERSION
from ephemeral.wire import BootConfig, BootConfigServiceServicer, BootContents, BootRequest, ModelSource
from ephemeral_host import config


def boot_contents(models: Iterable[config.ModelSource]) -> bytes:
    """Return the serialised BootContents; its SHA-256 is what the enclave attests.

    Raises:
        ConfigError: more bytes than an enclave accepts.
    """
    sources = [ModelSource(model_id=model.model_id, manifest_key=model.manifest_key) for model in models]
    contents = BootContents(models=sources).SerializeToString(deterministic=True)
    if len(contents) > MAX_BOOT_CONFIG_BYTES:
        raise ConfigError(f"the boot configuration has {len(contents)} bytes, more than {MAX_BOOT_CONFIG_BYTES}")
    return contents


class BootConfigService(BootConfigServiceServicer):
    """Answers every enclave with the same bytes, serialised once: equal hosts have equal digests."""

    def __init__(self, contents: bytes) -> None:
        self.replace(contents)

    def replace(self, contents: bytes) -> None:
        """Answer with other bytes from now on; enclaves that serve come back for them."""
        self._answer = BootConfig(contents=contents)

    @rpc.serving
    def GetBootConfig(self, request: BootRequest, context: grpc.ServicerContext) -> BootConfig:  # noqa: ARG002, N802
        """Return the boot configuration."""
        if request.version != VERSION:
            text = f"this host speaks protocol version {VERSION}, not {request.version}"
            raise InvalidRequest(text, code="VERSION_UNSUPPORTED")
        return self._answer
