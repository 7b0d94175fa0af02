"""``ephemeralml model inspect | upload | verify``: from a folder to what an enclave may serve."""

from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ephemeral.errors import ConfigError, ContainerError
from ephemeral.protocol import MAX_MANIFEST_BYTES
from ephemeral.trusted.artifact import ContainerInfo
from ephemeral.trusted.ed25519 import KeyRejected, VerifyingKey
from ephemeral.trusted.manifest import parse_manifest
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.verification import VerificationStep
from ephemeralml.cli.evidence_file import read_evidence
from ephemeralml.cli.model_view import inspection_json, published_json, show_inspection, show_published
from ephemeralml.cli.options import JSON
from ephemeralml.cli.steps import reporting, show_json, show_report, show_steps
from ephemeralml.key_file import read_signing_key
from ephemeralml.offline import audit_manifest
from ephemeralml.publishing.checks import check_model, inspect_model
from ephemeralml.publishing.release import Release, check_key_arn

if TYPE_CHECKING:
    from types import ModuleType

_FILE: Final = click.Path(path_type=Path)
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def model() -> None:
    """Models: check a folder, publish it encrypted, and verify what was published."""


@model.command()
@click.argument("folder", type=_FOLDER, metavar="DIR")
@JSON
def inspect(folder: Path, *, as_json: bool) -> None:
    """Say whether an enclave would load the sentence-transformers folder DIR; nothing leaves this machine.

    Exit code 0: nothing speaks against it. 1: there are problems, one line each.
    """
    inspection = inspect_model(folder)
    if as_json:
        show_json(inspection_json(inspection))
    else:
        show_inspection(inspection)
    inspection.require()


@model.command()
@click.option("--model", "folder", required=True, type=_FOLDER, metavar="DIR", help="A sentence-transformers folder.")
@click.option("--id", "model_id", required=True, metavar="ID", help="What clients will call it.")
@click.option("--version", required=True, type=click.IntRange(min=1), metavar="N", help="A number that only grows.")
@click.option("--kms-key", required=True, metavar="ARN", help="The KMS key whose policy names your enclaves.")
@click.option("--bucket", required=True, metavar="B", help="The S3 bucket your hosts read.")
@click.option("--publisher-key", required=True, type=_FILE, metavar="FILE", help="From `ephemeralml keys new`.")
@click.option("--endpoint-url-kms", metavar="URL", help="Another KMS; else AWS_ENDPOINT_URL_KMS, else AWS.")
@click.option("--endpoint-url-s3", metavar="URL", help="Another S3; else AWS_ENDPOINT_URL_S3, else AWS.")
@JSON
def upload(  # noqa: PLR0913  # one per option
    folder: Path,
    model_id: str,
    version: int,
    kms_key: str,
    bucket: str,
    publisher_key: Path,
    endpoint_url_kms: str | None,
    endpoint_url_s3: str | None,
    *,
    as_json: bool,
) -> None:
    """Encrypt, sign and upload a model; run it again if it was interrupted.

    Credentials and region are the standard AWS_* variables and files. A version that is there already is never
    replaced: the same model again is a success that uploads nothing, another model is refused.
    """
    aws, uploads, progress_bars = _publishing()
    release, key, checked = Release(model_id, version), read_signing_key(publisher_key), check_model(folder)
    kms, s3 = aws.connect(check_key_arn(kms_key), endpoint_url_kms, endpoint_url_s3)
    with progress_bars.progress_bar("encrypting and uploading", checked.container_bytes, quiet=as_json) as progress:
        published = uploads.publish(
            checked, release, signing_key=key, key_arn=kms_key, kms=kms, s3=s3, bucket=bucket, progress=progress
        )
    if as_json:
        show_json(published_json(published, key.verifying_key))
    else:
        show_published(published, key.verifying_key)


@model.command()
@click.argument("manifest", type=_FILE)
@click.option("--publisher", metavar="HEX", help="The public key that must have signed it.")
@click.option("--trust", "-t", type=_FILE, metavar="FILE", help="A trust policy whose [[publishers]] may have signed.")
@click.option("--container", type=_FILE, metavar="FILE", help="The encrypted container: its size and SHA-256 too.")
@JSON
def verify(manifest: Path, publisher: str | None, trust: Path | None, container: Path | None, *, as_json: bool) -> None:
    """Verify a signed manifest, and that a downloaded container is the one it describes; no key is needed."""
    if publisher is None and trust is None:
        raise click.UsageError("give --publisher HEX or --trust FILE: anybody can sign a manifest")
    raw = read_evidence(manifest, "the manifest", MAX_MANIFEST_BYTES)
    policy = None if trust is None else TrustPolicy.load(trust)
    publishers = () if publisher is None else (_publisher(publisher),)
    with reporting(as_json=as_json):
        report = audit_manifest(raw, policy, publishers)
        described = parse_manifest(raw).manifest.container  # believed: just verified
        step = None if container is None else _check_container(container, described)
    if as_json:
        show_json(report.as_json() | ({} if step is None else {"container": step.detail}))
        return
    show_report(report)
    show_steps([] if step is None else [step])


def _publishing() -> "tuple[ModuleType, ModuleType, ModuleType]":
    try:
        from ephemeralml.cli import progress  # noqa: PLC0415 - rich and boto3 come with the extra `aws` alone
        from ephemeralml.publishing import aws, upload  # noqa: PLC0415 - as above
    except ImportError:
        text = "this needs boto3 and rich: pip install 'ephemeralml[aws]'"
        raise ConfigError(text, code="EXTRA_MISSING") from None
    return aws, upload, progress


def _publisher(text: str) -> VerifyingKey:
    try:
        return VerifyingKey(bytes.fromhex(text))
    except KeyRejected as error:
        raise click.BadParameter(str(error), param_hint="--publisher") from None
    except ValueError:
        raise click.BadParameter("must be hex characters", param_hint="--publisher") from None


def _check_container(path: Path, described: ContainerInfo) -> VerificationStep:
    """Compare a container's ciphertext with what its manifest says.

    Raises:
        ConfigError: unreadable.
        ContainerError: CONTAINER_SIZE or CONTAINER_DIGEST.
    """
    try:
        with path.open("rb") as stream:
            size, digest = path.stat().st_size, file_digest(stream, "sha256").digest()
    except OSError as error:
        raise ConfigError(f"cannot read the container {path}: {error.strerror}", code="FILE_UNREADABLE") from None
    if size != described.size:
        raise ContainerError(f"{path} has {size} bytes, the manifest says {described.size}", code="CONTAINER_SIZE")
    if digest != described.sha256:
        raise ContainerError(f"{path} is not the container that the manifest describes", code="CONTAINER_DIGEST")
    return VerificationStep("container", "Container", f"{size} bytes, SHA-256 {digest.hex()} as the manifest says")
