"""``ephemeralml model encrypt | sign | upload``: each on its own machine, or all three at once.

``encrypt`` needs KMS and no publisher's key, ``sign`` the key and no network, ``upload`` S3 and neither.
"""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import click

from ephemeral.errors import ConfigError
from ephemeral.trusted.ed25519 import SigningKey, VerifyingKey
from ephemeralml.cli.model_view import (
    prepared_json,
    published_json,
    show_prepared,
    show_published,
    show_signed,
    signed_json,
)
from ephemeralml.cli.options import JSON, read_publisher
from ephemeralml.cli.steps import show_json
from ephemeralml.key_file import read_signing_key
from ephemeralml.publishing.checks import CheckedModel, check_bfloat16, check_model
from ephemeralml.publishing.folder import pack_folder
from ephemeralml.publishing.prepared import PreparedRelease, alone
from ephemeralml.publishing.release import PRECISIONS, PublishedModel, Release, check_key_arn

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

_FILE: Final = click.Path(path_type=Path)
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_ID: Final = click.option("--id", "model_id", metavar="ID", help="What clients will call it; else the folder's name.")
_VERSION: Final = click.option(
    "--version", type=click.IntRange(min=1), metavar="N", help="A number that only grows; else 1."
)
_PRECISION: Final = click.option(
    "--precision",
    type=click.Choice(list(PRECISIONS)),
    help="What enclaves compute in; else float32. bfloat16 rounds more, for speed.",
)
_KEY_HELP: Final = "The KMS key whose policy names your enclaves."
_BOTH: Final = click.option("--endpoint-url", metavar="URL", help="Another AWS; else AWS_ENDPOINT_URL, else AWS.")
_KMS_URL: Final = click.option("--endpoint-url-kms", metavar="URL", help="Another KMS; else AWS_ENDPOINT_URL_KMS.")
_S3_URL: Final = click.option("--endpoint-url-s3", metavar="URL", help="Another S3; else AWS_ENDPOINT_URL_S3.")


@click.command()
@click.option("--model", "folder", required=True, type=_FOLDER, metavar="DIR", help="A sentence-transformers folder.")
@_ID
@_VERSION
@_PRECISION
@click.option("--kms-key", required=True, metavar="ARN", help=_KEY_HELP)
@click.option("--out", "-o", required=True, type=_FILE, metavar="NEWDIR", help="Where the encrypted release goes.")
@_BOTH
@_KMS_URL
@JSON
def encrypt(  # noqa: PLR0913  # one per option
    *,
    folder: Path,
    model_id: str | None,
    version: int | None,
    precision: str | None,
    kms_key: str,
    out: Path,
    endpoint_url: str | None,
    endpoint_url_kms: str | None,
    as_json: bool,
) -> None:
    """Encrypt a model under a fresh data key from KMS, into a new folder.

    The folder then holds ciphertext, the data key as KMS wrapped it, and draft.json: what there is to sign. Nothing in
    it is secret. Next is `ephemeralml model sign`.
    """
    aws, progress_bars = _extra()
    from ephemeralml.publishing.encryption import encrypt_model  # noqa: PLC0415 - it needs boto3

    release, checked = _release(folder, model_id, version, precision), _checked(folder, precision)
    kms = aws.connect_kms(check_key_arn(kms_key), endpoint_url_kms or endpoint_url)
    with alone(out), progress_bars.progress_bar("encrypting", checked.container_bytes, quiet=as_json) as progress:
        prepared = encrypt_model(checked, release, out, key_arn=kms_key, kms=kms, progress=progress)
    if as_json:
        show_json(prepared_json(prepared))
    else:
        show_prepared(prepared)


@click.command()
@click.argument("release", type=_FOLDER, metavar="DIR")
@click.option("--publisher-key", required=True, type=_FILE, metavar="FILE", help="From `ephemeralml keys new`.")
@click.option("--model", "folder", type=_FOLDER, metavar="DIR", help="Sign only if it is of exactly these files.")
@JSON
def sign(release: Path, publisher_key: Path, folder: Path | None, *, as_json: bool) -> None:
    """Sign the release in DIR, which `model encrypt` made; no network is needed.

    The container is compared with the draft first. What is signed is draft.json: read it, or give --model with your own
    copy of the model, since whoever encrypted it could have put other files in.
    """
    key, prepared = read_signing_key(publisher_key), PreparedRelease.open(release)
    prepared.require_container()
    if folder is not None:
        prepared.require_files(pack_folder(folder))
    prepared.sign(key)
    if as_json:
        show_json(signed_json(prepared, key.verifying_key, compared=folder is not None))
    else:
        show_signed(prepared, key.verifying_key, compared=folder is not None)


@click.command()
@click.option("--model", "folder", type=_FOLDER, metavar="DIR", help="A sentence-transformers folder: all in one.")
@_ID
@_VERSION
@_PRECISION
@click.option("--kms-key", metavar="ARN", help=f"With --model: {_KEY_HELP}")
@click.option("--publisher-key", type=_FILE, metavar="FILE", help="With --model: from `ephemeralml keys new`.")
@click.option("--work", type=_FILE, metavar="DIR", help="With --model: where ciphertext waits if it is cut.")
@click.option("--release", "prepared", type=_FOLDER, metavar="DIR", help="Instead: an encrypted and signed release.")
@click.option("--publisher", metavar="HEX", help="With --release: the public key that must have signed it.")
@click.option("--bucket", required=True, metavar="B", help="The S3 bucket your hosts read.")
@_BOTH
@_KMS_URL
@_S3_URL
@JSON
def upload(  # noqa: PLR0913  # one per option
    *,
    folder: Path | None,
    model_id: str | None,
    version: int | None,
    precision: str | None,
    kms_key: str | None,
    publisher_key: Path | None,
    work: Path | None,
    prepared: Path | None,
    publisher: str | None,
    bucket: str,
    endpoint_url: str | None,
    endpoint_url_kms: str | None,
    endpoint_url_s3: str | None,
    as_json: bool,
) -> None:
    """Encrypt, sign and upload a model, or upload what was encrypted and signed before.

    If it is cut, run it again: it goes on with the parts that S3 has. A version that is there already is never
    replaced: the same model again is a success that uploads nothing, another model is refused. Credentials and region
    are the standard AWS_* variables and files.
    """
    aws, _ = _extra()
    s3_url = endpoint_url_s3 or endpoint_url
    match folder, kms_key, publisher_key, prepared, publisher:
        case Path(), str(), Path(), None, None:
            key, release = read_signing_key(publisher_key), _release(folder, model_id, version, precision)
            sealing = _Sealing(_checked(folder, precision), release, check_key_arn(kms_key), work or _cache())
            kms, s3 = aws.connect_kms(kms_key, endpoint_url_kms or endpoint_url), aws.connect_s3(kms_key, s3_url)
            published = _upload_model(sealing, key, kms, s3, bucket, quiet=as_json)
            signer = key.verifying_key
        case None, None, None, Path(), str() if not any((model_id, version, precision, work)):
            signer, ready = read_publisher(publisher), PreparedRelease.open(prepared)
            s3 = aws.connect_s3(ready.draft.kms.key_arn, s3_url)
            published = _upload_release(ready, signer, s3, bucket, quiet=as_json)
        case _:
            text = "give --model with --kms-key and --publisher-key, or --release with --publisher, and not of both"
            raise click.UsageError(text)
    if as_json:
        show_json(published_json(published, signer))
    else:
        show_published(published, signer)


@dataclass(frozen=True, slots=True)
class _Sealing:
    """What is sealed as what, under which KMS key, and below which folder the ciphertext waits."""

    model: CheckedModel
    release: Release
    key_arn: str
    work: Path

    def folder(self, bucket: str) -> Path:
        """Return a folder of its own for each release, so that one never goes on with another's parts."""
        files = "".join(f"{file.name}={file.sha256.hex()}\n" for file in self.model.files)
        release = f"{self.release.model_id}\n{self.release.version}\n{self.release.architecture}\n"
        text = f"{release}{self.key_arn}\n{bucket}\n{files}"
        return self.work / sha256(text.encode()).hexdigest()[:32]


def _upload_model(
    sealing: _Sealing, key: SigningKey, kms: "KMSClient", s3: "S3Client", bucket: str, *, quiet: bool
) -> PublishedModel:
    from ephemeralml.publishing.upload import publish  # noqa: PLC0415 - it needs boto3

    _, progress_bars = _extra()
    model, release, folder = sealing.model, sealing.release, sealing.folder(bucket)
    with progress_bars.progress_bar("encrypting and uploading", model.container_bytes, quiet=quiet) as progress:
        return publish(
            model,
            release,
            signing_key=key,
            key_arn=sealing.key_arn,
            kms=kms,
            s3=s3,
            bucket=bucket,
            work=folder,
            progress=progress,
        )


def _upload_release(
    prepared: PreparedRelease, publisher: VerifyingKey, s3: "S3Client", bucket: str, *, quiet: bool
) -> PublishedModel:
    from ephemeralml.publishing.upload import upload_release  # noqa: PLC0415 - it needs boto3

    _, progress_bars = _extra()
    with progress_bars.progress_bar("uploading", prepared.draft.container.size, quiet=quiet) as progress:
        return upload_release(prepared, publisher, s3=s3, bucket=bucket, progress=progress)


def _release(folder: Path, model_id: str | None, version: int | None, precision: str | None) -> Release:
    return Release(model_id or folder.resolve().name, version or 1, PRECISIONS[precision or "float32"])


def _checked(folder: Path, precision: str | None) -> CheckedModel:
    model = check_model(folder)
    if precision == "bfloat16":
        check_bfloat16(folder)
    return model


def _cache() -> Path:
    """Return the user's cache folder (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ephemeralml" / "publishing"


def _extra() -> tuple[ModuleType, ModuleType]:
    try:
        from ephemeralml.cli import progress  # noqa: PLC0415 - rich and boto3 come with the extra `aws` alone
        from ephemeralml.publishing import aws  # noqa: PLC0415 - as above
    except ImportError:
        text = "this needs boto3 and rich: pip install 'ephemeralml[aws]'"
        raise ConfigError(text, code="EXTRA_MISSING") from None
    return aws, progress
