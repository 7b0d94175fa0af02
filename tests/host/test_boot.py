"""The boot configuration is the same bytes for the same settings: its digest is attested."""

import grpc
import pytest

from ephemeral import rpc
from ephemeral.errors import ConfigError, InvalidRequest
from ephemeral.wire import BootConfigServiceStub, BootContents, BootRequest, add_BootConfigServiceServicer_to_server
from ephemeral_host.boot import BootConfigService, boot_contents
from ephemeral_host.config import ModelSource
from tests.support.host_service import served

SOURCES = (ModelSource(model_id="a", manifest_key="a/1"), ModelSource(model_id="b", manifest_key="b/2"))


def test_the_enclave_gets_the_configured_models_byte_for_byte() -> None:
    contents = boot_contents(SOURCES)
    with served(BootConfigService(contents), add_BootConfigServiceServicer_to_server) as channel:
        answers = {BootConfigServiceStub(channel).GetBootConfig(BootRequest(version=1)).contents for _ in range(3)}
    assert answers == {contents}
    parsed = BootContents.FromString(contents)
    assert [(model.model_id, model.manifest_key) for model in parsed.models] == [("a", "a/1"), ("b", "b/2")]


def test_another_protocol_version_is_refused_with_its_own_code() -> None:
    with (
        served(BootConfigService(b""), add_BootConfigServiceServicer_to_server) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        BootConfigServiceStub(channel).GetBootConfig(BootRequest(version=2))
    error = rpc.error_from(caught.value)
    assert (type(error), error.code) == (InvalidRequest, "VERSION_UNSUPPORTED")


def test_more_than_an_enclave_accepts_is_a_configuration_error() -> None:
    sources = [ModelSource(model_id=f"m{i}", manifest_key="k" * 1024) for i in range(64)]
    with pytest.raises(ConfigError):
        boot_contents(sources)
