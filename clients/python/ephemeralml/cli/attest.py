"""``ephemeralml attest``: verify the enclave and say, check by check, what was verified."""

from pathlib import Path
from typing import Final

import click

from ephemeral.trusted.attestation import VerifiedEnclave
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.wire import ServedModel
from ephemeralml.cli.options import connection_options, write_file
from ephemeralml.cli.steps import reporting, show_json, show_report
from ephemeralml.client import Client
from ephemeralml.evidence import DOCUMENT, add_limits
from ephemeralml.examination import Examination

_SIMULATED: Final = "SIMULATED: the root of trust is a development one. This proves the protocol, not the hardware."
_PLAN: Final = (*DOCUMENT, "session.hello", "session.keys", "session.models", "policy.model")
_MODEL_FIELDS: Final = ("model_id", "version", "manifest_sha256")


@click.command()
@connection_options
@click.option("--document-out", type=click.Path(path_type=Path), metavar="FILE", help="Keep the attestation document.")
def attest(address: str, trust: Path, timeout: float, document_out: Path | None, *, as_json: bool) -> None:
    """Verify the enclave behind ADDR and print each check."""
    policy = TrustPolicy.load(trust)
    exam = Examination("live enclave", _PLAN)
    with reporting(as_json=as_json), exam.running():
        with Client.connect(address, trust=policy, timeout=timeout) as client:
            enclave, models = client.enclave, client.models
            steps = client.steps
        exam.took(steps)
        _accept_models(exam, policy, models)
    if document_out is not None:
        write_file(document_out, "the document", enclave.document.raw)
    _describe(exam, enclave, models)
    report = exam.finish()
    if as_json:
        served = [dict(zip(_MODEL_FIELDS, _row(model), strict=True)) for model in models]
        show_json(report.as_json() | {"security_mode": enclave.security_mode, "models": served})
        return
    show_report(report)
    if enclave.security_mode != "production":
        click.secho(_SIMULATED, fg="yellow")


def _describe(exam: Examination, enclave: VerifiedEnclave, models: tuple[ServedModel, ...]) -> None:
    document = enclave.document
    exam.facts |= {
        "module": document.module_id,
        "made": document.timestamp.isoformat(),
        "build": enclave.measurements.label,
        "security_mode": enclave.security_mode,
        **{f"pcr{index}": value.hex() for index, value in sorted(document.pcrs.items()) if any(value)},
    }
    for model_id, version, digest in map(_row, models):
        exam.facts[f"serves {model_id}"] = f"version {version}, manifest sha256 {digest}"
    build = enclave.measurements.label or "without label"
    exam.proven.append(
        f"an enclave of the accepted build {build!r} answers there now, with a document made for this call."
    )
    exam.proven.append("it holds this session's keys and the receipt key; no text is sent before that is verified.")
    add_limits(exam, evaluation=document.root.evaluation, archived=False)


def _row(model: ServedModel) -> tuple[str, int, str]:
    return model.model_id, int(model.version), model.manifest_digest.hex()


def _accept_models(exam: Examination, policy: TrustPolicy, models: tuple[ServedModel, ...]) -> None:
    for model in models:
        policy.accept_model(model.model_id, int(model.version), model.manifest_digest)
    if policy.models:
        exam.passed("policy.model", "all models served are accepted")
    else:
        exam.skip("policy.model", "not compared: the policy names no model", optional=True)
