"""JSON that a lenient parser would take two ways, or not survive, is refused."""

import pytest

from ephemeral.errors import ModelFormatError
from ephemeral_enclave.strict_json import parse_object, parse_value


def test_ordinary_json_is_read() -> None:
    assert parse_object(b'{"a": [1, 2.5, null, true, "x"]}', "it") == {"a": [1, 2.5, None, True, "x"]}
    assert parse_value(memoryview(b"[1]"), "it") == [1]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"b":{"a":1,"a":1}}',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"{",
        b"",
        b"\xff",
        b"[" * 100_000,
        b"1 2",
    ],
    ids=lambda raw: str(raw[:12]),
)
def test_traps_are_refused(raw: bytes) -> None:
    with pytest.raises(ModelFormatError) as caught:
        parse_value(raw, "it")
    assert caught.value.code == "JSON_MALFORMED"


def test_other_values_are_no_object() -> None:
    with pytest.raises(ModelFormatError):
        parse_object(b"[]", "it")


def test_size_is_capped_before_parsing() -> None:
    with pytest.raises(ModelFormatError) as caught:
        parse_object(b" " * 11, "it", max_bytes=10)
    assert caught.value.code == "JSON_TOO_LARGE"
