"""The baked configuration: what would not protect does not load."""

from pathlib import Path

import pytest

from ephemeral.errors import ConfigError
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral_enclave.config import MAX_CONFIG_BYTES, EnclaveConfig, Intervals
from ephemeral_enclave.quota import ModelLimits

KEY = SigningKey.from_seed(b"\x01" * 32).verifying_key.raw.hex()
GOOD = f"""
version = 1
listen = "vsock://any:5000"
host = "vsock://3:8082"
[[publishers]]
public_key = "{KEY}"
[[models]]
model_id = "m"
minimum_version = 3
queued_texts = 100
[intervals]
boot_config_seconds = 0
[limits]
sessions = 10
"""


def test_good_configuration_is_read() -> None:
    config = EnclaveConfig.parse(GOOD.encode())
    assert str(config.listen) == "vsock://any:5000"
    assert config.minimum_versions == {"m": 3}
    assert config.quotas == {"m": ModelLimits(queued_requests=None, queued_texts=100)}
    assert config.limits.sessions == 10
    assert config.intervals == Intervals(boot_config_seconds=0)
    assert [key.raw.hex() for key in config.publishers] == [KEY]


def test_digest_is_of_the_exact_bytes() -> None:
    assert EnclaveConfig.parse(GOOD.encode()).digest != EnclaveConfig.parse(GOOD.encode() + b"\n").digest


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("version = 1", "version = 2", "version"),
        ("version = 1", "", "version"),
        ("version = 1", 'version = 1\nsurprise = "x"', "unknown key surprise"),
        ("sessions = 10", "sesions = 10", "unknown key limits.sesions"),
        ("sessions = 10", "sessions = -1", "sessions"),
        ("sessions = 10", "sessions = true", "sessions"),
        ("minimum_version = 3", "", "minimum_version"),
        ("minimum_version = 3", "minimum_version = 3\nx = 1", "unknown key models"),
        ("queued_texts = 100", "queued_texts = 0", r"models\[0\].queued_texts must be 1 or more"),
        ("boot_config_seconds = 0", "counters_seconds = 9", "intervals.counters_seconds must be 0 or at least 10"),
        ("boot_config_seconds", "boot_config_secs", "unknown key intervals.boot_config_secs"),
        (f'public_key = "{KEY}"', "", "public_key"),
        (KEY, "00" * 32, "low order"),
        (KEY, "ff" * 32, "canonical"),
        (KEY, "zz", "public_key"),
        (f'[[publishers]]\npublic_key = "{KEY}"', "publishers = []", "trust nobody or everybody"),
        ("vsock://any:5000", "https://any", "https://any"),
        ("[limits]", '[[models]]\nmodel_id = "m"\nminimum_version = 1\n[limits]', "stands twice"),
        ("version = 1", "version = ", "not TOML"),
        ("version = 1", "version = " + "[" * 20_000, "not TOML"),
        ("version = 1", "version = " + "9" * 20_000, "not TOML"),
        ("version = 1", "a." * 20_000 + "a = 1", "dots"),
    ],
)
def test_mistakes_are_named(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=says):
        EnclaveConfig.parse(GOOD.replace(old, new).encode())


def test_unreadable_and_oversized_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        EnclaveConfig.load(tmp_path / "none")
    with pytest.raises(ConfigError, match="more than"):
        EnclaveConfig.parse(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="not TOML"):
        EnclaveConfig.parse(b"\xff\xfe")
