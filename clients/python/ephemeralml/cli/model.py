"""``ephemeralml model``: from a folder to what an enclave serves."""

from pathlib import Path
from typing import Final

import click

from ephemeral.protocol import MAX_MANIFEST_BYTES
from ephemeral.trusted.artifact import ContainerInfo
from ephemeral.trusted.manifest import parse_manifest
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.verification import VerificationStep
from ephemeralml.cli.describe import describe
from ephemeralml.cli.evidence_file import read_evidence
from ephemeralml.cli.model_view import inspection_json, show_inspection
from ephemeralml.cli.options import JSON, read_publisher
from ephemeralml.cli.publish import encrypt, sign, upload
from ephemeralml.cli.steps import reporting, show_json, show_report, show_steps
from ephemeralml.offline import audit_manifest
from ephemeralml.publishing.checks import inspect_model
from ephemeralml.publishing.prepared import compare_container

_FILE: Final = click.Path(path_type=Path)
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def model() -> None:
    """Models: check a folder, publish it encrypted, verify what was published, and ask an enclave what it serves."""


for command in (encrypt, sign, upload, describe):
    model.add_command(command)


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
@click.argument("manifest", type=_FILE)
@click.option("--publisher", metavar="HEX", help="The public key that must have signed it.")
@click.option("--trust", "-t", type=_FILE, metavar="FILE", help="A trust policy whose [[publishers]] may have signed.")
@click.option("--container", type=_FILE, metavar="FILE", help="The encrypted container: its size and SHA-256 too.")
@JSON
def verify(manifest: Path, publisher: str | None, trust: Path | None, container: Path | None, *, as_json: bool) -> None:
    """Verify a signed manifest, and that a downloaded container is the one it describes; no key is needed."""
    if publisher is None and trust is None:
        raise click.UsageError("give --publisher HEX or --trust FILE: anybody can sign a manifest")
    raw = read_evidence(manifest, "manifest", MAX_MANIFEST_BYTES).raw
    policy = None if trust is None else TrustPolicy.load(trust)
    publishers = () if publisher is None else (read_publisher(publisher),)
    with reporting(as_json=as_json):
        report = audit_manifest(raw, policy, publishers)
        described = parse_manifest(raw).manifest.container  # believed: just verified
        step = None if container is None else _check_container(container, described)
    if as_json:
        show_json(report.as_json() | ({} if step is None else {"container": step.detail}))
        return
    show_report(report)
    show_steps([] if step is None else [step])


def _check_container(path: Path, described: ContainerInfo) -> VerificationStep:
    compare_container(path, described)
    digest, size = described.sha256, described.size
    return VerificationStep("container", "Container", f"{size} bytes, SHA-256 {digest.hex()} as the manifest says")
