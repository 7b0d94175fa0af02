"""A wrong setting is one line that names its variable; a right one is what the host prints."""

import re
from pathlib import Path

import pytest

from ephemeral.errors import ConfigError
from ephemeral.transport import Address
from ephemeral_host.config import HostConfig, ModelSource, load, unknown_variables
from tests.support.aws_environment import FAKE_KEY_ID, FAKE_SECRET, aws_environment, set_environment

GOOD = {"EPHEMERALML_S3_BUCKET": "models", "EPHEMERALML_MODELS": "minilm=minilm/manifest"}


def loaded(patch: pytest.MonkeyPatch, **changes: str) -> HostConfig:
    set_environment(patch, GOOD | {f"EPHEMERALML_{name}": value for name, value in changes.items()})
    return load()


def test_two_settings_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(monkeypatch)
    assert config.models == (ModelSource(model_id="minilm", manifest_key="minilm/manifest"),)
    assert [str(config.listen), *map(str, config.enclave), str(config.services)] == [
        "tcp://127.0.0.1:7443",
        "vsock://16:5000",
        "vsock://any:8082",
    ]


def test_lists_take_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(monkeypatch, MODELS="a=x/1, b=y/2", ENCLAVE="vsock://16:5000, vsock://17:5000")
    assert [model.manifest_key for model in config.models] == ["x/1", "y/2"]
    assert config.enclave == (Address.parse("vsock://16:5000"), Address.parse("vsock://17:5000"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_BUCKET", "Not_A_Bucket"),
        ("MODELS", "minilm"),
        ("MODELS", "minilm="),
        ("MODELS", "min ilm=x"),
        ("MODELS", "a=x,a=y"),
        ("MODELS", ",".join(f"m{i}=x" for i in range(17))),
        ("LISTEN", "7443"),
        ("ENCLAVE", "vsock://16:5000,"),
        ("SERVICES", "http://127.0.0.1"),
        ("METRICS", "unix:///tmp/metrics"),
        ("MAX_CONNECTIONS", "many"),
        ("MAX_CONNECTIONS_PER_PEER", "0"),
        ("IDLE_TIMEOUT_SECONDS", "0"),
        ("BYTES_PER_SECOND", "1"),
        ("DRAIN_SECONDS", "-1"),
        ("AWS_ATTEMPTS", "0"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^EPHEMERALML_{name}: ") as caught:
        loaded(monkeypatch, **{name: value})
    assert "\n" not in caught.value.detail


def test_all_missing_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GOOD:
        monkeypatch.delenv(name, raising=False)
    says = r"^EPHEMERALML_S3_BUCKET is required; EPHEMERALML_MODELS_FILE: set either this or EPHEMERALML_MODELS$"
    with pytest.raises(ConfigError, match=says):
        load()


def test_models_come_from_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^EPHEMERALML_MODELS_FILE: set either this or EPHEMERALML_MODELS$"):
        loaded(monkeypatch, MODELS_FILE=str(tmp_path / "models"))


def test_models_file_has_one_model_per_line_and_is_read_when_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "models"
    config = loaded(monkeypatch, MODELS="", MODELS_FILE=str(path))
    for content in ("org/a=a/1\n# b is being prepared\n\n b=b/2 \n", "org/a=a/2"):
        path.write_text(content)
        expected = [line.strip() for line in content.splitlines() if "=" in line]
        assert [f"{model.model_id}={model.manifest_key}" for model in config.sources()] == expected


@pytest.mark.parametrize("content", [None, b"", b"# none", b"a", b"a=1\na=2", b"\xff=1", b"a=1\n" * 20_000])
def test_wrong_models_file_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "models"
    if content is not None:
        path.write_bytes(content)
    config = loaded(monkeypatch, MODELS="", MODELS_FILE=str(path))
    with pytest.raises(ConfigError, match=re.escape(f"models file {path}")) as caught:
        config.sources()
    assert "\n" not in caught.value.detail


def test_the_printed_configuration_sets_up_an_equal_host_and_shows_no_credential(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_environment(monkeypatch, aws_environment())
    config = loaded(monkeypatch, ENCLAVE="vsock://16:5000,vsock://17:5000", DRAIN_SECONDS="2.5")
    printed = dict(line.split("=", 1) for line in config.lines())
    assert not any(secret in value for value in printed.values() for secret in (FAKE_KEY_ID, FAKE_SECRET))
    set_environment(monkeypatch, {name: value for name, value in printed.items() if value})
    assert load() == config


def test_printed_settings_can_be_pasted_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPHEMERALML_S3_BUCKET", "models")
    monkeypatch.setenv("EPHEMERALML_MODELS", "org/m=key")
    first = load().lines()
    for line in first:
        monkeypatch.setenv(*line.split("=", 1))
    assert load().lines() == first


def test_misspelt_variable_is_named() -> None:
    environment = {"EPHEMERALML_LISTNE": "x", "EPHEMERALML_LISTEN": "x", "PATH": "x"}
    assert unknown_variables(environment) == ["EPHEMERALML_LISTNE"]


def test_enclave_cannot_be_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPHEMERALML_S3_BUCKET", "models")
    monkeypatch.setenv("EPHEMERALML_MODELS", "m=key")
    monkeypatch.setenv("EPHEMERALML_ENCLAVE", "vsock://any:5000")
    with pytest.raises(ConfigError, match="vsock://any is for listening"):
        load()
