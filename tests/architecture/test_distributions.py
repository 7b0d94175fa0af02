"""What an operator installs: each wheel holds its own zone, all of it, and nothing of another."""

import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "ephemeral": ".",
    "ephemeralml": "clients/python",
    "ephemeral_host": "services/host",
    "ephemeral_enclave": "services/enclave",
    "ephemeral_devstack": "infra/devstack",
}
PRODUCT = ("ephemeral", "ephemeralml", "ephemeral_host", "ephemeral_enclave")
CIPHERS = ("cryptography", "pyhpke", "cbor2", "[trusted]")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    """Every distribution's wheel, by the package it installs."""
    out = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    sources = [f"./{folder}" for folder in FOLDERS.values()]
    subprocess.run([*build, "--wheel-dir", str(out), *sources], cwd=ROOT, check=True)
    opened = [zipfile.ZipFile(path) for path in out.glob("*.whl")]
    return {package: wheel for wheel in opened for package in packages(wheel)}


def packages(wheel: zipfile.ZipFile) -> set[str]:
    return {top for name in wheel.namelist() if not (top := name.partition("/")[0]).endswith(".dist-info")}


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_each_wheel_installs_exactly_one_package(wheels: dict[str, zipfile.ZipFile]) -> None:
    assert {name: packages(wheel) for name, wheel in wheels.items()} == {name: {name} for name in FOLDERS}


@pytest.mark.parametrize("package", FOLDERS)
def test_wheel_holds_every_module_of_its_zone(package: str, wheels: dict[str, zipfile.ZipFile]) -> None:
    folder = ROOT / FOLDERS[package]
    sources = {path.relative_to(folder).as_posix() for path in (folder / package).rglob("*.py")}
    assert sources
    assert sources - set(wheels[package].namelist()) == set()
    assert f"{package}/py.typed" in wheels[package].namelist()


def test_host_requires_no_cipher(wheels: dict[str, zipfile.ZipFile]) -> None:
    requirements = metadata(wheels["ephemeral_host"]).get_all("Requires-Dist") or []
    assert requirements
    assert [line for line in requirements if any(cipher in line for cipher in CIPHERS)] == []


def test_protocol_requires_ciphers_only_with_the_extra(wheels: dict[str, zipfile.ZipFile]) -> None:
    requirements = metadata(wheels["ephemeral"]).get_all("Requires-Dist") or []
    ciphers = [line for line in requirements if any(cipher in line for cipher in CIPHERS)]
    assert ciphers
    assert [line for line in ciphers if not line.endswith("extra == 'trusted'")] == []


@pytest.mark.parametrize("package", ["ephemeral", "ephemeralml"])
def test_sdk_requires_no_inference_stack(package: str, wheels: dict[str, zipfile.ZipFile]) -> None:
    requirements = metadata(wheels[package]).get_all("Requires-Dist") or []
    assert [line for line in requirements if line.startswith(("torch", "sentence-transformers", "transformers"))] == []


@pytest.mark.parametrize("package", PRODUCT)
@pytest.mark.parametrize("trace", [b"SimulatedNsm", b"ephemeral_devstack", b"PRIVATE KEY-----"], ids=repr)
def test_no_product_wheel_carries_a_simulated_root(
    package: str, trace: bytes, wheels: dict[str, zipfile.ZipFile]
) -> None:
    wheel = wheels[package]
    assert [name for name in wheel.namelist() if trace in wheel.read(name)] == []


@pytest.mark.parametrize("package", PRODUCT)
def test_no_product_wheel_requires_the_development_stack(package: str, wheels: dict[str, zipfile.ZipFile]) -> None:
    requirements = metadata(wheels[package]).get_all("Requires-Dist") or []
    assert [line for line in requirements if line.startswith(("ephemeralml-devstack", "moto"))] == []
