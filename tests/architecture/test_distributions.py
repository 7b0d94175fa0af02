"""What an operator installs: each wheel holds its own zone, all of it, and nothing of another."""

import json
import subprocess
import sys
import zipfile
from base64 import b64decode, b64encode
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.refusals.keys import PRIVATE, rsa_key
from tests.refusals.writing import DATA, pack

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "ephemeral": ".",
    "ephemeralml": "clients/python",
    "ephemeral_host": "services/host",
    "ephemeral_enclave": "services/enclave",
    "ephemeral_devstack": "infra/devstack",
}
PRODUCT = ("ephemeral", "ephemeralml", "ephemeral_host", "ephemeral_enclave")
# The only secrets that a product wheel may hold, and where; clients/python/ephemeralml/selftest/README.md says why.
PUBLIC_TEST_SECRETS = {
    ("ephemeralml/selftest/data/cms.json", "public_test_recipient"),
    ("ephemeralml/selftest/data/frames.json", "public_test_session"),
    ("ephemeralml/selftest/data/containers.json", "public_test_data_key"),
}
# How a private key starts in PKCS #8 (RSA, elliptic curve, Ed25519), and how PKCS #1 and SEC 1 name one in PEM.
PRIVATE_KEY_FORMS = (
    bytes.fromhex("020100300d06092a864886f70d010101"),
    bytes.fromhex("020100301006072a8648ce3d0201"),
    bytes.fromhex("020100300506032b6570"),
    b"PRIVATE KEY-----",
)
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


# --- the refusal pack, which holds certificates of a test PKI and three secrets that are public


def contents(wheel: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """Yield every file as it is, and every string of a JSON file with its hex or base64 undone."""
    for name in wheel.namelist():
        raw = wheel.read(name)
        yield name, raw
        if name.endswith(".json"):
            yield from ((name, decoded) for text in strings(json.loads(raw)) for decoded in decodings(text))


def strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from strings(item)
        case list():
            for item in value:
                yield from strings(item)


def decodings(text: str) -> Iterator[bytes]:
    for decode in (bytes.fromhex, lambda base64: b64decode(base64, validate=True)):
        try:
            yield decode(text)
        except ValueError:
            continue


def names(value: object) -> Iterator[str]:
    match value:
        case dict():
            yield from value
            for item in value.values():
                yield from names(item)
        case list():
            for item in value:
                yield from names(item)


def test_client_wheel_carries_the_whole_refusal_pack(wheels: dict[str, zipfile.ZipFile]) -> None:
    folder = "ephemeralml/selftest/data/"
    packed = {name.removeprefix(folder) for name in wheels["ephemeralml"].namelist() if name.startswith(folder)}
    assert packed == {path.name for path in DATA.iterdir()}
    assert all(wheels["ephemeralml"].read(folder + name) == (DATA / name).read_bytes() for name in packed)


def test_the_only_secrets_in_product_wheels_are_those_the_refusal_pack_calls_public(
    wheels: dict[str, zipfile.ZipFile],
) -> None:
    files = [(name, wheels[package].read(name)) for package in PRODUCT for name in wheels[package].namelist()]
    named = {(name, key) for name, raw in files if name.endswith(".json") for key in names(json.loads(raw))}
    assert {(name, key) for name, key in named if key.startswith("public_test_")} == PUBLIC_TEST_SECRETS
    assert {(name, key) for name, key in named if "private" in key or "seed" in key} == set()


@pytest.mark.parametrize("package", PRODUCT)
def test_no_product_wheel_carries_a_private_key(package: str, wheels: dict[str, zipfile.ZipFile]) -> None:
    found = [name for name, raw in contents(wheels[package]) if any(form in raw for form in PRIVATE_KEY_FORMS)]
    assert found == []


def test_no_private_key_behind_the_refusal_pack_is_in_a_product_wheel_but_the_recipients(
    wheels: dict[str, zipfile.ZipFile],
) -> None:
    pack()  # makes every key of it
    recipient = rsa_key("recipient of the data key").private_numbers()
    public = {prime.to_bytes(128, "big") for prime in (recipient.p, recipient.q)}
    assert public < PRIVATE
    spelt = {form for key in PRIVATE for form in (key, key.hex().encode(), b64encode(key)[:-4])}
    allowed = {form for key in public for form in (key, key.hex().encode())}
    holding = {
        (name, form) for package in PRODUCT for name, raw in contents(wheels[package]) for form in spelt if form in raw
    }
    assert {name for name, _ in holding} == {"ephemeralml/selftest/data/cms.json"}
    assert {form for _, form in holding} == allowed
