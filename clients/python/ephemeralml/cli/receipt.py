"""``ephemeralml receipt verify``: check a kept receipt against its kept document, offline."""

from pathlib import Path

import click

from ephemeral.errors import AttestationError, ReceiptError
from ephemeral.protocol import MAX_DOCUMENT_BYTES, MAX_RECEIPT_BYTES
from ephemeral.trusted.policy import TrustPolicy
from ephemeralml.cli.options import read_file, trust_option
from ephemeralml.cli.steps import show_failure, show_json, show_steps, steps_json
from ephemeralml.offline import OfflineVerdict, verify_offline

_FILE = click.Path(path_type=Path)


@click.group()
def receipt() -> None:
    """Receipts: what ran, signed by what was attested."""


@receipt.command()
@trust_option
@click.option("--document", "-d", required=True, type=_FILE, metavar="FILE", help="Its attestation document.")
@click.argument("file", type=_FILE)
def verify(file: Path, document: Path, trust: Path, *, as_json: bool) -> None:
    """Verify the receipt in FILE at its document's own time, without any network."""
    policy = TrustPolicy.load(trust)
    raw = read_file(file, "the receipt", MAX_RECEIPT_BYTES)
    evidence = read_file(document, "the document", MAX_DOCUMENT_BYTES)
    try:
        verdict = verify_offline(raw, evidence, policy)
    except (AttestationError, ReceiptError) as error:
        if not as_json:
            show_failure(error)
        raise
    if as_json:
        show_json({"verdict": "VERIFIED", "steps": steps_json(verdict.steps), "claims": _claims(verdict)})
        return
    show_steps(verdict.steps)
    for name, value in _claims(verdict).items():
        click.echo(f"      {name:<20} {value}")
    click.echo(f"VERIFIED at the document's own time, {verdict.enclave.document.timestamp.isoformat()}")
    click.echo("not checked: certificate revocation; whether the document was fresh when the receipt was issued")


def _claims(verdict: OfflineVerdict) -> dict[str, object]:
    claims = verdict.receipt.claims
    return {
        "model": f"{claims.model_id} version {claims.model_version}",
        "model_hash": claims.model_hash.hex(),
        "request_hash": claims.request_hash.hex(),
        "response_hash": claims.response_hash.hex(),
        "sequence_number": claims.sequence_number,
        "issued_at": claims.iat,
        "execution_time_ms": claims.execution_time_ms,
        "memory_peak_mb": claims.memory_peak_mb,
        "policy": claims.policy_version,
        "security_mode": claims.security_mode,
    }
