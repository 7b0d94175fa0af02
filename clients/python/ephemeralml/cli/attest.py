"""``ephemeralml attest``: verify the enclave and say, step by step, what was verified."""

from pathlib import Path

import click

from ephemeral.errors import AttestationError, SessionError
from ephemeral.trusted.attestation import VerifiedEnclave
from ephemeral.trusted.policy import TrustPolicy
from ephemeralml.cli.options import connection_options, write_file
from ephemeralml.cli.steps import show_failure, show_json, show_steps, steps_json
from ephemeralml.client import Client

_SIMULATED = "SIMULATED: the root of trust is a development one. This proves the protocol, not the hardware."


@click.command()
@connection_options
@click.option("--document-out", type=click.Path(path_type=Path), metavar="FILE", help="Keep the attestation document.")
def attest(address: str, trust: Path, timeout: float, document_out: Path | None, *, as_json: bool) -> None:
    """Verify the enclave behind ADDR and print each verification step."""
    policy = TrustPolicy.load(trust)
    try:
        with Client.connect(address, trust=policy, timeout=timeout) as client:
            enclave, models = client.enclave, client.models
    except (AttestationError, SessionError) as error:
        if not as_json:
            show_failure(error)
        raise
    if document_out is not None:
        write_file(document_out, "the document", enclave.document.raw)
    for model in models:
        policy.accept_model(model.model_id, int(model.version), model.manifest_digest)
    served = [(model.model_id, int(model.version), model.manifest_digest.hex()) for model in models]
    if as_json:
        show_json(_summary(enclave) | {"models": [dict(zip(_MODEL_FIELDS, row, strict=True)) for row in served]})
        return
    show_steps(enclave.steps)
    for model_id, version, digest in served:
        click.echo(f"      serves   {model_id} version {version}, manifest sha256 {digest[:16]}…")
    click.echo(f"VERIFIED {enclave.measurements.label or 'enclave'} ({enclave.security_mode})")
    if enclave.security_mode != "production":
        click.secho(_SIMULATED, fg="yellow")


_MODEL_FIELDS = ("model_id", "version", "manifest_sha256")


def _summary(enclave: VerifiedEnclave) -> dict[str, object]:
    return {
        "verdict": "VERIFIED",
        "security_mode": enclave.security_mode,
        "label": enclave.measurements.label,
        "module_id": enclave.document.module_id,
        "timestamp": enclave.document.timestamp.isoformat(),
        "pcrs": {f"pcr{index}": value.hex() for index, value in sorted(enclave.document.pcrs.items()) if any(value)},
        "steps": steps_json(enclave.steps),
    }
