"""TOML of strangers: what keeps the standard parser busy or makes it raise anything else is one refusal."""

import pytest

from ephemeral.trusted.toml import MAX_DOTS, TomlError, parse_toml

LONG = "a." * 30_000 + "a"


def test_reads_what_our_files_hold() -> None:
    text = 'version = 1\n[[models]]\nmodel_id = "all-MiniLM-L6-v2"\nwhen = 2026-01-01T00:00:00.5Z\n'
    assert parse_toml(text)["version"] == 1


@pytest.mark.parametrize(
    "text",
    [f"{LONG} = 1", f"[{LONG}]", f"x = {{{LONG} = 1}}", f"x = [\n{{{LONG} = 1}}]", f'x = """\n#""" # {LONG}'],
    ids=["key", "table", "inline table", "inline table on a line of its own", "comment"],
)
def test_a_dotted_key_that_takes_minutes_is_refused_unread(text: str) -> None:
    with pytest.raises(TomlError, match="dots"):
        parse_toml(text)


def test_as_many_dots_as_a_label_needs_are_read() -> None:
    assert parse_toml(f'label = "{"." * MAX_DOTS}"')


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 50_000,
        "x = " + "{a=" * 50_000,
        "x = " + "9" * 50_000,
        "x = 2026-13-01",
        "x = 1\nx = 2",
        "\0",
        "x",
    ],
    ids=["deep arrays", "deep tables", "endless number", "month 13", "key twice", "NUL", "no value"],
)
def test_what_is_not_our_toml_is_one_typed_error(text: str) -> None:
    with pytest.raises(TomlError):
        parse_toml(text)
