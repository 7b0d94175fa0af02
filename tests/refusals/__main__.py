"""Writes the refusal pack into the client's package: ``python -m tests.refusals``."""

from tests.refusals.writing import DATA, pack


def main() -> None:
    for name, content in pack().items():
        (DATA / name).write_bytes(content)
        print(f"{len(content):>9,} bytes  {name}")


if __name__ == "__main__":
    main()
