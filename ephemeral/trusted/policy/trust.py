"""The policy as a whole: what a verifier holds every document against."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

from ephemeral.errors import MeasurementMismatch, PolicyError
from ephemeral.protocol import DOCUMENT_MAX_AGE
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.policy.file import MAX_POLICY_BYTES, read_policy
from ephemeral.trusted.policy.rules import AWS_NITRO_ROOT_G1, AcceptedModel, Measurements, RootOfTrust, refuse_debug

_MIN_AGE: Final = timedelta(seconds=1)
_MAX_AGE: Final = timedelta(hours=3)  # a leaf certificate lives no longer


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Roots, builds and models that are accepted; at least one root and one build, nothing named twice.

    Raises:
        PolicyError: the policy is empty, ambiguous, or its document age is outside 1 second to 3 hours.
    """

    roots: tuple[RootOfTrust, ...]
    measurements: tuple[Measurements, ...]
    models: tuple[AcceptedModel, ...] = ()
    max_document_age: timedelta = DOCUMENT_MAX_AGE

    def __post_init__(self) -> None:
        if not self.roots:
            raise PolicyError("a policy needs at least one root of trust", code="POLICY_EMPTY")
        if not self.measurements:
            raise PolicyError(
                "a policy needs the PCR0, PCR1 and PCR2 of at least one build: add a [[measurements]] table",
                code="POLICY_EMPTY",
            )
        if not _MIN_AGE <= self.max_document_age <= _MAX_AGE:
            raise PolicyError("max_document_age_seconds must be 1 to 10800", code="POLICY_AGE")
        _require_unique("root name", (root.name for root in self.roots))
        _require_unique("root sha256", (root.sha256.hex() for root in self.roots))
        _require_unique("measurements label", (build.label for build in self.measurements if build.label))
        _require_unique("set of PCRs", (str(build.pinned) for build in self.measurements))
        _require_unique("model_id", (model.model_id for model in self.models))

    @classmethod
    def aws_nitro(cls, *measurements: Measurements) -> Self:
        """Accept these builds on real Nitro hardware, and any model they attest."""
        return cls((AWS_NITRO_ROOT_G1,), measurements)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a policy file (TOML).

        Raises:
            PolicyError: the file cannot be read, or as for `parse`.
        """
        try:
            with Path(path).open("rb") as file:
                raw = file.read(MAX_POLICY_BYTES + 1)
            return cls.parse(raw.decode())
        except OSError as error:
            raise PolicyError(f"cannot read the policy {path}: {error.strerror}", code="POLICY_UNREADABLE") from None
        except UnicodeDecodeError:
            raise PolicyError(f"the policy {path} is not UTF-8 text", code="POLICY_UNREADABLE") from None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a policy file.

        Raises:
            PolicyError: not TOML, an unknown key, a wrong type, or rules that would not protect.
        """
        rules = read_policy(text)
        return cls(
            roots=rules.roots or (AWS_NITRO_ROOT_G1,),
            measurements=rules.measurements,
            models=rules.models,
            max_document_age=rules.max_document_age or DOCUMENT_MAX_AGE,
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the deterministic CBOR of the rules, whatever their order."""
        content = {
            "version": 1,
            "roots": sorted([root.name, root.sha256, root.evaluation] for root in self.roots),
            "measurements": sorted(encode([build.label, build.pinned]) for build in self.measurements),
            "models": sorted(
                encode([model.model_id, model.min_version, model.manifest_sha256]) for model in self.models
            ),
            "max_document_age": self.max_document_age // timedelta(milliseconds=1),
        }
        return hashlib.sha256(encode(content)).digest()

    def match(self, pcrs: Mapping[int, bytes]) -> Measurements:
        """Return the accepted build whose pinned PCRs are all in `pcrs`: one build as a whole, never a mixture.

        Raises:
            MeasurementMismatch: a debug enclave (whatever the policy says), or none of the accepted builds.
        """
        refuse_debug(pcrs)
        nearest = min(self.measurements, key=lambda build: len(build.differing(pcrs)))
        differing = nearest.differing(pcrs)
        if not differing:
            return nearest
        names = ", ".join(f"PCR{index} is {_short(pcrs.get(index))}" for index in differing)
        raise MeasurementMismatch(
            f"none of the {len(self.measurements)} accepted builds runs there; "
            f"against {nearest.label or 'the nearest'!r}: {names}"
        )

    def accept_model(self, model_id: str, version: int, manifest_sha256: bytes) -> None:
        """Return if the policy accepts this model; a policy that names no model accepts what an accepted build serves.

        Raises:
            MeasurementMismatch: not named (MODEL_NOT_ACCEPTED), too old (MODEL_ROLLBACK), or another manifest
                (MODEL_MANIFEST).
        """
        if not self.models:
            return
        accepted = next((model for model in self.models if model.model_id == model_id), None)
        if accepted is None:
            raise MeasurementMismatch(f"the policy does not accept model {model_id!r}", code="MODEL_NOT_ACCEPTED")
        if version < accepted.min_version:
            text = (
                f"model {model_id!r} is served as version {version}, the policy wants {accepted.min_version} or later"
            )
            raise MeasurementMismatch(text, code="MODEL_ROLLBACK")
        if accepted.manifest_sha256 not in (None, manifest_sha256):
            text = f"model {model_id!r} is served from another manifest than the policy pins"
            raise MeasurementMismatch(text, code="MODEL_MANIFEST")


def _short(value: bytes | None) -> str:
    return "absent" if value is None else f"{value.hex()[:16]}…"


def _require_unique(what: str, names: Iterable[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise PolicyError(f"{what} given twice: {repeated[0]}", code="POLICY_DUPLICATE")
