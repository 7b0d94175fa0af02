"""Key policies in AWS: what is there now, how it differs, and putting another in its place.

The one module of this package that needs boto3, which comes with `ephemeralml[aws]`.
"""

import difflib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError

from ephemeral.errors import ConfigError, KmsDenied, KmsUnavailable

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

# A key, never an alias: whoever may move an alias would choose the key that gets the policy.
_KEY_ARN: Final = re.compile(r"arn:aws(?:-[a-z]+)*:kms:([a-z0-9-]{1,32}):[0-9]{12}:key/[A-Za-z0-9-]{1,64}", re.ASCII)
_TRANSIENT: Final = frozenset(
    {"ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "RequestTimeoutException"}
)
_CONFIG: Final = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=30)
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class KeyPolicySlot:
    """The policy of one KMS key, through boto3."""

    key_arn: str
    kms: "KMSClient"

    @classmethod
    def open(cls, key_arn: str, endpoint_url: str | None = None) -> Self:
        """Open the key, in the region of its ARN; credentials are boto3's own (`AWS_*`).

        Raises:
            ConfigError: not the ARN of a key, or settings of which boto3 makes no client.
        """
        match = _KEY_ARN.fullmatch(key_arn)
        if match is None:
            text = f"{key_arn[:200]!r} is not arn:aws:kms:REGION:ACCOUNT:key/ID; an alias may be moved to another key"
            raise ConfigError(text, code="KMS_KEY_ARN")
        try:
            return cls(key_arn, boto3.client("kms", region_name=match[1], endpoint_url=endpoint_url, config=_CONFIG))
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(f"AWS settings: {error}", code="AWS_SETTINGS") from None

    def read(self) -> str:
        """Return the present policy.

        Raises:
            ConfigError: no credentials, or other settings of boto3 are wrong.
            KmsDenied: KMS refused.
            KmsUnavailable: KMS cannot be reached, or is too busy.
        """
        with _typed_errors():
            return self.kms.get_key_policy(KeyId=self.key_arn, PolicyName=_DEFAULT)["Policy"]

    def put(self, text: str) -> None:
        """Replace the policy. KMS refuses one that would lock its writer out; that check is never bypassed.

        Raises:
            ConfigError: no credentials, or other settings of boto3 are wrong.
            KmsDenied: KMS refused.
            KmsUnavailable: KMS cannot be reached, or is too busy.
        """
        with _typed_errors():
            self.kms.put_key_policy(KeyId=self.key_arn, PolicyName=_DEFAULT, Policy=text)


def policy_diff(present: str, wanted: str) -> list[str]:
    """Return a unified diff of two policies, blind to white space and the order of members; empty: they are equal."""
    return list(difflib.unified_diff(_lines(present), _lines(wanted), "present", "wanted", lineterm=""))


def _lines(text: str) -> list[str]:
    try:
        return json.dumps(json.loads(text), indent=2, sort_keys=True).splitlines()
    except ValueError:
        return text.splitlines()


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        name, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if name in _TRANSIENT:
            raise KmsUnavailable(f"KMS: {name}: {text}", code="KMS_THROTTLED") from None
        raise KmsDenied(f"KMS: {name}: {text}", code="KMS_ACCESS_DENIED" if "Denied" in name else None) from None
    except (EndpointConnectionError, HTTPClientError) as error:
        raise KmsUnavailable(f"KMS cannot be reached: {error}") from None
    except BotoCoreError as error:
        raise ConfigError(f"AWS settings: {error}", code="AWS_SETTINGS") from None
