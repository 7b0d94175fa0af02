"""The single rules a policy is made of; each refuses at construction what would not protect."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ephemeral.errors import MeasurementMismatch, PolicyError
from ephemeral.protocol import PCR_BYTES, SHA256_BYTES
from ephemeral.trusted.ed25519 import VerifyingKey

_AWS_NITRO_ROOT_G1_SHA256: Final = bytes.fromhex("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b")
_IMAGE_PCRS: Final = (0, 1, 2)
_MAX_NAME: Final = 256


def _require_length(what: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise PolicyError(f"{what} must be {size} bytes ({2 * size} hex characters)", code="POLICY_LENGTH")


def _require_name(what: str, name: str) -> None:
    if not 1 <= len(name) <= _MAX_NAME:
        raise PolicyError(f"a {what} needs a name of 1 to {_MAX_NAME} characters", code="POLICY_NAME")


def require_zone(what: str, time: datetime | None) -> None:
    """Refuse a time that means something else on another machine.

    Raises:
        PolicyError: it has no time zone.
    """
    if time is not None and time.utcoffset() is None:
        raise PolicyError(f"{what} has no time zone: end it with Z, as in 2030-01-31T00:00:00Z", code="POLICY_TIME")


@dataclass(frozen=True, slots=True)
class RootOfTrust:
    """A root certificate, pinned by the SHA-256 of its DER bytes; `evaluation` roots protect nothing.

    Raises:
        PolicyError: the hash is not 32 bytes, a simulated root is not marked, or the AWS root is marked as one.
    """

    name: str
    sha256: bytes
    evaluation: bool

    def __post_init__(self) -> None:
        _require_name("root", self.name)
        _require_length(f"sha256 of root {self.name!r}", self.sha256, SHA256_BYTES)
        genuine = self.sha256 == _AWS_NITRO_ROOT_G1_SHA256
        if genuine and self.evaluation:
            raise PolicyError("the AWS root is not an evaluation root: remove evaluation = true", code="POLICY_ROOT")
        if not genuine and not self.evaluation:
            raise PolicyError(
                f"root {self.name!r} is not the AWS Nitro root: nothing under it is proven by hardware. "
                "Say evaluation = true to use it for evaluation",
                code="POLICY_ROOT",
            )


# https://docs.aws.amazon.com/enclaves/latest/user/verify-root.html
AWS_NITRO_ROOT_G1: Final = RootOfTrust("aws-nitro-root-g1", _AWS_NITRO_ROOT_G1_SHA256, evaluation=False)


@dataclass(frozen=True, slots=True)
class Measurements:
    """The PCRs of one build, 48 bytes each: PCR0 to PCR2 always, PCR3 (role), PCR4 (instance), PCR8 (signer) if pinned.

    `not_before` and `not_after`, both included, bound the time in which the build is accepted; None is no bound. In a
    rollout the windows of the old and the new build overlap.

    Raises:
        PolicyError: a value is not 48 bytes, PCR0, PCR1 or PCR2 is zero (that is a debug enclave), a time has no time
            zone, or the window is empty.
    """

    pcr0: bytes
    pcr1: bytes
    pcr2: bytes
    pcr3: bytes | None = None
    pcr4: bytes | None = None
    pcr8: bytes | None = None
    label: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None

    def __post_init__(self) -> None:
        self._require_window()
        for index, value in self.pinned.items():
            _require_length(f"pcr{index} of measurements {self.label!r}", value, PCR_BYTES)
            if index in _IMAGE_PCRS and not any(value):
                raise PolicyError(
                    f"pcr{index} of measurements {self.label!r} is zero: that accepts debug enclaves, whose memory "
                    "their host can read. Take the PCRs from a build that runs without debug mode",
                    code="POLICY_DEBUG",
                )

    def _require_window(self) -> None:
        require_zone(f"not_before of measurements {self.label!r}", self.not_before)
        require_zone(f"not_after of measurements {self.label!r}", self.not_after)
        if self.not_before is not None and self.not_after is not None and self.not_before > self.not_after:
            text = f"measurements {self.label!r} end before they begin: no time would ever be in that window"
            raise PolicyError(text, code="POLICY_WINDOW")

    @property
    def pinned(self) -> dict[int, bytes]:
        """The values to compare, by PCR index."""
        values = {0: self.pcr0, 1: self.pcr1, 2: self.pcr2, 3: self.pcr3, 4: self.pcr4, 8: self.pcr8}
        return {index: value for index, value in values.items() if value is not None}

    @property
    def pinned_names(self) -> str:
        """Which PCRs are compared, in words."""
        return ", ".join(f"PCR{index}" for index in self.pinned)

    def differing(self, pcrs: Mapping[int, bytes]) -> list[int]:
        """Return the indices of pinned PCRs that `pcrs` lacks or has otherwise."""
        return [index for index, value in self.pinned.items() if pcrs.get(index) != value]

    def refuse_outside(self, now: datetime) -> None:
        """Return if `now` is in this build's window.

        Raises:
            MeasurementMismatch: too early (BUILD_NOT_YET_ACCEPTED) or too late (BUILD_NO_LONGER_ACCEPTED).
        """
        if self.not_before is not None and now < self.not_before:
            raise MeasurementMismatch(
                f"build {self.label!r} is accepted from {self.not_before.isoformat()} on, not yet",
                code="BUILD_NOT_YET_ACCEPTED",
            )
        if self.not_after is not None and now > self.not_after:
            raise MeasurementMismatch(
                f"build {self.label!r} was accepted until {self.not_after.isoformat()}, no longer",
                code="BUILD_NO_LONGER_ACCEPTED",
            )


@dataclass(frozen=True, slots=True)
class AcceptedModel:
    """A model that may answer: from `min_version` on, or exactly the manifest with this SHA-256.

    Raises:
        PolicyError: the id is empty or too long, the version is below 1, or the hash is not 32 bytes.
    """

    model_id: str
    min_version: int = 1
    manifest_sha256: bytes | None = None

    def __post_init__(self) -> None:
        _require_name("model", self.model_id)
        if self.min_version < 1:
            raise PolicyError(f"min_version of model {self.model_id!r} must be at least 1", code="POLICY_MODEL")
        if self.manifest_sha256 is not None:
            _require_length(f"manifest_sha256 of model {self.model_id!r}", self.manifest_sha256, SHA256_BYTES)


@dataclass(frozen=True, slots=True)
class Publisher:
    """Somebody whose signature on a model manifest is believed; the name is for people.

    Raises:
        PolicyError: the name is empty or too long.
    """

    name: str
    public_key: VerifyingKey

    def __post_init__(self) -> None:
        _require_name("publisher", self.name)


def refuse_debug(pcrs: Mapping[int, bytes]) -> None:
    """Return if PCR0, PCR1 and PCR2 are present and none is zero.

    Debug enclaves carry valid documents in which they are zero, and their host can read their console and memory.
    https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave-concepts.html

    Raises:
        MeasurementMismatch: one is missing (PCR_MISSING) or zero (DEBUG_ENCLAVE).
    """
    for index in _IMAGE_PCRS:
        value = pcrs.get(index)
        if value is None:
            raise MeasurementMismatch(f"the document has no PCR{index}", code="PCR_MISSING")
        if not any(value):
            raise MeasurementMismatch(
                f"PCR{index} is zero: the enclave runs in debug mode and its host can read it", code="DEBUG_ENCLAVE"
            )
