"""A trust policy as a person reads it, and as a program does: what it accepts, and what it accepts now."""

from collections.abc import Iterator
from datetime import datetime

from ephemeral.errors import EphemeralError
from ephemeral.trusted.policy import Measurements, TrustPolicy
from ephemeral.trusted.policy.file import read_policy


def policy_lines(policy: TrustPolicy, toml: bytes, now: datetime) -> Iterator[str]:
    """Yield the lines of ``policy show``."""
    version = "" if policy.serial is None else f", serial {policy.serial}"
    yield f"policy     {policy.name or 'without a name'}{version}, sha256 of its rules {policy.digest.hex()}"
    yield f"expires    {_status_of_policy(policy, now)}"
    for root in policy.roots:
        kind = "SIMULATED, proves nothing about hardware" if root.evaluation else "AWS Nitro"
        yield f"root       {root.name}: {kind}, sha256 {root.sha256.hex()}"
    for build in policy.measurements:
        yield f"build      {build.label}: {_status(build, now)}"
        yield from (f"           pcr{index} {value.hex()}" for index, value in build.pinned.items())
    if not {3, 4, 8} & {index for build in policy.measurements for index in build.pinned}:
        yield "           no PCR3, PCR4 or PCR8 is pinned: whose account the enclave runs in is not proven"
    for model in policy.models:
        exact = "" if model.manifest_sha256 is None else f", manifest sha256 {model.manifest_sha256.hex()}"
        yield f"model      {model.model_id} from version {model.min_version} on{exact}"
    if not policy.models:
        yield "model      any that an accepted build attests"
    for publisher in read_policy(toml.decode()).publishers:
        yield f"publisher  {publisher.name}: {publisher.public_key.raw.hex()}"
    if not policy.publishers:
        yield "publisher  none: signatures of model manifests cannot be checked under this policy"
    yield f"documents  at most {policy.max_document_age.total_seconds():.0f} s old"


def policy_json(policy: TrustPolicy, toml: bytes, now: datetime) -> dict[str, object]:
    """Return the same for --json."""
    return {
        "name": policy.name or None,
        "serial": policy.serial,
        "not_after": _iso(policy.not_after),
        "digest": policy.digest.hex(),
        "roots": [
            {"name": root.name, "sha256": root.sha256.hex(), "evaluation": root.evaluation} for root in policy.roots
        ],
        "measurements": [_build_json(build, now) for build in policy.measurements],
        "models": [
            {
                "model_id": model.model_id,
                "min_version": model.min_version,
                "manifest_sha256": None if model.manifest_sha256 is None else model.manifest_sha256.hex(),
            }
            for model in policy.models
        ],
        "publishers": [
            {"name": publisher.name, "public_key": publisher.public_key.raw.hex()}
            for publisher in read_policy(toml.decode()).publishers
        ],
        "max_document_age_seconds": int(policy.max_document_age.total_seconds()),
    }


def _build_json(build: Measurements, now: datetime) -> dict[str, object]:
    return {
        "label": build.label,
        **{f"pcr{index}": value.hex() for index, value in build.pinned.items()},
        "not_before": _iso(build.not_before),
        "not_after": _iso(build.not_after),
        "accepted_now": _status(build, now).startswith("accepted"),
    }


def _status(build: Measurements, now: datetime) -> str:
    try:
        build.refuse_outside(now)
    except EphemeralError:
        word = "NOT YET accepted" if build.not_before is not None and now < build.not_before else "NO LONGER accepted"
    else:
        word = "accepted"
    bounds = [f"from {_iso(build.not_before)}"] if build.not_before is not None else []
    bounds += [f"until {_iso(build.not_after)}"] if build.not_after is not None else []
    return " ".join([word, *bounds])


def _status_of_policy(policy: TrustPolicy, now: datetime) -> str:
    if policy.not_after is None:
        return "never"
    return f"{_iso(policy.not_after)}{', EXPIRED' if now > policy.not_after else ''}"


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
