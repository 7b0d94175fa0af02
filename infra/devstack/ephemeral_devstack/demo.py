"""``make demo``: the whole product in one minute, on one machine, with every zone a process of its own.

Attests the enclave, embeds a handful of sentences, and shows what was verified, what came back, and what the host saw.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from ephemeral.errors import EphemeralError
from ephemeral.trusted.policy import TrustPolicy
from ephemeral_devstack.__main__ import BANNER
from ephemeral_devstack.memory import find_in_memory
from ephemeral_devstack.stack import Stack, StackOptions
from ephemeral_devstack.wiretap import Wiretap
from ephemeralml import Client, Embeddings
from ephemeralml.cli.steps import show_steps

SENTENCES: Final = (
    "The patient reports chest pain when climbing stairs.",
    "She feels pressure over her heart during exercise.",
    "The invoice of March is still unpaid.",
    "Payment for the spring bill has not arrived.",
    "A cat sleeps on the warm windowsill.",
)


def main() -> int:
    """Run the demonstration; return 0 when everything was verified."""
    console = Console(highlight=False, soft_wrap=True)
    console.rule("EphemeralML")
    console.print(f"[bold yellow]{BANNER}[/]\n\n[bold]1. Start every zone[/] (security module, KMS, S3, host, enclave)")
    try:
        with tempfile.TemporaryDirectory(prefix="ephemeralml-demo-") as state:
            options = StackOptions(state=Path(state), listen="tcp://127.0.0.1:0")
            with Stack.start(options, lambda what, seconds: console.print(f"  {seconds:5.1f} s  {what}")) as stack:
                return _demonstrate(stack, console)
    except EphemeralError as error:
        print(f"demo: {error.code}: {error.detail}", file=sys.stderr)  # noqa: T201
        return 1


def _demonstrate(stack: Stack, console: Console) -> int:
    with Wiretap(stack.address) as tap:
        with Client.connect(tap.address, trust=TrustPolicy.load(stack.trust)) as client:
            console.print("\n[bold]2. Verify the enclave[/], before a single byte of text leaves this process")
            show_steps(client.enclave.steps)
            console.print("\n[bold]3. Embed[/] (sealed to the enclave's attested key)")
            answer = client.embed(SENTENCES)
            _similarities(answer, console)
        console.print("\n[bold]4. The receipt[/], verified under the attested key")
        show_steps(answer.receipt.steps)
        _claims(answer, console)
        console.print("\n[bold]5. What the host saw[/]")
        seen = _host_view(tap, stack, console)
    console.print("\n[bold]Everything was verified; stopping every zone.[/]" if not seen else "\n[bold red]LEAK[/]")
    return 1 if seen else 0


def _similarities(answer: Embeddings, console: Console) -> None:
    cosine = answer.vectors @ answer.vectors.T
    table = Table(title=f"cosine similarity, {answer.model_id}, {answer.vectors.shape[1]} dimensions")
    table.add_column("")
    for number in range(len(SENTENCES)):
        table.add_column(str(number + 1), justify="right")
    for number, (sentence, row) in enumerate(zip(SENTENCES, cosine, strict=True), 1):
        table.add_row(f"{number}  {sentence}", *(_shade(float(value)) for value in row))
    console.print(table)
    nearest = np.argmax(cosine - 2 * np.eye(len(SENTENCES)), axis=1)
    console.print(
        f"  nearest to 1 is {nearest[0] + 1}, nearest to 3 is {nearest[2] + 1}: it read them as a person would"
    )


def _shade(value: float) -> str:
    style = "bold green" if value > 0.5 else "yellow" if value > 0.2 else "dim"
    return f"[{style}]{value:.2f}[/]"


def _claims(answer: Embeddings, console: Console) -> None:
    claims = answer.receipt.claims
    rows = {
        "model": f"{claims.model_id} version {claims.model_version}, manifest {claims.model_hash.hex()[:16]}…",
        "request": f"sha256 {claims.request_hash.hex()[:32]}…",
        "response": f"sha256 {claims.response_hash.hex()[:32]}…",
        "cost": f"{claims.execution_time_ms} ms, peak memory {claims.memory_peak_mb} MB",
        "security mode": claims.security_mode,
    }
    for name, value in rows.items():
        console.print(f"      {name:<14} {value}")


def _host_view(tap: Wiretap, stack: Stack, console: Console) -> bool:
    """Print what crossed the host; return whether any sentence did."""
    to_host, from_host = tap.captured()
    wire = sum(sentence.encode() in to_host + from_host for sentence in SENTENCES)
    memory = find_in_memory(stack.zones["host"].process.pid, [sentence.encode() for sentence in SENTENCES])
    console.print(f"  on the wire    {len(to_host):,} bytes to the host, {len(from_host):,} back: {_excerpt(to_host)}")
    console.print(f"  sentences found on the wire: {wire} of {len(SENTENCES)}")
    console.print(f"  sentences found in the memory of the host process: {len(memory)} of {len(SENTENCES)}")
    return bool(wire or memory)


def _excerpt(captured: bytes) -> str:
    return f"… {captured[-24:].hex(' ')}"


if __name__ == "__main__":
    raise SystemExit(main())
