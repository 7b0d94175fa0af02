"""``ephemeralml model describe``: what an attested enclave serves, what it was built from, and how it started."""

from collections.abc import Sequence
from pathlib import Path

import click

from ephemeral.trusted.manifest import VerifiedManifest
from ephemeral.trusted.policy import TrustPolicy
from ephemeralml.cli.options import connection_options
from ephemeralml.cli.steps import show_json
from ephemeralml.client import Client
from ephemeralml.description import ModelDescription, StartupStage


@click.command()
@connection_options
@click.option("--model", "-m", metavar="ID", help="Model to ask about; may be left out when only one is served.")
def describe(address: str, trust: Path, timeout: float, model: str | None, *, as_json: bool) -> None:
    """Ask the verified enclave behind ADDR what a model is, and how long each stage of its start took.

    The manifest and the build are held against what the enclave attested; the stages are the enclave's own word.
    """
    policy = TrustPolicy.load(trust)
    with Client.connect(address, trust=policy, timeout=timeout) as client:
        description = client.describe(model=model)
    if as_json:
        show_json(_json(description))
    else:
        _show(description)


def _show(description: ModelDescription) -> None:
    manifest, build = description.manifest.manifest, description.build
    click.secho(f"{manifest.model_id} version {manifest.version}", bold=True)
    signed = "verified" if isinstance(description.manifest, VerifiedManifest) else "not compared: no [[publishers]]"
    click.echo(f"  manifest     sha256 {description.manifest.digest.hex()}, attested; publisher {signed}")
    for file in manifest.files:
        click.echo(f"{file.size:>16,}  {file.sha256.hex()[:16]}…  {file.name}")
    click.echo(f"  container    {manifest.container.size:,} bytes, data key wrapped by {manifest.kms.key_arn}")
    versions = f"protocol {build.protocol_version}, enclave {build.enclave_version}"
    click.echo(f"  build        {versions}, configuration sha256 {build.configuration.hex()}")
    click.echo("  start, as the enclave tells it:")
    _show_stages(description.startup)


def _show_stages(stages: Sequence[StartupStage]) -> None:
    for stage in stages:
        moved = f"{stage.bytes:>16,} bytes" if stage.bytes else ""
        click.echo(f"    {stage.name:<12} {stage.milliseconds:>10,.1f} ms{moved}")


def _json(description: ModelDescription) -> dict[str, object]:
    manifest, build = description.manifest.manifest, description.build
    return {
        "model_id": manifest.model_id,
        "version": manifest.version,
        "manifest_sha256": description.manifest.digest.hex(),
        "publisher_verified": isinstance(description.manifest, VerifiedManifest),
        "publisher_key_id": manifest.publisher_key_id.hex(),
        "architecture": manifest.architecture,
        "files": [{"name": file.name, "sha256": file.sha256.hex(), "size": file.size} for file in manifest.files],
        "container_bytes": manifest.container.size,
        "kms_key": manifest.kms.key_arn,
        "build": {
            "protocol_version": build.protocol_version,
            "enclave_version": build.enclave_version,
            "libraries": build.libraries.hex(),
            "configuration": build.configuration.hex(),
        },
        "startup": [
            {"stage": stage.name, "model_id": stage.model_id, "milliseconds": stage.milliseconds, "bytes": stage.bytes}
            for stage in description.startup
        ],
    }
