"""Access keys of the development stack's roles: random at every start, handed over in an owner-only file."""

import base64
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import boto3

from ephemeral.errors import ConfigError

REGION: Final = "us-east-1"
ACCOUNT: Final = "111122223333"  # AWS's own documentation account: nobody's
_ROLE_ARN: Final = re.compile(r"arn:aws:iam::(\d{12}):role/([\w+=,.@/-]{1,128})")
_OWNER_ONLY: Final = 0o600
_MAX_FILE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class RoleCredentials:
    """One role and the access key that proves it; the secret never prints."""

    arn: str
    access_key_id: str
    secret_access_key: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _ROLE_ARN.fullmatch(self.arn):
            raise ConfigError(f"{self.arn[:200]!r} is not arn:aws:iam::ACCOUNT:role/NAME")

    @property
    def account(self) -> str:
        """Return the twelve digits of the account."""
        return self.arn.split(":")[4]

    def session(self) -> boto3.Session:
        """Return an SDK session that acts as this role."""
        return boto3.Session(self.access_key_id, self.secret_access_key, region_name=REGION)

    def environment(self) -> dict[str, str]:
        """Return what an AWS SDK reads from its environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }


def role_arn(name: str) -> str:
    """Return the ARN that the role `name` has in the development account."""
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def issue_credentials(arn: str) -> RoleCredentials:
    """Make a fresh access key for a role."""
    suffix = base64.b32encode(secrets.token_bytes(10)).decode()
    return RoleCredentials(arn, f"SIMULATED{suffix}", secrets.token_urlsafe(30))


def save_credentials(roles: Mapping[str, RoleCredentials], path: Path) -> None:
    """Write the roles by name, replacing an older file in one step; the file is readable by its owner only."""
    content = {
        name: {"arn": role.arn, "access_key_id": role.access_key_id, "secret_access_key": role.secret_access_key}
        for name, role in roles.items()
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"simulated": True, "roles": content}, file, indent=1)
    partial.replace(path)


def load_credentials(path: Path) -> dict[str, RoleCredentials]:
    """Read the roles that `save_credentials` wrote.

    Raises:
        ConfigError: absent, readable by others, or not such a file.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} is readable by others; chmod 600 it")
        content = json.loads(path.read_bytes()[:_MAX_FILE_BYTES])
        return {name: RoleCredentials(**role) for name, role in content["roles"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} holds no role credentials: {error}") from None
