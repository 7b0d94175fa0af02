"""``ephemeralml embed``: sealed text in, vectors and a verified receipt out."""

import sys
from pathlib import Path
from typing import Final

import click

from ephemeral.errors import ConfigError
from ephemeral.trusted.policy import TrustPolicy
from ephemeralml.cli.options import connection_options, write_file
from ephemeralml.cli.steps import show_json
from ephemeralml.client import Client
from ephemeralml.embeddings import Embeddings

_MAX_INPUT_BYTES: Final = 64 * 1024 * 1024
_SHOWN: Final = 4


@click.command()
@connection_options
@click.option("--model", "-m", metavar="ID", help="Model to ask; may be left out when only one is served.")
@click.option("--receipt-out", type=click.Path(path_type=Path), metavar="FILE", help="Keep the receipt (COSE).")
@click.option("--document-out", type=click.Path(path_type=Path), metavar="FILE", help="Keep the attestation document.")
@click.option(
    "--bundle-out", type=click.Path(path_type=Path), metavar="FILE", help="Keep all that re-checks the answer."
)
@click.option("--include-plaintext", is_flag=True, help="Put texts and vectors into the bundle, readable by anybody.")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
def embed(  # noqa: PLR0913  # one per option
    address: str,
    trust: Path,
    timeout: float,
    model: str | None,
    receipt_out: Path | None,
    document_out: Path | None,
    bundle_out: Path | None,
    texts: tuple[str, ...],
    *,
    include_plaintext: bool,
    as_json: bool,
) -> None:
    """Embed each TEXT, or each line of standard input when none is given.

    Arguments are visible to other users of this machine while the command runs; standard input is not.
    """
    if include_plaintext and bundle_out is None:
        raise click.UsageError("--include-plaintext says what goes into --bundle-out FILE: give that too")
    policy = TrustPolicy.load(trust)
    lines = list(texts) or _lines()
    with Client.connect(address, trust=policy, timeout=timeout) as client:
        answer = client.embed(lines, model=model)
        bundle = None if bundle_out is None else client.bundle(answer, include_plaintext=include_plaintext)
    if receipt_out is not None:
        write_file(receipt_out, "the receipt", answer.receipt.raw)
    if document_out is not None:
        write_file(document_out, "the document", answer.document)
    if bundle_out is not None and bundle is not None:
        write_file(bundle_out, "the bundle", bundle)
    if as_json:
        show_json(_json(answer))
    else:
        _show(answer, lines)


def _lines() -> list[str]:
    raw = sys.stdin.buffer.read(_MAX_INPUT_BYTES + 1)
    if len(raw) > _MAX_INPUT_BYTES:
        raise ConfigError(f"standard input has more than {_MAX_INPUT_BYTES:,} bytes", code="INPUT_TOO_LARGE")
    try:
        return raw.decode().splitlines()
    except UnicodeDecodeError:
        raise ConfigError("standard input is not UTF-8", code="INPUT_ENCODING") from None


def _show(answer: Embeddings, texts: list[str]) -> None:
    claims = answer.receipt.claims
    for text, vector in zip(texts, answer.vectors, strict=True):
        head = ", ".join(f"{value:+.4f}" for value in vector[:_SHOWN])
        click.echo(f"[{head}, … {len(vector)} values]  {text if len(text) <= 60 else text[:59] + '…'}")
    click.echo(
        f"receipt verified: {claims.model_id} version {claims.model_version}, answer {claims.sequence_number} of this "
        f"session, {answer.tokens} tokens in {answer.compute_us / 1000:.1f} ms, security mode {claims.security_mode}"
    )


def _json(answer: Embeddings) -> dict[str, object]:
    return {
        "model": answer.model_id,
        "dimension": int(answer.vectors.shape[1]),
        "embeddings": answer.vectors.tolist(),
        "tokens": answer.tokens,
        "tokenize_us": answer.tokenize_us,
        "queue_us": answer.queue_us,
        "compute_us": answer.compute_us,
        "security_mode": answer.receipt.claims.security_mode,
        "receipt": answer.receipt.raw.hex(),
    }
