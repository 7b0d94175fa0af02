"""``ephemeralml verify attestation | receipt | manifest | bundle``: kept evidence, checked with nothing but files."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from ephemeral.protocol import MAX_DOCUMENT_BYTES, MAX_MANIFEST_BYTES, MAX_RECEIPT_BYTES
from ephemeral.trusted.ed25519 import KeyRejected, VerifyingKey
from ephemeral.trusted.policy import TrustPolicy
from ephemeralml.bundle import MAX_BUNDLE_BYTES, Bundle
from ephemeralml.chain import verify_bundle
from ephemeralml.cli.evidence_file import EvidenceFile, read_evidence
from ephemeralml.cli.options import JSON, trust_option
from ephemeralml.cli.steps import Given, Source, reporting, show_report
from ephemeralml.offline import Scope, audit_document, audit_manifest, audit_receipt, verify_offline

_FILE: Final = click.Path(path_type=Path)
_MAX_NONCE: Final = 1024
_OPTIONAL_TRUST: Final = click.option(
    "--trust", "-t", type=_FILE, metavar="FILE", help="Trust policy (TOML); without it, the AWS root alone."
)
_REPLAY: Final = click.option(
    "--replay",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="MODEL_DIR",
    help="Compute the answer again with this model; needs the texts in the bundle, and ephemeralml[replay].",
)
_NONCE: Final = click.option("--nonce", metavar="HEX", help="The nonce you chose; then it must be the one inside.")


@click.group()
def verify() -> None:
    """Verify kept evidence offline, one line per check: PASS, FAIL or SKIP, and a SKIP is never a pass.

    FILE is raw CBOR, the same as hex or base64 text, or a published AIR v1 vector; - is standard input. Exit code 0:
    everything required was verified; the last line says what was required. 1: a check failed, or a required one was
    skipped. 2: an option, file or policy is wrong.
    """


@verify.command()
@click.argument("file", type=_FILE)
@_OPTIONAL_TRUST
@click.option("--archive", is_flag=True, help="Verify at the document's own time, not now.")
@click.option("--origin-only", is_flag=True, help="Ask only who signed it, not what runs there.")
@click.option("--any-purpose", is_flag=True, help="Leave out which keys it binds: for documents of other systems.")
@_NONCE
@JSON
def attestation(
    file: Path,
    trust: Path | None,
    nonce: str | None,
    *,
    archive: bool,
    origin_only: bool,
    any_purpose: bool,
    as_json: bool,
) -> None:
    """Verify the attestation document in FILE."""
    policy = _policy(trust)
    scope = Scope.ORIGIN if origin_only else Scope.BUILD if any_purpose else Scope.SESSION
    kept, wanted = read_evidence(file, "document", MAX_DOCUMENT_BYTES), _nonce(nonce)
    given = _given("attestation", trust, policy, kept)
    with reporting(given, as_json=as_json):
        report = audit_document(kept.raw, policy, scope, archived=archive, nonce=wanted)
    show_report(report, given, as_json=as_json)


@verify.command()
@click.argument("file", type=_FILE)
@click.option("--document", "-d", type=_FILE, metavar="FILE", help="Its attestation document; needs --trust.")
@click.option("--bundle", "-b", type=_FILE, metavar="FILE", help="The rest of its bundle; needs --trust.")
@_REPLAY
@_OPTIONAL_TRUST
@click.option("--key", metavar="HEX", help="The receipt key, if you know it otherwise than from a document.")
@_NONCE
@click.option(  # so that it is right wherever old evidence is verified
    "--archive",
    is_flag=True,
    expose_value=False,
    help="Changes nothing: a receipt's document is verified at its own time anyway.",
)
@JSON
def receipt(
    file: Path,
    document: Path | None,
    bundle: Path | None,
    replay: Path | None,
    trust: Path | None,
    key: str | None,
    nonce: str | None,
    *,
    as_json: bool,
) -> None:
    """Verify the receipt in FILE at its document's own time, without any network."""
    if [key, document, bundle].count(None) != 2:
        text = "give --document FILE or --bundle FILE, with --trust FILE, or --key HEX: who signed it must be known"
        raise click.UsageError(text + _hint(file))
    if key is None and trust is None:
        raise click.UsageError("that needs --trust FILE: without measurements nobody knows whose key signed it")
    if replay is not None and bundle is None:
        raise click.UsageError("--replay needs --bundle FILE, which holds the texts and the vectors")
    policy, wanted = _policy(trust), _nonce(nonce)
    kept = read_evidence(file, "receipt", MAX_RECEIPT_BYTES)
    signer = None if key is None else _key(key)
    beside = [read_evidence(path, role, most) for path, role, most in _beside(document, bundle)]
    given = _given("receipt", trust, policy if signer is None else None, kept, *beside)
    with reporting(given, as_json=as_json):
        if signer is not None or policy is None:
            assert signer is not None  # one of the two was required above
            report = audit_receipt(kept.raw, signer, nonce=wanted)
        elif bundle is not None:
            whole = dataclasses.replace(Bundle.parse(beside[0].raw), receipt=kept.raw)
            report = verify_bundle(whole.encode(), policy, replay=replay).report
        else:
            report = verify_offline(kept.raw, beside[0].raw, policy, nonce=wanted).report
    show_report(report, given, as_json=as_json)


@verify.command()
@click.argument("file", type=_FILE)
@_OPTIONAL_TRUST
@JSON
def manifest(file: Path, trust: Path | None, *, as_json: bool) -> None:
    """Verify the signed model manifest in FILE under the publishers that the policy names."""
    policy = _policy(trust)
    kept = read_evidence(file, "manifest", MAX_MANIFEST_BYTES)
    given = _given("manifest", trust, policy, kept)
    with reporting(given, as_json=as_json):
        report = audit_manifest(kept.raw, policy)
    show_report(report, given, as_json=as_json)


@verify.command()
@click.argument("file", type=_FILE)
@trust_option
@_REPLAY
@click.option("--other-policy", is_flag=True, help="Accept that the client used another policy than --trust: a SKIP.")
@click.option(
    "--archive",
    is_flag=True,
    expose_value=False,
    help="Changes nothing: a bundle is verified at its document's own time anyway.",
)
def bundle(
    file: Path,
    trust: Path,
    replay: Path | None,
    *,
    other_policy: bool,
    as_json: bool,
) -> None:
    """Verify the bundle in FILE: the whole chain from a receipt to a pinned root."""
    policy = TrustPolicy.load(trust)
    kept = read_evidence(file, "bundle", MAX_BUNDLE_BYTES)
    given = _given("bundle", trust, policy, kept)
    with reporting(given, as_json=as_json):
        report = verify_bundle(kept.raw, policy, other_policy=other_policy, replay=replay).report
    show_report(report, given, as_json=as_json)


def _policy(path: Path | None) -> TrustPolicy | None:
    return None if path is None else TrustPolicy.load(path)


def _beside(document: Path | None, bundle: Path | None) -> Iterator[tuple[Path, str, int]]:
    if document is not None:
        yield document, "document", MAX_DOCUMENT_BYTES
    if bundle is not None:
        yield bundle, "bundle", MAX_BUNDLE_BYTES


def _given(command: str, trust: Path | None, policy: TrustPolicy | None, *files: EvidenceFile) -> Given:
    rules = () if policy is None else (Source("policy", str(trust), f"rules of digest {policy.digest.hex()}"),)
    return Given((*(file.source for file in files), *rules), files[0].note(f"verify {command}"))


def _hint(file: Path) -> str:
    """Name the key that a published vector carries; to believe it is for the caller to decide."""
    key = read_evidence(file, "receipt", MAX_RECEIPT_BYTES).published_key
    return "" if key is None else f". This published vector names the key {key}"


def _nonce(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        nonce = bytes.fromhex(text)
    except ValueError:
        raise click.BadParameter("must be hex characters", param_hint="--nonce") from None
    if not 1 <= len(nonce) <= _MAX_NONCE:
        raise click.BadParameter(f"must be 1 to {_MAX_NONCE} bytes", param_hint="--nonce")
    return nonce


def _key(text: str) -> VerifyingKey:
    try:
        return VerifyingKey(bytes.fromhex(text))
    except KeyRejected as error:
        raise click.BadParameter(str(error), param_hint="--key") from None
    except ValueError:
        raise click.BadParameter("must be hex characters", param_hint="--key") from None
