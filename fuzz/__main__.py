"""Fuzzes one target: python -m fuzz NAME [libFuzzer options]. Run by tools/fuzz.sh; ends with a crash at a finding."""

import logging
import sys

import atheris


def main(arguments: list[str]) -> None:
    """Instrument our code and what it parses with, then hand the target to libFuzzer."""
    logging.disable()
    with atheris.instrument_imports(
        include=["ephemeral", "ephemeralml", "ephemeral_enclave", "ephemeral_host", "json", "tomllib"],
        enable_loader_override=False,
    ):
        from fuzz.targets import TARGETS  # noqa: PLC0415  # instrumented while it is imported

    target = TARGETS[arguments[1]]
    atheris.Setup([arguments[0], *arguments[2:], str(target.folder)], target.accepts)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
