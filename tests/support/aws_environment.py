"""The environment in which boto3 finds an endpoint of ours, made-up credentials, and nothing of this machine."""

import pytest

FAKE_KEY_ID = "AKIAFAKEFAKEFAKEFAKE"
FAKE_SECRET = "fake-secret-that-must-appear-nowhere"


def aws_environment(**endpoints: str) -> dict[str, str]:
    """Return AWS_* variables; ``kms=url`` and ``s3=url`` name endpoints."""
    variables = {
        "AWS_ACCESS_KEY_ID": FAKE_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": FAKE_SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    return variables | {f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in endpoints.items()}


def set_environment(patch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Set all of them."""
    for name, value in variables.items():
        patch.setenv(name, value)
