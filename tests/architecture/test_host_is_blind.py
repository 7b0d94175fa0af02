"""The host process cannot read what it carries: no cipher and no trusted module is ever loaded into it."""

import os
import subprocess
import sys
from pathlib import Path

import ephemeral_host

FORBIDDEN = {"cryptography", "pyhpke", "cbor2", "nacl", "torch"}

LOAD_EVERYTHING = """
import importlib, pkgutil, sys
import ephemeral_host.__main__
for module in pkgutil.walk_packages(ephemeral_host.__path__, "ephemeral_host."):
    importlib.import_module(module.name)
"""
SERVE = """
import boto3
for service in ("kms", "s3"):
    boto3.client(service, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
"""
REPORT = "print(*sorted(sys.modules), sep='\\n')"


def loaded_by(program: str) -> set[str]:
    """Return the modules loaded by a program of its own process, without what coverage would add to it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    result = subprocess.run(
        [sys.executable, "-c", program + REPORT], capture_output=True, text=True, check=True, env=environment
    )
    return set(result.stdout.split())


def test_the_host_process_never_loads_a_cipher_or_a_trusted_module() -> None:
    loaded = loaded_by(LOAD_EVERYTHING + SERVE)
    own = {f"ephemeral_host.{path.stem}" for path in Path(ephemeral_host.__file__).parent.glob("[a-z]*.py")}
    assert own <= loaded, "every module of the host was looked at"
    assert {"boto3", "grpc"} <= loaded
    assert not FORBIDDEN & {name.partition(".")[0] for name in loaded}
    assert not [name for name in loaded if name.startswith("ephemeral.trusted")]


def test_the_relay_loads_neither_messages_nor_grpc() -> None:
    """It could not parse a frame if it wanted to."""
    loaded = loaded_by("import sys, ephemeral_host.relay\n")
    assert "ephemeral_host.relay" in loaded
    assert not {"ephemeral.wire", "ephemeral.generated", "google.protobuf", "grpc", "boto3"} & loaded
