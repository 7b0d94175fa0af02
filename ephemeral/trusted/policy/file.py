"""The TOML form of a policy: strict, with every mistake named and how to mend it.

::

    version = 1
    max_document_age_seconds = 300       # optional
    name = "production"                  # optional, required in a signed policy, as are the next two
    serial = 7                           # version of this policy; a later one has a higher serial
    not_after = 2030-01-31T00:00:00Z     # the policy protects nobody after this time

    [[roots]]                            # optional: without it, the AWS Nitro root alone
    name = "devstack"
    sha256 = "…"                         # of the DER root certificate
    evaluation = true                    # required for any root but AWS's

    [[measurements]]                     # one table per accepted build
    label = "2026-01"
    pcr0 = "…"                           # 96 hex characters; pcr1 and pcr2 too; pcr3, pcr4, pcr8 optional
    pcr1 = "…"
    pcr2 = "…"
    not_before = 2026-01-01T00:00:00Z    # optional, as is not_after: when this build is accepted, ends included

    [[models]]                           # optional
    model_id = "all-MiniLM-L6-v2"
    min_version = 2                      # optional
    manifest_sha256 = "…"                # optional

    [[publishers]]                       # optional: whose signature on a model manifest is believed
    name = "models team"
    public_key = "…"                     # Ed25519, 64 hex characters
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from ephemeral.errors import PolicyError
from ephemeral.trusted.ed25519 import KeyRejected, VerifyingKey
from ephemeral.trusted.policy.rules import AcceptedModel, Measurements, Publisher, RootOfTrust
from ephemeral.trusted.toml import TomlError, parse_toml

MAX_POLICY_BYTES: Final = 262_144
_VERSION: Final = 1
_MAX_SECONDS: Final = 86_400

_TYPE_NAMES: Final[dict[type, str]] = {
    int: "an integer",
    str: "a string",
    bool: "true or false",
    list: "a list of tables",
    datetime: "a time such as 2030-01-31T00:00:00Z",
}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PolicyContents:
    """What a file says; what it leaves out is empty or None."""

    roots: tuple[RootOfTrust, ...]
    measurements: tuple[Measurements, ...]
    models: tuple[AcceptedModel, ...]
    publishers: tuple[Publisher, ...]
    max_document_age: timedelta | None
    name: str
    serial: int | None
    not_after: datetime | None


def read_policy(text: str) -> PolicyContents:
    """Parse the TOML text of a policy.

    Raises:
        PolicyError: too large, not TOML, of another version, an unknown key, a wrong type or an unsafe rule.
    """
    top = _Table("the policy", _toml(text))
    if top.required("version", int) != _VERSION:
        raise PolicyError("version must be 1: this release reads no other policy format", code="POLICY_VERSION")
    seconds = top.optional("max_document_age_seconds", int)
    if seconds is not None and not 1 <= seconds <= _MAX_SECONDS:
        raise PolicyError("max_document_age_seconds must be 1 to 10800", code="POLICY_AGE")
    contents = PolicyContents(
        roots=tuple(_root(table) for table in top.tables("roots")),
        measurements=tuple(_measurements(table) for table in top.tables("measurements")),
        models=tuple(_model(table) for table in top.tables("models")),
        publishers=tuple(_publisher(table) for table in top.tables("publishers")),
        max_document_age=None if seconds is None else timedelta(seconds=seconds),
        name=top.optional("name", str) or "",
        serial=top.optional("serial", int),
        not_after=top.optional("not_after", datetime),
    )
    top.refuse_rest()
    return contents


def _toml(text: str) -> dict[str, object]:
    if len(text) > MAX_POLICY_BYTES:
        raise PolicyError(f"the policy is longer than {MAX_POLICY_BYTES} bytes", code="POLICY_SYNTAX")
    try:
        return parse_toml(text)
    except TomlError as error:
        raise PolicyError(f"the policy is not TOML: {error}", code="POLICY_SYNTAX") from None


def _root(table: "_Table") -> RootOfTrust:
    root = RootOfTrust(
        table.required("name", str), table.hex("sha256"), evaluation=table.optional("evaluation", bool) or False
    )
    table.refuse_rest()
    return root


def _measurements(table: "_Table") -> Measurements:
    build = Measurements(
        pcr0=table.hex("pcr0"),
        pcr1=table.hex("pcr1"),
        pcr2=table.hex("pcr2"),
        pcr3=table.optional_hex("pcr3"),
        pcr4=table.optional_hex("pcr4"),
        pcr8=table.optional_hex("pcr8"),
        label=table.required("label", str),
        not_before=table.optional("not_before", datetime),
        not_after=table.optional("not_after", datetime),
    )
    table.refuse_rest()
    return build


def _model(table: "_Table") -> AcceptedModel:
    min_version = table.optional("min_version", int)
    model = AcceptedModel(
        model_id=table.required("model_id", str),
        min_version=1 if min_version is None else min_version,
        manifest_sha256=table.optional_hex("manifest_sha256"),
    )
    table.refuse_rest()
    return model


def _publisher(table: "_Table") -> Publisher:
    name = table.required("name", str)
    try:
        publisher = Publisher(name, VerifyingKey(table.hex("public_key")))
    except KeyRejected as error:
        raise PolicyError(f"public_key of publisher {name!r}: {error}", code="POLICY_KEY") from None
    table.refuse_rest()
    return publisher


class _Table:
    """A TOML table from which each key is taken once; what is left over was misspelt."""

    def __init__(self, where: str, values: object) -> None:
        if not isinstance(values, dict):
            raise PolicyError(f"{where} must be a table", code="POLICY_TYPE")
        self._where = where
        self._values = dict(values)

    def optional(self, key: str, kind: type[_T]) -> _T | None:
        value = self._values.pop(key, None)
        # Exact type: true is an int to isinstance.
        if value is not None and type(value) is not kind:
            raise PolicyError(
                f"{key} in {self._where} must be {_TYPE_NAMES[kind]}, not {type(value).__name__}", code="POLICY_TYPE"
            )
        return value

    def required(self, key: str, kind: type[_T]) -> _T:
        value = self.optional(key, kind)
        if value is None:
            raise PolicyError(f"{key} is missing in {self._where}", code="POLICY_MISSING_KEY")
        return value

    def hex(self, key: str) -> bytes:
        return self._unhex(key, self.required(key, str))

    def optional_hex(self, key: str) -> bytes | None:
        text = self.optional(key, str)
        return None if text is None else self._unhex(key, text)

    def _unhex(self, key: str, text: str) -> bytes:
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise PolicyError(f"{key} in {self._where} must be hex characters", code="POLICY_TYPE") from None

    def tables(self, key: str) -> "list[_Table]":
        return [
            _Table(f"[[{key}]] number {number}", item) for number, item in enumerate(self.optional(key, list) or [], 1)
        ]

    def refuse_rest(self) -> None:
        if self._values:
            raise PolicyError(f"unknown key {next(iter(self._values))!r} in {self._where}", code="POLICY_UNKNOWN_KEY")
