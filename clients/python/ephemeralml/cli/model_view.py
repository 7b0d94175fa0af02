"""A model's folder and its publication, as lines a person reads and as JSON."""

from typing import Final

import click

from ephemeral.trusted.ed25519 import VerifyingKey
from ephemeralml.publishing.checks import Inspection
from ephemeralml.publishing.prepared import PreparedRelease
from ephemeralml.publishing.release import PublishedModel

_SHOWN: Final = 8


def show_inspection(inspection: Inspection) -> None:
    """Print the files, what the model is, and every problem."""
    for file in inspection.files:
        click.echo(f"{file.size:>14,}  {file.sha256.hex()[:16]}…  {file.name}")
    if inspection.left_out:
        more = len(inspection.left_out) - _SHOWN
        names = ", ".join(inspection.left_out[:_SHOWN])
        click.echo(f"left out: {names}" + (f" and {more} more" if more > 0 else ""))
    for name, value in _facts(inspection).items():
        click.echo(f"{name}: {value}")
    for problem in inspection.problems:
        click.echo(f"{click.style('FAIL', fg='red')}  {problem.code}: {problem.detail}")
    if not inspection.problems:
        click.secho("OK    nothing speaks against publishing this model", fg="green")


def inspection_json(inspection: Inspection) -> dict[str, object]:
    """Return the same for a program."""
    return {
        "verdict": "REFUSED" if inspection.problems else "OK",
        "files": [{"name": file.name, "size": file.size, "sha256": file.sha256.hex()} for file in inspection.files],
        "left_out": list(inspection.left_out),
        "tensors": inspection.tensors,
        "parameters": inspection.parameters,
        "dtypes": dict(inspection.dtypes),
        "dimension": inspection.dimension,
        "max_length": inspection.max_length,
        "problems": [{"code": problem.code, "detail": problem.detail} for problem in inspection.problems],
    }


def show_prepared(prepared: PreparedRelease) -> None:
    """Print what was encrypted, and what comes next."""
    draft, folder = prepared.draft, prepared.folder
    click.secho(f"encrypted {draft.release.model_id} version {draft.release.version}", fg="green")
    click.echo(f"  {prepared.container}  {draft.container.size:,} bytes, under a data key of {draft.kms.key_arn}")
    click.echo(f"  {folder / 'draft.json'}  {len(draft.files)} files, not signed yet")
    click.echo(f"\nWhere the publisher's key is:\n\n  ephemeralml model sign {folder} --publisher-key FILE")


def prepared_json(prepared: PreparedRelease) -> dict[str, object]:
    """Return the same for a program."""
    draft = prepared.draft
    return {
        "model_id": draft.release.model_id,
        "version": draft.release.version,
        "folder": str(prepared.folder),
        "content_sha256": draft.content_digest.hex(),
        "container_bytes": draft.container.size,
        "container_sha256": draft.container.sha256.hex(),
        "kms_key": draft.kms.key_arn,
    }


def show_signed(prepared: PreparedRelease, publisher: VerifyingKey, *, compared: bool) -> None:
    """Print what was signed, whether the files were compared, and what comes next."""
    draft, signer = prepared.draft, publisher.raw.hex()
    click.secho(f"signed {draft.release.model_id} version {draft.release.version}", fg="green")
    for file in draft.files:
        click.echo(f"{file.size:>14,}  {file.sha256.hex()[:16]}…  {file.name}")
    pass_, skip = click.style("PASS", fg="green"), click.style("SKIP", fg="yellow")
    click.echo(f"{pass_}  the container is the one of the draft")
    says = "the files are those of --model" if compared else "the files were not compared: give --model DIR"
    click.echo(f"{pass_ if compared else skip}  {says}")
    click.echo(f"  {prepared.signed}  signed by {signer}")
    click.echo(
        f"\nWhere S3 is:\n\n  ephemeralml model upload --release {prepared.folder} --publisher {signer} --bucket B"
    )


def signed_json(prepared: PreparedRelease, publisher: VerifyingKey, *, compared: bool) -> dict[str, object]:
    """Return the same for a program."""
    manifest = {"manifest": str(prepared.signed), "publisher": publisher.raw.hex(), "files_compared": compared}
    return prepared_json(prepared) | manifest


def show_published(published: PublishedModel, publisher: VerifyingKey) -> None:
    """Print what was done, and the two entries that the operator needs."""
    release = published.release
    done = "uploaded" if published.uploaded else "there already, nothing uploaded:"
    click.secho(f"{done} {release.model_id} version {release.version}", fg="green")
    click.echo(f"  s3://{published.bucket}/{published.container_key}  {published.container_bytes:,} bytes, encrypted")
    click.echo(f"  s3://{published.bucket}/{published.manifest_key}  signed by {publisher.raw.hex()}")
    click.echo(f"\nThe host's environment (with EPHEMERALML_S3_BUCKET={published.bucket}):\n")
    click.echo(f"  EPHEMERALML_MODELS={host_entry(published)}")
    click.echo("\nThe enclave's configuration, before the image is built:\n")
    click.echo("".join(f"  {line}\n" for line in enclave_entry(published, publisher).splitlines()), nl=False)


def published_json(published: PublishedModel, publisher: VerifyingKey) -> dict[str, object]:
    """Return the same for a program."""
    return {
        "model_id": published.release.model_id,
        "version": published.release.version,
        "uploaded": published.uploaded,
        "bucket": published.bucket,
        "manifest_key": published.manifest_key,
        "container_key": published.container_key,
        "container_bytes": published.container_bytes,
        "kms_key": published.key_arn,
        "publisher": publisher.raw.hex(),
        "host_models": host_entry(published),
        "enclave_config": enclave_entry(published, publisher),
    }


def host_entry(published: PublishedModel) -> str:
    """Return the model's part of the host's EPHEMERALML_MODELS."""
    return f"{published.release.model_id}={published.manifest_key}"


def enclave_entry(published: PublishedModel, publisher: VerifyingKey) -> str:
    """Return the model's part of the enclave's configuration, in TOML."""
    release = published.release
    return (
        f'[[publishers]]\npublic_key = "{publisher.raw.hex()}"\n\n'
        f'[[models]]\nmodel_id = "{release.model_id}"\nminimum_version = {release.version}\n'
    )


def _facts(inspection: Inspection) -> dict[str, str]:
    facts = {}
    if inspection.tensors is not None:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(inspection.dtypes.items()))
        facts["tensors"] = f"{inspection.tensors} ({kinds})"
    if inspection.parameters is not None:
        facts["parameters"] = f"{inspection.parameters:,}"
    if inspection.dimension is not None:
        facts["vectors"] = f"{inspection.dimension} values"
    if inspection.max_length is not None:
        facts["longest text"] = f"{inspection.max_length} tokens"
    return facts
