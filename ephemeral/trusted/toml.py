"""TOML as our files use it: tables and plain keys, read by the standard parser without its traps.

The parser looks at every prefix of a dotted key, and at every part of each: one key that fills 64 KiB keeps it busy
for minutes. None of our keys is dotted, and a key ends with its line: lines that could hold a long one are refused.
"""

import tomllib
from typing import Final

MAX_DOTS: Final = 16  # in one line, so that labels, versions and addresses have room


class TomlError(ValueError):
    """The text is not TOML of the profile; each parser turns this into its own typed error."""


def parse_toml(text: str) -> dict[str, object]:
    """Parse a text whose size the caller has capped.

    Raises:
        TomlError: not TOML, nested too deeply, a number out of all proportion, or a line with more than 16 dots.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MAX_DOTS:
            raise TomlError(f"line {number} holds more than {MAX_DOTS} dots: no key here is dotted")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise TomlError(str(error)) from None
