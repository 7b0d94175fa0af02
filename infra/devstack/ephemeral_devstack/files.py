"""The files the stack writes: the enclave's configuration, clients' trust policy, the publisher's settings."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from ephemeral.trusted.ed25519 import SigningKey, VerifyingKey
from ephemeral.trusted.policy import Measurements


def enclave_config(listen: str, host: str, publisher: SigningKey, *model_ids: str) -> bytes:
    """Return the configuration that a production image would have baked in."""
    models = "".join(f'\n[[models]]\nmodel_id = "{model_id}"\nminimum_version = 1\n' for model_id in model_ids)
    return f"""\
# SIMULATED development stack: in production this file is part of the measured image.
version = 1
listen = "{listen}"
host = "{host}"

# A developer who rolls out another version wants to see it now.
[intervals]
boot_config_seconds = 1
drain_seconds = 1

[[publishers]]
public_key = "{publisher.verifying_key.raw.hex()}"
{models}""".encode()


def models_file(path: Path, sources: Mapping[str, str]) -> None:
    """Write, in one piece, the file that tells the host where each model's manifest lies."""
    written = path.with_suffix(".new")
    written.write_text("".join(f"{model_id}={manifest_key}\n" for model_id, manifest_key in sources.items()))
    written.replace(path)


def trust_file(path: Path, root_sha256: str, measured: Measurements, publisher: VerifyingKey) -> None:
    """Write the policy under which a client trusts this stack, and nothing but this stack."""
    registers = "\n".join(f'pcr{index} = "{value.hex()}"' for index, value in measured.pinned.items())
    path.write_text(
        f"""\
# Trust policy of a SIMULATED development stack. The root was made when it started; no hardware stands behind it.
version = 1

[[roots]]
name = "SIMULATED development root"
sha256 = "{root_sha256}"
evaluation = true

[[measurements]]
label = "{measured.label}"
{registers}

[[publishers]]
name = "SIMULATED publisher"
public_key = "{publisher.raw.hex()}"
"""
    )


def publisher_environment(path: Path, settings: Mapping[str, str]) -> None:
    """Write what a shell reads before it publishes to this stack; only its owner can read it."""
    path.unlink(missing_ok=True)
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"# SIMULATED development stack: its publisher's access key and addresses.\n{lines}")
