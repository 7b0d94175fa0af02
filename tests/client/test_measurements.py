"""Builds from files: nitro-cli's JSON or a trust policy, each build once, none whose time is over."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ephemeral.errors import ConfigError, PolicyError
from ephemeralml.measurements import read_builds

PCRS = {f"PCR{index}": f"a{index}" * 48 for index in range(3)}


def nitro(path: Path, **more: str) -> Path:
    path.write_text(json.dumps({"Measurements": {"HashAlgorithm": "Sha384 { ... }", **PCRS, **more}}))
    return path


def trust(path: Path, *tables: str) -> Path:
    pcrs = "\n".join(f'pcr{index} = "{digit}{index}' for index, digit in enumerate("bbb"))
    body = "\n".join(f'{line}{line[-2:] * 47}"' for line in pcrs.splitlines())
    builds = "".join(f'[[measurements]]\nlabel = "{n}"\n{body}\n{table}\n' for n, table in enumerate(tables))
    path.write_text(f"version = 1\n{builds}")
    return path


def test_both_kinds_of_file_in_the_order_given(tmp_path: Path) -> None:
    builds = read_builds([trust(tmp_path / "t.toml", ""), nitro(tmp_path / "p.json")])
    assert [build.pcr0.hex()[:2] for build in builds] == ["b0", "a0"]


def test_build_named_twice_is_one(tmp_path: Path) -> None:
    assert len(read_builds([nitro(tmp_path / "1.json"), nitro(tmp_path / "2.json")])) == 1


def test_build_whose_time_is_over_is_left_out(tmp_path: Path) -> None:
    ended = trust(tmp_path / "t.toml", "not_after = 2020-01-01T00:00:00Z")
    with pytest.raises(PolicyError) as caught:
        read_builds([ended])
    assert caught.value.code == "POLICY_WINDOW"
    assert len(read_builds([ended], datetime(2019, 1, 1, tzinfo=UTC))) == 1


@pytest.mark.parametrize("content", ["", "not toml", '{"PCR0": "00"}', "version = 1\n"])
def test_file_that_names_no_build(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x"
    path.write_text(content)
    with pytest.raises(PolicyError):
        read_builds([path])


def test_register_nobody_extended_is_not_pinned(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        read_builds([nitro(tmp_path / "p.json", PCR8="0" * 96)])
    assert caught.value.code == "POLICY_ZERO"


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_builds([tmp_path / "none"])
    assert caught.value.code == "FILE_UNREADABLE"
