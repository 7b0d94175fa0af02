"""Attestation documents that are sound, of builds that the policy does not accept, or does not accept then."""

from collections.abc import Iterator
from typing import Any

from ephemeral.errors import MeasurementMismatch, PolicyError
from tests.refusals.case import Case
from tests.refusals.pki import PINNED, SOUND, context, policy
from tests.support.minting import PCR0, PCR1, PCR2

ZERO = bytes(48)
PCRS = {0: PCR0, 1: PCR1, 2: PCR2}
MAIN = context()
Row = tuple[str, str, str, bytes]


def cases() -> Iterator[Case]:
    """Yield the cases; they belong to the family of documents."""
    yield from _measurements()
    yield from _windows()


def _refused(code: str, rows: list[Row], context: dict[str, Any] = MAIN) -> Iterator[Case]:
    for name, threat, says, raw in rows:
        yield Case(name, threat, says, raw, context, MeasurementMismatch, code)


def _measurements() -> Iterator[Case]:
    debug = [
        (
            "debug",
            "A18",
            "all PCRs are zero, as in a debug enclave",
            SOUND.document(pcrs=dict.fromkeys(range(16), ZERO)),
        )
    ]
    missing, other = [], []
    for index in range(3):
        debug.append((f"pcr{index}-zero", "A18", f"PCR{index} is zero", SOUND.document(pcrs={**PCRS, index: ZERO})))
        rest = {key: value for key, value in PCRS.items() if key != index}
        missing.append((f"pcr{index}-missing", "A20", f"PCR{index} is missing", SOUND.document(pcrs=rest)))
        fill = b"\xee" * 48
        other.append(
            (f"pcr{index}-other", "A19", f"PCR{index} is another's", SOUND.document(pcrs={**PCRS, index: fill}))
        )
    other.append(
        ("pcrs-swapped", "A19", "PCR0 and PCR1 have changed places", SOUND.document(pcrs={0: PCR1, 1: PCR0, 2: PCR2}))
    )
    yield from _refused("DEBUG_ENCLAVE", debug)
    yield from _refused("PCR_MISSING", missing)
    yield from _refused("MEASUREMENT_MISMATCH", other)
    second = {f"pcr{index}": bytes([0xB0 + index]) * 48 for index in range(3)}
    mixed = SOUND.document(pcrs={**PCRS, 1: second["pcr1"]})
    rows = [("builds-mixed", "A19", "PCR1 is that of another accepted build", mixed)]
    yield from _refused("MEASUREMENT_MISMATCH", rows, context(policy(SOUND, PINNED, second)))
    for index, what in ((3, "instance role"), (4, "instance"), (8, "image signer")):
        where = context(policy(SOUND, {**PINNED, f"pcr{index}": b"\xcc" * 48}))
        theirs = SOUND.document(pcrs={**PCRS, index: b"\xdd" * 48})
        rows = [(f"pcr{index}-elsewhere", "A21", f"the right build under another {what}", theirs)]
        yield from _refused("MEASUREMENT_MISMATCH", rows, where)
    rows = [("pcr8-left-out", "A21", "PCR8 is pinned and left out", SOUND.document(pcrs=PCRS))]
    yield from _refused("MEASUREMENT_MISMATCH", rows, where)


def _windows() -> Iterator[Case]:
    """Sound documents at times for which the policy does not hold."""
    build, window = policy(), "not_before = 2026-01-15T{}:00:00Z\nnot_after = 2026-01-15T{}:00:00Z\n"
    early, late = context(build + window.format(13, 14)), context(build + window.format(10, 11))
    says = "a build that is accepted in an hour"
    yield Case("build-early", "A19", says, SOUND.document(), early, MeasurementMismatch, "BUILD_NOT_YET_ACCEPTED")
    says = "a build that was accepted until an hour ago"
    yield Case("build-late", "A19", says, SOUND.document(), late, MeasurementMismatch, "BUILD_NO_LONGER_ACCEPTED")
    expired = context('name = "test"\nserial = 1\nnot_after = 2026-01-15T11:00:00Z\n' + build)
    says = "a sound document under a policy that has expired"
    yield Case("policy-expired", "A19", says, SOUND.document(), expired, PolicyError, "POLICY_EXPIRED")
    yield Case(
        "control-window",
        "A19",
        "a sound document within its build's window",
        SOUND.document(),
        context(build + window.format(11, 13)),
    )
