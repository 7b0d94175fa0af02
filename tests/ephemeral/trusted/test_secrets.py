"""Secrets: nothing prints, compares in variable time, copies, hashes or outlives a wipe."""

import copy
import pickle
import traceback

import pytest

from ephemeral.trusted.secrets import SecretBytes

VALUE = b"canary-2f8a-canary"


def test_no_form_of_printing_shows_a_byte() -> None:
    secret = SecretBytes(VALUE)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, f"{[secret]}"):  # noqa: UP031
        assert "canary" not in shown
        assert VALUE.hex() not in shown


def test_a_traceback_with_local_variables_shows_no_byte() -> None:
    def fail(secret: SecretBytes) -> None:
        raise RuntimeError(secret)

    try:
        fail(SecretBytes(VALUE))
    except RuntimeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "SecretBytes(<redacted>)" in shown
    assert "secret = " in shown


@pytest.mark.parametrize(
    "leak", [pickle.dumps, copy.copy, copy.deepcopy, hash, bytes, vars, list], ids=lambda leak: leak.__name__
)
def test_a_secret_cannot_be_taken_along(leak: object) -> None:
    with pytest.raises(TypeError):
        leak(SecretBytes(VALUE))  # type: ignore[operator]


def test_wiping_overwrites_the_buffer_that_readers_hold() -> None:
    secret = SecretBytes(VALUE)
    view = secret.reveal()
    secret.wipe()
    assert bytes(view) == bytes(len(VALUE))


def test_readers_cannot_write() -> None:
    with pytest.raises(TypeError):
        SecretBytes(VALUE).reveal()[0] = 0


def test_leaving_the_block_wipes_even_after_an_error() -> None:
    secret = SecretBytes(VALUE)
    view = secret.reveal()
    with pytest.raises(KeyError), secret:
        raise KeyError
    assert not any(view)


@pytest.mark.parametrize("use", [SecretBytes.reveal, len, lambda s: s == SecretBytes(b"")], ids=["reveal", "len", "=="])
def test_a_wiped_secret_cannot_be_used(use: object) -> None:
    secret = SecretBytes(VALUE)
    secret.wipe()
    secret.wipe()
    with pytest.raises(RuntimeError, match="wiped"):
        use(secret)  # type: ignore[operator]


def test_two_wiped_secrets_are_not_equal_by_being_empty() -> None:
    first, second = SecretBytes(b"one"), SecretBytes(b"two")
    first.wipe()
    second.wipe()
    with pytest.raises(RuntimeError):
        assert first == second


def test_secrets_are_equal_by_their_bytes() -> None:
    assert SecretBytes(VALUE) == SecretBytes(bytearray(VALUE))
    assert SecretBytes(VALUE) != SecretBytes(VALUE[:-1])
    assert SecretBytes(VALUE) != VALUE


def test_the_caller_s_buffer_is_copied_not_shared() -> None:
    original = bytearray(VALUE)
    secret = SecretBytes(original)
    original[:] = bytes(len(VALUE))
    assert secret.reveal() == VALUE


def test_an_empty_secret_is_not_a_wiped_one() -> None:
    assert len(SecretBytes(b"")) == 0
