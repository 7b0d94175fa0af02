"""The policy as a whole: what a verifier holds every document against."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from ephemeral.errors import MeasurementMismatch, PolicyError
from ephemeral.protocol import DOCUMENT_MAX_AGE
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.cose import TAG_SIGN1
from ephemeral.trusted.ed25519 import VerifyingKey
from ephemeral.trusted.policy.file import MAX_POLICY_BYTES, read_policy
from ephemeral.trusted.policy.rules import (
    AWS_NITRO_ROOT_G1,
    AcceptedModel,
    Measurements,
    RootOfTrust,
    refuse_debug,
    require_zone,
)

_MIN_AGE: Final = timedelta(seconds=1)
_MAX_AGE: Final = timedelta(hours=3)  # a leaf certificate lives no longer
_MAX_NAME: Final = 256
_MAX_SERIAL: Final = 2**53 - 1  # the largest integer that every JSON reader of the remembered state keeps exactly
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Roots, builds, models and publishers that are accepted; at least one root and one build, nothing named twice.

    `name`, `serial` and `not_after` say which version of which policy this is and until when it holds; a signed policy
    must have all three.

    Raises:
        PolicyError: the policy is empty, ambiguous, mixes evaluation and production roots, its document age is outside
            1 second to 3 hours, or its name, serial or expiry is none.
    """

    roots: tuple[RootOfTrust, ...]
    measurements: tuple[Measurements, ...]
    models: tuple[AcceptedModel, ...] = ()
    max_document_age: timedelta = DOCUMENT_MAX_AGE
    publishers: tuple[VerifyingKey, ...] = ()
    name: str = ""
    serial: int | None = None
    not_after: datetime | None = None

    def __post_init__(self) -> None:
        if not self.roots:
            raise PolicyError("a policy needs at least one root of trust", code="POLICY_EMPTY")
        if len({root.evaluation for root in self.roots}) > 1:
            # The measurements are common to all roots: a simulated document could carry the production build's.
            raise PolicyError(
                "an evaluation root beside a production root: whoever holds the first could pass for any production "
                "build; write a policy for each",
                code="POLICY_MIXED_ROOTS",
            )
        if not self.measurements:
            raise PolicyError(
                "a policy needs the PCR0, PCR1 and PCR2 of at least one build: add a [[measurements]] table",
                code="POLICY_EMPTY",
            )
        if not _MIN_AGE <= self.max_document_age <= _MAX_AGE:
            raise PolicyError("max_document_age_seconds must be 1 to 10800", code="POLICY_AGE")
        if len(self.name) > _MAX_NAME or not self.name.isprintable():
            raise PolicyError(f"a policy's name has at most {_MAX_NAME} printable characters", code="POLICY_NAME")
        if self.serial is not None and not 1 <= self.serial <= _MAX_SERIAL:
            raise PolicyError(f"serial must be 1 to {_MAX_SERIAL}", code="POLICY_SERIAL")
        require_zone("not_after of the policy", self.not_after)
        _require_unique("root name", (root.name for root in self.roots))
        _require_unique("root sha256", (root.sha256.hex() for root in self.roots))
        _require_unique("measurements label", (build.label for build in self.measurements if build.label))
        _require_unique("set of PCRs", (str(build.pinned) for build in self.measurements))
        _require_unique("model_id", (model.model_id for model in self.models))
        _require_unique("publisher's key", (key.raw.hex() for key in self.publishers))

    @classmethod
    def aws_nitro(cls, *measurements: Measurements) -> Self:
        """Accept these builds on real Nitro hardware, and any model they attest."""
        return cls((AWS_NITRO_ROOT_G1,), measurements)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a policy file (TOML).

        Raises:
            PolicyError: the file cannot be read, is a signed policy, or as for `parse`.
        """
        try:
            with Path(path).open("rb") as file:
                raw = file.read(MAX_POLICY_BYTES + 1)
        except OSError as error:
            raise PolicyError(f"cannot read the policy {path}: {error.strerror}", code="POLICY_UNREADABLE") from None
        return cls.decode(raw, str(path))

    @classmethod
    def decode(cls, raw: bytes, where: str) -> Self:
        """Parse the bytes of a policy file; `where` names it in errors.

        Raises:
            PolicyError: not text, a signed policy (POLICY_SIGNED), or as for `parse`.
        """
        if raw[:1] == bytes([TAG_SIGN1]):
            text = f"{where} is a signed policy: it needs its signer's key, and state that remembers its serial"
            raise PolicyError(text, code="POLICY_SIGNED")
        try:
            return cls.parse(raw.decode())
        except UnicodeDecodeError:
            raise PolicyError(f"the policy {where} is not UTF-8 text", code="POLICY_UNREADABLE") from None

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
            publishers=tuple(publisher.public_key for publisher in rules.publishers),
            name=rules.name,
            serial=rules.serial,
            not_after=rules.not_after,
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the deterministic CBOR of the rules, whatever their order."""
        content = {
            "version": 1,
            "roots": sorted([root.name, root.sha256, root.evaluation] for root in self.roots),
            "measurements": sorted(
                encode([build.label, build.pinned, _micros(build.not_before), _micros(build.not_after)])
                for build in self.measurements
            ),
            "models": sorted(
                encode([model.model_id, model.min_version, model.manifest_sha256]) for model in self.models
            ),
            "max_document_age": self.max_document_age // timedelta(milliseconds=1),
            "publishers": sorted(key.raw for key in self.publishers),
            "name": self.name,
            "serial": self.serial,
            "not_after": _micros(self.not_after),
        }
        return hashlib.sha256(encode(content)).digest()

    def refuse_expired(self, now: datetime) -> None:
        """Return if the policy still holds at `now`.

        Raises:
            PolicyError: it has expired (POLICY_EXPIRED).
        """
        if self.not_after is not None and now > self.not_after:
            raise PolicyError(
                f"the policy {self.name!r} expired at {self.not_after.isoformat()}: get a newer one from whoever "
                "maintains it (or is this machine's clock right?)",
                code="POLICY_EXPIRED",
            )

    def match(self, pcrs: Mapping[int, bytes], now: datetime | None = None) -> Measurements:
        """Return the build accepted at `now` whose pinned PCRs are all in `pcrs`: one as a whole, never a mixture.

        `now` is the verifier's time, for an archived document the document's own; None is this machine's clock.

        Raises:
            MeasurementMismatch: a debug enclave (whatever the policy says), none of the accepted builds, or one outside
                its window.
            PolicyError: the policy has expired.
        """
        at = now or datetime.now(UTC)
        self.refuse_expired(at)
        refuse_debug(pcrs)
        running = [build for build in self.measurements if not build.differing(pcrs)]
        if not running:
            raise self._unknown_build(pcrs)
        return _first_in_window(running, at)

    def _unknown_build(self, pcrs: Mapping[int, bytes]) -> MeasurementMismatch:
        nearest = min(self.measurements, key=lambda build: len(build.differing(pcrs)))
        names = ", ".join(f"PCR{index} is {_short(pcrs.get(index))}" for index in nearest.differing(pcrs))
        return MeasurementMismatch(
            f"none of the {len(self.measurements)} accepted builds runs there; "
            f"against {nearest.label or 'the nearest'!r}: {names}"
        )

    def accept_any_model(self, served: Iterable[tuple[str, int, bytes]]) -> None:
        """Return if the policy accepts one of the models served, each an id, a version and a manifest's SHA-256.

        Raises:
            MeasurementMismatch: it accepts none; the error is the last one's.
        """
        refusal = MeasurementMismatch("the enclave serves no model", code="MODEL_NOT_ACCEPTED")
        for model in served:
            try:
                return self.accept_model(*model)
            except MeasurementMismatch as error:
                refusal = error
        raise refusal

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


def _first_in_window(builds: list[Measurements], now: datetime) -> Measurements:
    """Return the first of `builds` whose window holds `now`; two can be equal but for what they pin beyond PCR2."""
    *others, last = builds
    for build in others:
        try:
            build.refuse_outside(now)
        except MeasurementMismatch:
            continue
        return build
    last.refuse_outside(now)
    return last


def _micros(time: datetime | None) -> int | None:
    return None if time is None else (time - _EPOCH) // timedelta(microseconds=1)


def _short(value: bytes | None) -> str:
    return "absent" if value is None else f"{value.hex()[:16]}…"


def _require_unique(what: str, names: Iterable[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise PolicyError(f"{what} given twice: {repeated[0]}", code="POLICY_DUPLICATE")
