"""Where a live client takes its trust from: a policy that stands, or a file that is watched while the client runs.

A file that changes is taken up before the next session, and within `check_every` by a session that is open. A file
that turns bad (unreadable, malformed, forged, rolled back, expired) changes nothing: the last good policy holds until
it expires, and a warning is logged. So a slip of an editor fails no request, and what a request is held against never
becomes weaker unnoticed.
"""

import logging
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Final, Protocol

from ephemeral.errors import PolicyError, UntrustedChain
from ephemeral.trusted.ed25519 import VerifyingKey
from ephemeral.trusted.handshake import ClientSession
from ephemeral.trusted.policy import TrustPolicy, verify_policy
from ephemeral.trusted.policy.signed import MAX_SIGNED_POLICY_BYTES
from ephemeralml.policy_state import PolicyState, Remembered, refuse_other_name

CHECK_EVERY: Final = timedelta(seconds=5)
_READS_TO_SETTLE: Final = 5
_SETTLE_SECONDS: Final = 0.02
_LOG: Final = logging.getLogger("ephemeralml.policy")


class PolicySource(Protocol):
    """What a client asks for its policy."""

    def current(self, now: datetime) -> TrustPolicy:
        """Return the policy for a session that is open; it may be a few seconds old."""
        ...

    def latest(self, now: datetime) -> TrustPolicy:
        """Return the policy for a new session, after looking for a newer one."""
        ...


class FixedPolicy:
    """A policy that never changes."""

    def __init__(self, policy: TrustPolicy) -> None:
        self._policy = policy

    def current(self, now: datetime) -> TrustPolicy:  # noqa: ARG002  # the Protocol's; a fixed policy has no age
        """Return the policy."""
        return self._policy

    latest = current


class _WatchedFile(ABC):
    """A policy in a file, and the last good reading of it."""

    def __init__(self, path: str | Path, check_every: timedelta) -> None:
        self._path = Path(path)
        self._every = check_every.total_seconds()
        self._lock = Lock()
        self._raw = self._read()
        self._policy = self._accept(self._raw, datetime.now(UTC))
        self._due = time.monotonic() + self._every
        self._complaint = ""

    @abstractmethod
    def _accept(self, raw: bytes, now: datetime) -> TrustPolicy:
        """Turn a new reading of the file into a policy, or raise PolicyError."""

    def current(self, now: datetime) -> TrustPolicy:
        """Return the last good policy; look for a newer one if the last look is `check_every` ago.

        One thread looks; the others go on with what they have.
        """
        if time.monotonic() >= self._due and self._lock.acquire(blocking=False):
            try:
                self._look(now)
            finally:
                self._lock.release()
        return self._policy

    def latest(self, now: datetime) -> TrustPolicy:
        """Look for a newer policy, and return the last good one."""
        with self._lock:
            self._look(now)
        return self._policy

    def _look(self, now: datetime) -> None:
        self._due = time.monotonic() + self._every
        try:
            raw = self._read_settled()
            if raw != self._raw:
                self._take_up(self._accept(raw, now), raw)
            self._complaint = ""
        except PolicyError as error:
            self._complain(error)

    def _take_up(self, policy: TrustPolicy, raw: bytes) -> None:
        labels = ", ".join(build.label for build in policy.measurements)
        _LOG.info("trust policy %s changed, sha256 %s: accepts %s", self._path, policy.digest.hex()[:16], labels)
        self._policy, self._raw = policy, raw

    def _complain(self, error: PolicyError) -> None:
        """Warn once about each thing that is wrong, not at each look."""
        complaint = f"{error.code}: {error.detail}"
        if complaint != self._complaint:
            until = "it is replaced" if self._policy.not_after is None else self._policy.not_after.isoformat()
            text = "trust policy %s is not taken up; the last good one holds until %s. %s"
            _LOG.warning(text, self._path, until, complaint)
        self._complaint = complaint

    def _read_settled(self) -> bytes:
        """Read the file; if it changed, until two readings agree: half a file can be a weaker policy."""
        raw = self._read()
        for _ in range(_READS_TO_SETTLE):
            if raw == self._raw:
                return raw
            time.sleep(_SETTLE_SECONDS)
            before, raw = raw, self._read()
            if raw == before:
                return raw
        raise PolicyError("it is being written all the time: replace it in one step", code="POLICY_UNREADABLE")

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                return file.read(MAX_SIGNED_POLICY_BYTES + 1)
        except OSError as error:
            text = f"cannot read the policy {self._path}: {error.strerror}"
            raise PolicyError(text, code="POLICY_UNREADABLE") from None


class PolicyFile(_WatchedFile):
    """A plain policy file (TOML): whoever can write it decides what is trusted.

    Replace it in one step (write another file, then rename); `ephemeralml policy add` does.
    """

    def __init__(self, path: str | Path, *, check_every: timedelta = CHECK_EVERY) -> None:
        """Read the file, and look at it again at most every `check_every`.

        Raises:
            PolicyError: as for `TrustPolicy.load`, or the policy has expired.
        """
        super().__init__(path, check_every)

    def _accept(self, raw: bytes, now: datetime) -> TrustPolicy:
        policy = TrustPolicy.decode(raw, str(self._path))
        policy.refuse_expired(now)
        return policy


class SignedPolicyFile(_WatchedFile):
    """A policy file that must be signed by one pinned key, and never older than one that was accepted before."""

    def __init__(
        self,
        path: str | Path,
        signer: VerifyingKey,
        *,
        state: str | Path,
        name: str | None = None,
        check_every: timedelta = CHECK_EVERY,
    ) -> None:
        """Verify the file, remember its serial in the file `state`, and look at it again at most every `check_every`.

        `name` is the policy wanted, for a signer of several.

        Raises:
            PolicyError: as for `verify_policy` and `PolicyState.accept`.
        """
        self._signer = signer
        self._state = PolicyState(state)
        self._name = name
        self._accepted: Remembered | None = None
        super().__init__(path, check_every)

    def _accept(self, raw: bytes, now: datetime) -> TrustPolicy:
        verified = verify_policy(raw, self._signer, now=now)
        offered = Remembered.of(verified)
        wanted = self._name
        if self._accepted is not None:  # holds even if somebody deletes the state while this client runs
            wanted = self._accepted.name
            refuse_other_name(wanted, offered.name)
            self._accepted.refuse_older(offered)
        self._state.accept(verified, name=wanted)
        self._accepted = offered
        return verified.policy


Trust = TrustPolicy | PolicyFile | SignedPolicyFile


def source_of(trust: Trust) -> PolicySource:
    """Return what a client asks from now on."""
    return FixedPolicy(trust) if isinstance(trust, TrustPolicy) else trust


def refuse_unaccepted(session: ClientSession, policy: TrustPolicy, now: datetime, *, models: bool) -> None:
    """Return if an open session's enclave would be accepted by `policy` at `now`.

    `models` also asks that the policy, if it names models, accepts one of those served. How old the document is does
    not count: it was fresh when the session was opened, and no key has changed hands since.

    Raises:
        AttestationError: another root is pinned now, the build is not accepted or outside its window, or no model.
        PolicyError: the policy has expired.
    """
    enclave = session.enclave
    policy.refuse_expired(now)
    if enclave.document.root.sha256 not in {root.sha256 for root in policy.roots}:
        raise UntrustedChain("the root of this session's enclave is no longer pinned", code="ROOT_NOT_PINNED")
    policy.match(enclave.document.pcrs, now)
    if models and policy.models:
        policy.accept_any_model((model.model_id, model.version, model.manifest_digest) for model in session.models)
